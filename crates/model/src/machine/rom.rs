//! The option ROM of a device: its firmware for the start of a machine.

use serde::{Deserialize, Serialize};

use crate::{Address, Code, Refusal};

/// What a guest sees as the ROM of a device, if it is not the device's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rom {
    /// The function of the host.
    pub device: Address,
    /// Whether the guest sees a ROM at all.
    pub bar: bool,
    /// Whether it is that of a file of the machine.
    pub has_file: bool,
    /// The content of that file, until it is written when the machine is created.
    #[serde(skip)]
    pub content: Vec<u8>,
}

impl Rom {
    /// The least and the most bytes of a file.
    pub const SIZE: std::ops::RangeInclusive<usize> = 512..=(2 << 20);

    /// The bytes with which a ROM begins (PCI Firmware Specification 3.0, 5.1.1).
    pub const SIGNATURE: [u8; 2] = [0x55, 0xaa];

    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.rom", self.device)
    }
}

/// Checks that these bytes can be a ROM.
///
/// # Errors
/// `invalid_request`.
pub fn check_rom(bytes: &[u8]) -> Result<(), Refusal> {
    let invalid =
        |message: String, remedy: &str| Err(Refusal::new(Code::InvalidRequest, message, remedy));
    if !Rom::SIZE.contains(&bytes.len()) {
        let size = crate::shown::bytes(bytes.len() as u64);
        return invalid(
            format!("a ROM of {size} is not accepted"),
            "give the ROM alone, which has 512 B to 2 MB",
        );
    }
    if !bytes.starts_with(&Rom::SIGNATURE) {
        return invalid(
            "the file is not a ROM: it does not begin with 55 aa".into(),
            "some programs write a header before the ROM of an NVIDIA card: remove it, so that the file begins with 55 aa",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rom_begins_with_its_signature() {
        let rom = |begin: &[u8], size: usize| {
            let mut bytes = begin.to_vec();
            bytes.resize(size, 0);
            check_rom(&bytes)
        };
        rom(&[0x55, 0xaa], 512).unwrap();
        rom(&[0x55, 0xaa], 2 << 20).unwrap();
        assert!(rom(&[0x55, 0xaa], 511).is_err() && rom(&[0x55, 0xaa], (2 << 20) + 1).is_err());
        let refusal = rom(b"NVGI", 4096).unwrap_err();
        assert!(refusal.remedy.contains("remove it"), "{refusal:?}");
    }
}
