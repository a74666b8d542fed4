//! The init is alone in the ramdisk: an executable that needs a loader and libraries would only give "No working init found" in the guest.

/// `PT_INTERP` in elf(5): the segment with the path of the loader.
const PT_INTERP: u64 = 3;

/// `e_machine` of this processor.
const MACHINE: u64 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// Checks that an executable is one for this processor, and needs no loader; else says what is wrong with it.
pub fn check(bytes: &[u8]) -> Result<(), &'static str> {
    // 64 bits, little-endian.
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Err("is no executable of 64 bits");
    }
    let field = |offset: u64, width: u64| number(bytes, offset, width).ok_or("is truncated");
    if field(18, 2)? != MACHINE {
        return Err("is for another processor");
    }
    let (table, size, count) = (field(32, 8)?, field(54, 2)?, field(56, 2)?);
    for turn in 0..count {
        let header = table.saturating_add(turn.saturating_mul(size));
        if field(header, 4)? == PT_INTERP {
            return Err("is not static");
        }
    }
    Ok(())
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8], offset: u64, width: u64) -> Option<u64> {
    let from = usize::try_from(offset).ok()?;
    let field = bytes.get(from..from.checked_add(usize::try_from(width).ok()?)?)?;
    Some(field.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An executable with one segment.
    fn elf(machine: u64, segment: u64) -> Vec<u8> {
        let mut bytes = vec![0; 120];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes()[..2]);
        (bytes[32], bytes[54], bytes[56], bytes[64]) = (64, 56, 1, segment.to_le_bytes()[0]);
        bytes
    }

    #[test]
    fn only_a_static_executable_for_this_processor_can_be_the_init() {
        assert_eq!(check(&elf(MACHINE, 1)), Ok(()));
        assert_eq!(check(&elf(MACHINE, PT_INTERP)), Err("is not static"));
        assert_eq!(check(&elf(40, 1)), Err("is for another processor"));
        assert_eq!(check(b"#!/bin/sh"), Err("is no executable of 64 bits"));
        assert_eq!(check(&elf(MACHINE, 1)[..62]), Err("is truncated"));
        // The executable of this test has a loader, as what `cargo build` makes of the guest.
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(check(&own), Err("is not static"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut all = b"\x7fELF\x02\x01".to_vec();
            all.extend(bytes);
            let _ = check(&all);
        }
    }
}
