//! The path of a class device below a PCI function.

use model::Address;

use super::namespace;

/// The end of a device's path in sysfs. A device of a class is in a directory of the class's name, `drm/card0`, unless
/// it belongs to another device of a class, `sound/card0/pcmC0D3p` (`get_device_parent` in drivers/base/core.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassPath<'a> {
    /// The device's name.
    pub name: &'a str,
    /// The name of its directory.
    pub parent: &'a str,
    /// The name of the directory above.
    above: &'a str,
}

impl<'a> ClassPath<'a> {
    /// Parses the part of a path below a function.
    pub fn of(rest: &'a str) -> Self {
        let mut parts = rest.rsplit('/');
        let mut next = || parts.next().unwrap_or_default();
        Self { name: next(), parent: next(), above: next() }
    }

    /// Whether it is below an input device.
    pub fn is_input(&self) -> bool {
        let number = self.parent.strip_prefix("input");
        number.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Whether it is a partition: it is in the directory of its disk, and its name is the disk's with a number added.
    pub fn is_partition(&self) -> bool {
        namespace(self.name).is_none() && !self.parent.is_empty() && {
            let number = self.name.strip_prefix(self.parent);
            number.is_some_and(|rest| rest.ends_with(|end: char| end.is_ascii_digit()))
        }
    }

    /// The directory of a character device below `/dev` (the class's `devnode` in the kernel).
    pub fn dir(&self) -> &'static str {
        match (self.parent, self.above) {
            ("drm", _) => "dri/",
            ("sound", _) | (_, "sound") => "snd/",
            ("vfio-dev", _) => "vfio/devices/",
            ("infiniband_verbs" | "infiniband_mad", _) => "infiniband/",
            _ => "",
        }
    }
}

/// The last PCI function in a sysfs path, and the rest of the path below it.
pub fn below(target: &str) -> Option<(Address, &str)> {
    let mut end = target.len();
    while let Some(head) = target.get(..end) {
        let start = head.rfind('/').map_or(0, |at| at + 1);
        if let Some(address) = head.get(start..).and_then(address_of) {
            return Some((address, target.get(end + 1..).unwrap_or_default()));
        }
        end = start.checked_sub(1)?;
    }
    None
}

/// Parses a name in sysfs as an address. Most names are not addresses, so a cheap test comes first.
pub fn address_of(name: &str) -> Option<Address> {
    let [.., colon, _, _, point, _] = name.as_bytes() else { return None };
    if (colon, point) != (&b':', &b'.') || name.len() < "0000:00:00.0".len() {
        return None;
    }
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_function_in_a_path_is_the_one() {
        let at = |target| below(target).map(|(address, rest)| (address.to_string(), rest));
        let gpu = "../../devices/pci0000:00/0000:00:01.0/0000:01:00.0/drm/card0";
        assert_eq!(at(gpu), Some(("0000:01:00.0".into(), "drm/card0")));
        let vmd = "../../devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/nvme/nvme0";
        assert_eq!(at(vmd), Some(("10000:e0:06.0".into(), "nvme/nvme0")));
        assert_eq!(at("../0000:00:02.0"), Some(("0000:00:02.0".into(), "")));
        for none in ["../../devices/virtual/mem/null", "", "/", "é:00.0", "0000:00:20.0/x"] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    #[test]
    fn partitions_are_distinguished_from_disks_and_namespaces() {
        for part in ["block/sda/sda1", "nvme/nvme0/nvme0n1/nvme0n1p1", "block/vda/vda14"] {
            assert!(ClassPath::of(part).is_partition(), "{part}");
        }
        for whole in ["block/sda", "nvme/nvme0/nvme0n1", "nvme-subsys0/nvme0n2", "sda"] {
            assert!(!ClassPath::of(whole).is_partition(), "{whole}");
        }
    }
}
