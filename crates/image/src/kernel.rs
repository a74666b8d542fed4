//! Checks that a VMM can start a kernel directly: a Linux bzImage, or an ELF image with a PVH entry point.

use std::os::unix::fs::FileExt;

/// Limits for malformed files, larger than in any kernel.
const MOST_SEGMENTS: u64 = 64;
const MOST_NOTE_BYTES: u64 = 1 << 16;

/// Xen's note with the PVH entry point (`XEN_ELFNOTE_PHYS32_ENTRY`, xen/include/public/elfnote.h).
const PHYS32_ENTRY: u32 = 18;

const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_NOTE: u32 = 4;

/// Why a VMM cannot start a kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// No known format.
    #[error("it is neither a bzImage nor an ELF image")]
    Neither,
    /// For another architecture: its `e_machine`.
    #[error("it is an ELF image for another architecture (e_machine {0})")]
    Foreign(u16),
    /// No PVH entry point.
    #[error("it is an ELF image without a PVH entry point")]
    NoPvh,
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Unreadable(String),
}

impl KernelError {
    /// The remedy.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Neither => "use the distribution's vmlinuz, or a vmlinux built with CONFIG_PVH=y",
            Self::Foreign(_) => "use a kernel for x86-64",
            Self::NoPvh => "use the vmlinuz of the same build, or build with CONFIG_PVH=y",
            Self::Unreadable(_) => "check the file",
        }
    }
}

/// Checks that a VMM can start the kernel in a file.
///
/// # Errors
/// Why it cannot.
pub fn check(file: &impl FileExt) -> Result<(), KernelError> {
    if is_bzimage(file) { Ok(()) } else { check_elf(file) }
}

/// Checks the boot sector's signature and the setup header's magic (Documentation/arch/x86/boot.rst).
fn is_bzimage(file: &impl FileExt) -> bool {
    let mut setup = [0; 8];
    file.read_exact_at(&mut setup, 0x1fe).is_ok()
        && setup[..2] == [0x55, 0xaa]
        && setup[4..] == *b"HdrS"
}

/// Finds the PVH note in the program headers, like QEMU's loader.
fn check_elf(file: &impl FileExt) -> Result<(), KernelError> {
    let mut ident = [0; 20];
    let begun = file.read_exact_at(&mut ident, 0);
    if begun.is_err() || !ident.starts_with(b"\x7fELF") || ident[5] != 1 {
        return Err(KernelError::Neither);
    }
    let machine = u16::from_le_bytes([ident[18], ident[19]]);
    let wide = ident[4] == 2;
    if machine != EM_X86_64 && machine != EM_386 {
        return Err(KernelError::Foreign(machine));
    }
    let number = |offset: u64, width: usize| number(file, offset, width);
    // The offsets of e_phoff, e_phentsize and e_phnum differ between ELF32 and ELF64.
    let (table, size, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    for turn in 0..count.min(MOST_SEGMENTS) {
        let header = table.saturating_add(turn.saturating_mul(size));
        if number(header, 4)? != u64::from(PT_NOTE) {
            continue;
        }
        let (offset, length) = if wide {
            (number(header.saturating_add(8), 8)?, number(header.saturating_add(32), 8)?)
        } else {
            (number(header.saturating_add(4), 4)?, number(header.saturating_add(16), 4)?)
        };
        if has_pvh_note(file, offset, length.min(MOST_NOTE_BYTES))? {
            return Ok(());
        }
    }
    Err(KernelError::NoPvh)
}

/// Walks the notes of one segment: name size, descriptor size, type, then both padded to four bytes.
fn has_pvh_note(file: &impl FileExt, offset: u64, length: u64) -> Result<bool, KernelError> {
    let end = offset.saturating_add(length);
    let mut at = offset;
    while at.saturating_add(12) <= end {
        let name = number(file, at, 4)?;
        let descriptor = number(file, at + 4, 4)?;
        let kind = number(file, at + 8, 4)?;
        // "Xen" with its terminating zero.
        if kind == u64::from(PHYS32_ENTRY) && name == 4 && number(file, at + 12, 4)? == 0x006e_6558
        {
            return Ok(true);
        }
        at += 12 + name.next_multiple_of(4) + descriptor.next_multiple_of(4);
    }
    Ok(false)
}

/// A little-endian number of up to eight bytes.
fn number(file: &impl FileExt, offset: u64, width: usize) -> Result<u64, KernelError> {
    let mut bytes = [0; 8];
    let wanted = bytes.get_mut(..width).unwrap_or_default();
    file.read_exact_at(wanted, offset)
        .map_err(|error| KernelError::Unreadable(error.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io;

    struct Bytes(Vec<u8>);

    impl FileExt for Bytes {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let rest = self.0.get(offset..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn elf(note_type: u32, machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 160];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
        bytes[64..68].copy_from_slice(&PT_NOTE.to_le_bytes());
        bytes[72..80].copy_from_slice(&128u64.to_le_bytes());
        bytes[96..104].copy_from_slice(&24u64.to_le_bytes());
        bytes[128..132].copy_from_slice(&4u32.to_le_bytes());
        bytes[132..136].copy_from_slice(&4u32.to_le_bytes());
        bytes[136..140].copy_from_slice(&note_type.to_le_bytes());
        bytes[140..144].copy_from_slice(b"Xen\0");
        bytes
    }

    #[test]
    fn a_bzimage_and_an_elf_with_pvh_are_kernels() {
        let mut bzimage = vec![0; 1024];
        bzimage[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        bzimage[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(check(&Bytes(bzimage)), Ok(()));
        assert_eq!(check(&Bytes(elf(PHYS32_ENTRY, EM_X86_64))), Ok(()));
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        assert_eq!(check(&Bytes(b"#!/bin/sh\n".to_vec())), Err(KernelError::Neither));
        assert_eq!(check(&Bytes(elf(17, EM_X86_64))), Err(KernelError::NoPvh));
        assert_eq!(check(&Bytes(elf(PHYS32_ENTRY, 183))), Err(KernelError::Foreign(183)));
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = check(&Bytes(bytes));
        }

        #[test]
        fn no_change_of_an_elf_panics(changes in proptest::collection::vec((6usize..160, any::<u8>()), 0..16)) {
            let mut bytes = elf(PHYS32_ENTRY, EM_X86_64);
            for (offset, value) in changes {
                bytes[offset] = value;
            }
            let _ = check(&Bytes(bytes));
        }
    }
}
