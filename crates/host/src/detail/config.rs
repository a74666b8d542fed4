//! PCI configuration space: registers and the lists of capabilities. Reading ends for any content.

/// The size of configuration space, with the extended part (PCI Express Base Specification, 7.2).
pub const WHOLE: usize = 4096;

/// Where extended capabilities begin.
const EXTENDED: usize = 0x100;

// include/uapi/linux/pci_regs.h
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 0x10;
const HEADER_TYPE: usize = 0x0e;
const CARDBUS: u8 = 2;
const CAPABILITIES: usize = 0x34;
const CARDBUS_CAPABILITIES: usize = 0x14;

/// The largest number of capabilities: four bytes each after the header (`PCI_FIND_CAP_TTL`).
const MOST: usize = 48;
const MOST_EXTENDED: usize = (WHOLE - EXTENDED) / 8;

/// The readable part of a function's configuration space.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    bytes: &'a [u8],
}

/// One capability: its id and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its id.
    pub id: u16,
    /// Its offset in bytes.
    pub at: usize,
}

impl<'a> Config<'a> {
    /// From the bytes that were read: 64 without root, 256 or 4096 with it.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether only the header could be read, as without root (`pci_read_config` in drivers/pci/pci-sysfs.c).
    pub const fn is_header_only(self) -> bool {
        self.bytes.len() <= 64
    }

    /// Whether it reads all ones: the device does not answer. The ids alone do not show that: a virtual function has
    /// all ones in them (Single Root I/O Virtualization and Sharing Specification, 3.4.1.1).
    pub fn is_gone(self) -> bool {
        self.dword(0) == Some(u32::MAX) && self.dword(4) == Some(u32::MAX)
    }

    /// An 8-bit register.
    pub fn byte(self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// A 16-bit register.
    pub fn word(self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    }

    /// A 32-bit register.
    pub fn dword(self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The capabilities in the first 256 bytes, in their order.
    pub fn capabilities(self) -> Vec<Capability> {
        let mut found: Vec<Capability> = Vec::new();
        let listed = self.word(STATUS).is_some_and(|status| status & STATUS_CAPABILITIES != 0);
        let cardbus = self.byte(HEADER_TYPE).is_some_and(|kind| kind & 0x7f == CARDBUS);
        let first = if cardbus { CARDBUS_CAPABILITIES } else { CAPABILITIES };
        let mut next = self.byte(first).filter(|_| listed);
        while let Some(at) = next.map(|at| usize::from(at & !3)) {
            // Below 0x40 is the header; a circular list must end.
            if at < 0x40 || found.len() == MOST || found.iter().any(|other| other.at == at) {
                break;
            }
            let Some(id) = self.byte(at).filter(|id| *id != u8::MAX) else { break };
            found.push(Capability { id: id.into(), at });
            next = self.byte(at + 1);
        }
        found
    }

    /// The extended capabilities, in their order.
    pub fn extended_capabilities(self) -> Vec<Capability> {
        let mut found: Vec<Capability> = Vec::new();
        let mut at = EXTENDED;
        while let Some(header) = self.dword(at).filter(|header| !matches!(header, 0 | &u32::MAX)) {
            if found.len() == MOST_EXTENDED || found.iter().any(|other| other.at == at) {
                break;
            }
            let [low, high, ..] = header.to_le_bytes();
            found.push(Capability { id: u16::from_le_bytes([low, high]), at });
            at = usize::try_from(header >> 20 & 0xffc).unwrap_or_default();
            if at < EXTENDED {
                break;
            }
        }
        found
    }

    /// The first capability with this id.
    pub fn capability(self, id: u16) -> Option<usize> {
        self.capabilities().into_iter().find(|one| one.id == id).map(|one| one.at)
    }

    /// The first extended capability with this id.
    pub fn extended_capability(self, id: u16) -> Option<usize> {
        self.extended_capabilities().into_iter().find(|one| one.id == id).map(|one| one.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(entries: &[(usize, [u8; 2])]) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        bytes[STATUS] = 0x10;
        bytes[CAPABILITIES] = 0x40;
        for (at, entry) in entries {
            bytes[*at..at + 2].copy_from_slice(entry);
        }
        bytes
    }

    #[test]
    fn lists_are_followed_and_circles_end() {
        let ids = |bytes: &[u8]| -> Vec<u16> {
            Config::new(bytes).capabilities().iter().map(|one| one.id).collect()
        };
        assert_eq!(
            ids(&list(&[(0x40, [1, 0x50]), (0x50, [5, 0x60]), (0x60, [0x10, 0])])),
            [1, 5, 16]
        );
        assert_eq!(ids(&list(&[(0x40, [1, 0x50]), (0x50, [5, 0x40])])), [1, 5]);
        assert_eq!(ids(&list(&[(0x40, [1, 0x20])])), [1]);
        assert_eq!(ids(&list(&[(0x40, [0xff, 0x50])])), [0_u16; 0]);
        assert_eq!(ids(&[0xff; 64]), [0_u16; 0]);
        assert_eq!(ids(&[]), [0_u16; 0]);
    }

    #[test]
    fn a_function_without_a_list_has_no_capabilities() {
        let mut bytes = list(&[(0x40, [1, 0])]);
        bytes[STATUS] = 0;
        assert!(Config::new(&bytes).capabilities().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..WHOLE)) {
            let config = Config::new(&bytes);
            prop_assert!(config.capabilities().len() <= MOST);
            prop_assert!(config.extended_capabilities().len() <= MOST_EXTENDED);
        }

        #[test]
        fn any_list_ends(next in proptest::collection::vec((0u32..0x1000, 1u32..0xffff), 960)) {
            let headers = next.iter().flat_map(|(next, id)| (next << 20 | id).to_le_bytes());
            let bytes: Vec<u8> = std::iter::repeat_n(0x10, EXTENDED).chain(headers).collect();
            let found = Config::new(&bytes).extended_capabilities();
            prop_assert!(!found.is_empty() && found.len() <= MOST_EXTENDED);
        }
    }
}
