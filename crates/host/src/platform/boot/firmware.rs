//! What the boot loader told the firmware, in variables of the Boot Loader Interface
//! (systemd.io/BOOT_LOADER_INTERFACE).

use crate::root::Root;

const VARIABLES: &str = "sys/firmware/efi/efivars";
const INTERFACE: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// The firmware sets this one at each boot (UEFI specification, 3.3): if it is there, variables can be read.
const BOOT_CURRENT: &str =
    "sys/firmware/efi/efivars/BootCurrent-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// What the firmware was told.
#[derive(Debug)]
pub struct Firmware {
    /// The name of the loader.
    pub said: Said,
    /// The entry that was booted, such as `arch.conf` or `arch-linux.efi`.
    pub entry: Option<String>,
    /// Whether a unified kernel image with systemd's stub was started.
    pub stub: bool,
}

/// Who booted the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Systemd,
    Limine,
    Refind,
    Grub,
    /// A loader with another name.
    Other,
    /// Variables can be read, and no loader gave a name: GRUB before 2.14, and others, but not systemd-boot.
    Nothing,
    /// No variables can be read: no UEFI, or not in this recording.
    Unknown,
}

impl Firmware {
    pub fn read(root: &Root) -> Self {
        let stub = variable(root, "StubInfo").is_some();
        let said = match variable(root, "LoaderInfo") {
            Some(name) => by_name(&name),
            // systemd's stub without a boot loader.
            None if stub => Said::Systemd,
            None if root.exists(BOOT_CURRENT) => Said::Nothing,
            None => Said::Unknown,
        };
        let entry = variable(root, "LoaderEntrySelected").filter(|name| !name.is_empty());
        Self { said, entry, stub }
    }

    /// Whether the entry that was booted is a unified kernel image; `None` if not known.
    pub fn is_unified(&self) -> Option<bool> {
        match &self.entry {
            Some(entry) => Some(entry.to_ascii_lowercase().ends_with(".efi")),
            None => self.stub.then_some(true),
        }
    }
}

fn by_name(name: &str) -> Said {
    let name = name.to_ascii_lowercase();
    let is = |start: &&str| name.starts_with(*start);
    if ["systemd-boot", "systemd-stub", "gummiboot"].iter().any(is) {
        Said::Systemd
    } else if is(&"limine") {
        Said::Limine
    } else if is(&"refind") {
        Said::Refind
    } else if is(&"grub") {
        Said::Grub
    } else {
        Said::Other
    }
}

/// A variable's text: UTF-16 after four bytes of attributes (Documentation/filesystems/efivarfs.rst).
fn variable(root: &Root, name: &str) -> Option<String> {
    let bytes = root.bytes(&format!("{VARIABLES}/{name}-{INTERFACE}"), 4096).ok()?;
    let units = bytes.get(4..)?.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    let text: String =
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Some(text.trim_end_matches('\0').to_owned())
}
