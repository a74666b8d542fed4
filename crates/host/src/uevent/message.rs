//! One uevent: `ACTION@DEVPATH`, then `KEY=VALUE` for each property, each ended by a zero byte (`kobject_uevent_env` in
//! lib/kobject_uevent.c).

use model::{Address, ErrorStage};

/// One uevent about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `bind`, `unbind`, `change`, `move`, ... (`kobject_actions` in lib/kobject_uevent.c).
    pub action: String,
    /// The object's path below `/sys`, with a leading slash: `/devices/pci0000:00/0000:00:02.0/net/eth0`.
    pub path: String,
    /// Its path before a `move`, for instance of a renamed network interface.
    pub old_path: Option<String>,
    /// Its subsystem: `pci`, `net`, `block`, `vfio-dev`, ...
    pub subsystem: String,
    /// Its kind within the subsystem, if any: `disk`, `partition`.
    pub kind: Option<String>,
    /// Major and minor number, if it has a device node.
    pub number: Option<(u32, u32)>,
    /// The stage of the kernel's PCIe error recovery for it.
    pub error: Option<ErrorStage>,
}

impl Uevent {
    /// Parses a message; `None` if it does not have the kernel's format. Accepts any bytes.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut lines = message.split(|byte| *byte == 0).map(std::str::from_utf8);
        let (action, path) = lines.next()?.ok()?.split_once('@')?;
        let valid = |byte: u8| byte.is_ascii_lowercase();
        if action.is_empty() || !action.bytes().all(valid) || !path.starts_with('/') {
            return None;
        }
        let mut event = Self {
            action: action.to_owned(),
            path: path.to_owned(),
            old_path: None,
            subsystem: String::new(),
            kind: None,
            number: None,
            error: None,
        };
        let (mut major, mut minor) = (None, None);
        // A property that is not UTF-8, such as a partition's label, is skipped.
        for (key, value) in lines.filter_map(|line| line.ok()?.split_once('=')) {
            match key {
                "SUBSYSTEM" => event.subsystem = value.to_owned(),
                "DEVPATH_OLD" => event.old_path = Some(value.to_owned()),
                "DEVTYPE" => event.kind = Some(value.to_owned()),
                // `pci_uevent_ers` in drivers/pci/pci-driver.c.
                "ERROR_EVENT" => {
                    event.error = match value {
                        "BEGIN_RECOVERY" => Some(ErrorStage::Recovering),
                        "SUCCESSFUL_RECOVERY" => Some(ErrorStage::Recovered),
                        "FAILED_RECOVERY" => Some(ErrorStage::Failed),
                        _ => None,
                    }
                }
                "MAJOR" => major = value.parse().ok(),
                "MINOR" => minor = value.parse().ok(),
                _ => {}
            }
        }
        event.number = major.zip(minor);
        (!event.subsystem.is_empty()).then_some(event)
    }

    /// The PCI function that the object is or belongs to: the last one in its path. A drive behind VMD is below two
    /// functions, and belongs to the second.
    #[must_use]
    pub fn function(&self) -> Option<Address> {
        // `0000:00:02.0:pcie001` is a port's service, not a function: the address must be the whole component.
        self.path.rsplit('/').find_map(|part| part.parse().ok())
    }

    /// The object's own name: the last component of its path.
    #[must_use]
    pub fn name(&self) -> &str {
        last(&self.path)
    }

    /// The name that the object had before a `move`.
    #[must_use]
    pub fn old_name(&self) -> Option<&str> {
        self.old_path.as_deref().map(last)
    }
}

/// The last component of a path.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(lines: &[&str]) -> Vec<u8> {
        lines.iter().flat_map(|line| line.bytes().chain([0])).collect()
    }

    #[test]
    fn a_message_is_read() {
        let bytes = message(&[
            "move@/devices/pci0000:00/0000:00:02.0/0000:03:00.0/net/lan0",
            "ACTION=move",
            "DEVPATH=/devices/pci0000:00/0000:00:02.0/0000:03:00.0/net/lan0",
            "SUBSYSTEM=net",
            "DEVPATH_OLD=/devices/pci0000:00/0000:00:02.0/0000:03:00.0/net/eth0",
            "INTERFACE=lan0",
            "SEQNUM=2174",
        ]);
        let event = Uevent::parse(&bytes).unwrap();
        let nic = "0000:03:00.0".parse().ok();
        assert_eq!((event.action.as_str(), event.subsystem.as_str()), ("move", "net"));
        assert_eq!((event.name(), event.old_name()), ("lan0", Some("eth0")));
        assert_eq!((event.function(), event.number, event.kind), (nic, None, None));
    }

    #[test]
    fn the_stage_of_an_error_is_read() {
        let read = |event: &str| {
            let at = "change@/devices/pci0000:00/0000:00:02.0";
            Uevent::parse(&message(&[at, "SUBSYSTEM=pci", event, "DEVICE_ONLINE=0"])).unwrap().error
        };
        assert_eq!(read("ERROR_EVENT=BEGIN_RECOVERY"), Some(ErrorStage::Recovering));
        assert_eq!(read("ERROR_EVENT=SUCCESSFUL_RECOVERY"), Some(ErrorStage::Recovered));
        assert_eq!(read("ERROR_EVENT=FAILED_RECOVERY"), Some(ErrorStage::Failed));
        assert_eq!(read("ERROR_EVENT=ANOTHER"), None);
    }

    #[test]
    fn a_device_node_has_its_number_and_kind() {
        let drive = "add@/devices/pci0000:00/0000:04:00.0/nvme/nvme0/nvme0n1";
        let read = |lines: &[&str]| {
            let lines = [&[drive, "SUBSYSTEM=block"], lines].concat();
            let event = Uevent::parse(&message(&lines)).unwrap();
            (event.number, event.kind)
        };
        let disk = Some("disk".to_owned());
        assert_eq!(read(&["MAJOR=259", "MINOR=0", "DEVTYPE=disk"]), (Some((259, 0)), disk));
        assert_eq!(read(&["MAJOR=259"]), (None, None));
        assert_eq!(read(&["MAJOR=-1", "MINOR=99999999999"]), (None, None));
    }

    #[test]
    fn the_function_is_the_last_in_the_path() {
        let of = |path: &str| {
            let bytes = message(&[&format!("add@{path}"), "SUBSYSTEM=x"]);
            Uevent::parse(&bytes).unwrap().function().map(|address| address.to_string())
        };
        let drive = "/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0";
        assert_eq!(of(drive).as_deref(), Some("10000:e1:00.0"));
        assert_eq!(of(&format!("{drive}/nvme/nvme0")).as_deref(), Some("10000:e1:00.0"));
        assert_eq!(
            of("/devices/pci0000:00/0000:00:1c.0/0000:00:1c.0:pcie001").as_deref(),
            Some("0000:00:1c.0")
        );
        assert_eq!(of("/devices/virtual/vfio/12"), None);
        assert_eq!(of("/bus/pci/drivers/vfio-pci"), None);
    }

    #[test]
    fn other_messages_are_dropped() {
        // udevd sends `libudev` and a binary header to its own group.
        let mut udev = b"libudev\0\xfe\xed\xca\xfe".to_vec();
        udev.extend(message(&["ACTION=add", "SUBSYSTEM=pci"]));
        for bytes in [
            udev,
            Vec::new(),
            message(&["add@relative", "SUBSYSTEM=pci"]),
            message(&["@/devices/x", "SUBSYSTEM=pci"]),
            message(&["Add it@/devices/x", "SUBSYSTEM=pci"]),
            message(&["add@/devices/x", "ACTION=add"]),
        ] {
            assert_eq!(Uevent::parse(&bytes), None, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn one_malformed_property_is_skipped() {
        let mut bytes = message(&["change@/devices/pci0000:00/0000:00:02.0"]);
        bytes.extend(b"ID_LABEL=\xff\xfe\0=\0NOTHING\0");
        bytes.extend(message(&["SUBSYSTEM=pci"]));
        assert_eq!(Uevent::parse(&bytes).unwrap().subsystem, "pci");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(event) = Uevent::parse(&bytes) {
                let _ = (event.function(), event.old_name(), event.name().len());
            }
        }

        #[test]
        fn nothing_like_a_message_panics(text in "[a-z]{0,6}@?/(devices|[0-9a-f:./]{0,30}|\0|=|SUBSYSTEM=|.){0,12}") {
            if let Some(event) = Uevent::parse(text.as_bytes()) {
                let _ = (event.function(), event.old_name(), event.name().len());
                prop_assert!(event.path.starts_with('/') && !event.subsystem.is_empty());
            }
        }
    }
}
