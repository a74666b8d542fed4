//! Owners and modes of files in an ext4 file system that mke2fs made.
//!
//! mke2fs copies a tree of files, with what stat(2) says of each. It runs as a user of its own, without privileges, so that tree has
//! modes that let it read everything, and each file's group is the number of an entry of a table: [`Marks`]. Here the
//! true modes and groups are written to the inodes. The layout is that of the kernel's
//! Documentation/filesystems/ext4/ (superblock, group descriptors, inodes, checksums).

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Where the superblock is, and its length.
const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_LENGTH: usize = 1024;

/// The number that the superblock has.
const MAGIC: u16 = 0xef53;

/// Features of the superblock.
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// A group's inode table was never written.
const INODE_UNINIT: u16 = 1;

/// The first 128 bytes of an inode, which every file system has.
const SHORT_INODE: usize = 128;

/// The bits of a mode that are permissions.
const PERMISSIONS: u16 = 0o7777;

/// The true modes and groups of files whose group is the number of an entry, counted from 1.
#[derive(Debug, Default)]
pub struct Marks {
    entries: Vec<(u16, u32)>,
    numbers: HashMap<(u16, u32), u32>,
}

impl Marks {
    /// The group that a file with this mode and group gets meanwhile.
    pub fn of(&mut self, mode: u32, group: u32) -> u32 {
        let entry = (u16::try_from(mode & u32::from(PERMISSIONS)).unwrap_or_default(), group);
        let Self { entries, numbers } = self;
        *numbers.entry(entry).or_insert_with(|| {
            entries.push(entry);
            u32::try_from(entries.len()).unwrap_or(u32::MAX)
        })
    }

    fn entry(&self, number: u32) -> Option<(u16, u32)> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.entries.get(index).copied()
    }

    /// Writes the true modes and groups to the inodes of a file system. Inodes that mke2fs itself made have the group 0, which is
    /// no number of an entry.
    ///
    /// # Errors
    /// If it is no such file system, or cannot be read or written.
    pub fn restore(&self, disk: &File) -> io::Result<()> {
        let layout = Layout::read(disk)?;
        for group in 0..layout.groups {
            let (table, count) = layout.table(disk, group)?;
            if count == 0 {
                continue;
            }
            let length = u64::from(count) * layout.inode_size as u64;
            let mut bytes = vec![0; usize::try_from(length).map_err(|_| damaged())?];
            disk.read_exact_at(&mut bytes, table)?;
            let mut is_changed = false;
            for (number, inode) in (0u32..).zip(bytes.chunks_exact_mut(layout.inode_size)) {
                let number = group * layout.inodes_per_group + number + 1;
                if number >= layout.first_inode {
                    is_changed |= self.restore_one(&layout, number, inode).ok_or_else(damaged)?;
                }
            }
            if is_changed {
                disk.write_all_at(&bytes, table)?;
            }
        }
        Ok(())
    }

    /// Whether an inode was changed; `None` if it is too short.
    fn restore_one(&self, layout: &Layout, number: u32, inode: &mut [u8]) -> Option<bool> {
        if u16_at(inode, 26)? == 0 {
            // No link leads to it: it is free.
            return Some(false);
        }
        let group = u32::from(u16_at(inode, 24)?) | u32::from(u16_at(inode, 122)?) << 16;
        let Some((mode, group)) = self.entry(group) else { return Some(false) };
        let kind = u16_at(inode, 0)? & !PERMISSIONS;
        put(inode, 0, &(kind | mode).to_le_bytes())?;
        let [a, b, c, d] = group.to_le_bytes();
        put(inode, 24, &[a, b])?;
        put(inode, 122, &[c, d])?;
        if let Some(seed) = layout.checksum_seed {
            checksum(seed, number, inode)?;
        }
        Some(true)
    }
}

/// Where the inodes are.
struct Layout {
    block: u64,
    descriptors: u64,
    descriptor_size: u64,
    groups: u32,
    inodes_per_group: u32,
    inode_size: usize,
    first_inode: u32,
    /// The seed of checksums, if inodes have one.
    checksum_seed: Option<u32>,
}

impl Layout {
    fn read(disk: &File) -> io::Result<Self> {
        let mut bytes = [0; SUPERBLOCK_LENGTH];
        disk.read_exact_at(&mut bytes, SUPERBLOCK)?;
        let layout = Self::parse(&bytes).ok_or_else(damaged)?;
        // As many inodes as it can have bytes for, so that a wrong number is no endless loop.
        let most = disk.metadata()?.len() / SHORT_INODE as u64;
        if u64::from(layout.groups) * u64::from(layout.inodes_per_group) > most {
            return Err(damaged());
        }
        Ok(layout)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let inodes = u32_at(bytes, 0)?;
        let block = 1024u64.checked_shl(u32_at(bytes, 24)?).filter(|size| *size <= 65536)?;
        let inodes_per_group = u32_at(bytes, 40)?;
        let (incompat, ro_compat) = (u32_at(bytes, 96)?, u32_at(bytes, 100)?);
        let inode_size = usize::from(u16_at(bytes, 88)?);
        let is_known = u16_at(bytes, 56)? == MAGIC
            && incompat & INCOMPAT_META_BG == 0
            && inode_size.is_power_of_two()
            && (SHORT_INODE..=4096).contains(&inode_size)
            && inodes_per_group > 0
            && inodes.is_multiple_of(inodes_per_group);
        if !is_known {
            return None;
        }
        let checksum_seed = match (ro_compat & RO_COMPAT_METADATA_CSUM, incompat) {
            (0, _) => None,
            (_, some) if some & INCOMPAT_CSUM_SEED != 0 => Some(u32_at(bytes, 624)?),
            _ => Some(crc(u32::MAX, bytes.get(104..120)?)),
        };
        let descriptor_size =
            if incompat & INCOMPAT_64BIT != 0 { u64::from(u16_at(bytes, 254)?) } else { 32 };
        Some(Self {
            block,
            descriptors: (u64::from(u32_at(bytes, 20)?) + 1) * block,
            descriptor_size: Some(descriptor_size).filter(|size| (32..=1024).contains(size))?,
            groups: inodes / inodes_per_group,
            inodes_per_group,
            inode_size,
            first_inode: u32_at(bytes, 84)?,
            checksum_seed,
        })
    }

    /// Where the inode table of a group begins, and how many of its inodes were used.
    fn table(&self, disk: &File, group: u32) -> io::Result<(u64, u32)> {
        let mut bytes = [0; 64];
        let length = if self.descriptor_size >= 64 { 64 } else { 32 };
        let descriptor = bytes.get_mut(..length).ok_or_else(damaged)?;
        disk.read_exact_at(descriptor, self.descriptors + u64::from(group) * self.descriptor_size)?;
        self.parse_table(&bytes).ok_or_else(damaged)
    }

    fn parse_table(&self, bytes: &[u8]) -> Option<(u64, u32)> {
        let table = u64::from(u32_at(bytes, 8)?) | u64::from(u32_at(bytes, 40)?) << 32;
        if u16_at(bytes, 18)? & INODE_UNINIT != 0 {
            return Some((0, 0));
        }
        let unused = u32::from(u16_at(bytes, 28)?) | u32::from(u16_at(bytes, 50)?) << 16;
        Some((table.checked_mul(self.block)?, self.inodes_per_group.checked_sub(unused)?))
    }
}

/// Writes the checksum of an inode.
fn checksum(seed: u32, number: u32, inode: &mut [u8]) -> Option<()> {
    put(inode, 124, &[0; 2])?;
    // The upper half is in the part that only longer inodes have.
    let has_upper = inode.len() > SHORT_INODE && u16_at(inode, 128)? >= 4;
    if has_upper {
        put(inode, 130, &[0; 2])?;
    }
    let seed = crc(crc(seed, &number.to_le_bytes()), inode.get(100..104)?);
    let [a, b, c, d] = crc(seed, inode).to_le_bytes();
    put(inode, 124, &[a, b])?;
    if has_upper {
        put(inode, 130, &[c, d])?;
    }
    Some(())
}

/// CRC-32C as ext4 counts it: without inverting the result.
fn crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes.get_mut(at..at.checked_add(value.len())?)?.copy_from_slice(value);
    Some(())
}

fn damaged() -> io::Error {
    io::Error::other("it is not the file system that was asked for")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_modes_and_groups_have_one_mark() {
        let mut marks = Marks::default();
        assert_eq!(marks.of(0o600, 0), 1);
        assert_eq!(marks.of(0o100_644, 70_000), 2);
        assert_eq!(marks.of(0o600, 0), 1);
        assert_eq!(marks.entry(2), Some((0o644, 70_000)));
        assert_eq!((marks.entry(0), marks.entry(3)), (None, None));
    }

    proptest! {
        #[test]
        fn no_superblock_makes_it_panic(
            mut start in proptest::collection::vec(any::<u8>(), 4096),
            shift in 0u8..8,
            small in 0u8..4,
        ) {
            start[1024 + 56..1024 + 58].copy_from_slice(&MAGIC.to_le_bytes());
            start[1024 + 24..1024 + 28].copy_from_slice(&[shift, 0, 0, 0]);
            start[1024 + 88..1024 + 90].copy_from_slice(&256u16.to_le_bytes());
            start[1024..1024 + 4].copy_from_slice(&[small * 8, 0, 0, 0]);
            start[1024 + 40..1024 + 44].copy_from_slice(&[8, 0, 0, 0]);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&start).unwrap();
            file.set_len(1 << 20).unwrap();
            let mut marks = Marks::default();
            marks.of(0o600, 1);
            let _ = marks.restore(&file);
        }
    }
}
