//! Signatures of file systems, volume managers and partition tables, as libblkid knows them (util-linux, libblkid/src/).
//!
//! A device with one of them has data of the host. Other bytes that are not zero are not called data: a disk that was erased with
//! random bytes, or had a file system that is no longer known, has them too.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What can be read at any place.
pub trait Bytes {
    /// Reads at an offset; less than the buffer at the end.
    ///
    /// # Errors
    /// The kernel's.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Bytes for File {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl Bytes for [u8] {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Fixed bytes at a fixed place from the beginning.
const AT: &[(&str, u64, &[u8])] = &[
    ("an ext2, ext3 or ext4 file system", 0x438, b"\x53\xef"),
    ("an XFS file system", 0, b"XFSB"),
    ("a btrfs file system", 0x10040, b"_BHRfS_M"),
    ("a FAT file system", 0x36, b"FAT12   "),
    ("a FAT file system", 0x36, b"FAT16   "),
    ("a FAT file system", 0x52, b"FAT32   "),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("an NTFS file system", 3, b"NTFS    "),
    ("a BitLocker volume", 3, b"-FVE-FS-"),
    ("an F2FS file system", 0x400, b"\x10\x20\xf5\xf2"),
    ("a JFS file system", 0x8000, b"JFS1"),
    ("a ReiserFS file system", 0x10034, b"ReIsEr"),
    ("a NILFS2 file system", 0x406, b"\x34\x34"),
    ("an HFS+ file system", 0x400, b"H+\x00\x04"),
    ("an HFS+ file system", 0x400, b"HX\x00\x05"),
    ("an APFS container", 32, b"NXSB"),
    ("a GFS2 file system", 0x10000, b"\x01\x16\x19\x70"),
    ("an OCFS2 file system", 0x800, b"OCFSV2"),
    ("an OCFS2 file system", 0x1000, b"OCFSV2"),
    ("an OCFS2 file system", 0x2000, b"OCFSV2"),
    ("an ISO 9660 file system", 0x8001, b"CD001"),
    ("a UDF file system", 0x8001, b"BEA01"),
    ("a squashfs file system", 0, b"hsqs"),
    ("an EROFS file system", 0x400, b"\xe2\xe1\xf5\xe0"),
    (
        "a bcache device",
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    (
        "a bcachefs file system",
        0x1018,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
    ),
    ("LUKS encryption", 0, b"LUKS\xba\xbe"),
    ("an LVM physical volume", 0x018, b"LVM2 001"),
    ("an LVM physical volume", 0x218, b"LVM2 001"),
    ("an LVM physical volume", 0x418, b"LVM2 001"),
    ("an LVM physical volume", 0x618, b"LVM2 001"),
    ("a member of a Linux RAID", 0, b"\xfc\x4e\x2b\xa9"),
    ("a member of a Linux RAID", 0x1000, b"\xfc\x4e\x2b\xa9"),
    ("a VMFS volume", MIB, b"\x0d\xd0\x01\xc0"),
    ("a Ceph BlueStore device", 0, b"bluestore block device"),
    ("an Oracle ASM disk", 32, b"ORCLDISK"),
    ("a Stratis device", 0x204, b"!Stra0tis\x86\xff\x02^\x41rh"),
    ("a VDO volume", 0, b"dmvdo001"),
    ("a GPT partition table", 512, b"EFI PART"),
    ("a GPT partition table", 4096, b"EFI PART"),
];

/// Where the second header of LUKS2 can be (cryptsetup, `LUKS2_HDR2_OFFSETS`).
const SECOND_LUKS: [u64; 9] =
    [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];

/// The signatures on a device of this size, each once.
///
/// # Errors
/// The kernel's.
pub fn find<B: Bytes + ?Sized>(
    device: &B,
    size: u64,
    sector: u32,
) -> io::Result<Vec<&'static str>> {
    let reader = Reader { device, size };
    let mut found: Vec<&'static str> = Vec::new();
    for (what, offset, magic) in AT {
        if reader.is_at(*offset, magic)? {
            found.push(what);
        }
    }
    for offset in SECOND_LUKS {
        if reader.is_at(offset, b"SKUL\xba\xbe")? {
            found.push("LUKS encryption");
        }
    }
    if reader.is_swap()? {
        found.push("swap space");
    }
    if reader.is_raid_at_end()? {
        found.push("a member of a Linux RAID");
    }
    if reader.is_firmware_raid()? {
        found.push("a member of a firmware RAID");
    }
    if reader.is_drbd()? {
        found.push("a DRBD device");
    }
    if reader.is_zfs()? {
        found.push("a member of a ZFS pool");
    }
    if reader.before_end(u64::from(sector), b"EFI PART")? {
        found.push("a GPT partition table");
    }
    if reader.is_mbr()? {
        found.push("an MBR partition table");
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|what| seen.insert(*what));
    Ok(found)
}

/// Whether the first and the last mebibyte, where nearly all signatures are, have only zeros.
///
/// # Errors
/// The kernel's.
pub fn is_blank<B: Bytes + ?Sized>(device: &B, size: u64) -> io::Result<bool> {
    const CHUNK: usize = 1 << 20;
    let mut buffer = vec![0; CHUNK];
    for offset in [0, size.saturating_sub(MIB)] {
        let count = device.read(offset, &mut buffer)?;
        if buffer.get(..count).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Reader<'a, B: Bytes + ?Sized> {
    device: &'a B,
    size: u64,
}

impl<B: Bytes + ?Sized> Reader<'_, B> {
    fn bytes<const N: usize>(&self, offset: u64) -> io::Result<Option<[u8; N]>> {
        let mut buffer = [0; N];
        let end = offset.checked_add(N as u64);
        if end.is_none_or(|end| end > self.size) {
            return Ok(None);
        }
        Ok((self.device.read(offset, &mut buffer)? == N).then_some(buffer))
    }

    fn is_at(&self, offset: u64, magic: &[u8]) -> io::Result<bool> {
        let bytes = self.bytes::<24>(offset)?;
        Ok(bytes.is_some_and(|bytes| bytes.starts_with(magic)))
    }

    /// Whether these bytes are this far before the end.
    fn before_end(&self, distance: u64, magic: &[u8]) -> io::Result<bool> {
        let Some(offset) = self.size.checked_sub(distance) else { return Ok(false) };
        self.is_at(offset, magic)
    }

    /// Swap space, and what hibernation writes into it: at the end of the first page, whose size depends on the processor
    /// (superblocks/swap.c).
    fn is_swap(&self) -> io::Result<bool> {
        for page in [4096, 8192, 16384, 32768, 65536] {
            let Some(magic) = self.bytes::<10>(page - 10)? else { continue };
            let is_suspended = [&b"S1SUSPEND"[..], b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"];
            if &magic == b"SWAPSPACE2"
                || &magic == b"SWAP-SPACE"
                || is_suspended.iter().any(|word| magic.starts_with(word))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Superblocks of version 0.90, 64 KiB before the end and aligned so, in either byte order, and of version 1.0, at least 8
    /// KiB before the end (md(4); superblocks/linux_raid.c).
    fn is_raid_at_end(&self) -> io::Result<bool> {
        const MAGIC: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();
        const SWAPPED: [u8; 4] = 0xa92b_4efc_u32.to_be_bytes();
        if let Some(old) = (self.size & !(64 * KIB - 1)).checked_sub(64 * KIB)
            && (self.is_at(old, &MAGIC)? || self.is_at(old, &SWAPPED)?)
        {
            return Ok(true);
        }
        let sectors = self.size / 512;
        let Some(new) = sectors.checked_sub(16).map(|sector| (sector & !7) * 512) else {
            return Ok(false);
        };
        self.is_at(new, &MAGIC)
    }

    /// Intel's and the common format (DDF), at the end.
    fn is_firmware_raid(&self) -> io::Result<bool> {
        Ok(self.before_end(1024, b"Intel Raid ISM Cfg Sig.")?
            || self.before_end(512, b"\xde\x11\xde\x11")?
            || self.before_end(512, b"\x11\xde\x11\xde")?)
    }

    /// The metadata of DRBD 8 and 9 in the last 4 KiB (superblocks/drbd.c).
    fn is_drbd(&self) -> io::Result<bool> {
        Ok(self.before_end(4096 - 0x3c, b"\x83\x74\x02\x6b")?
            || self.before_end(4096 - 0x3c, b"\x83\x74\x02\x6d")?)
    }

    /// An uberblock in one of the four labels, two at each end (superblocks/zfs.c). Each label has 256 KiB, and its second half
    /// has the uberblocks, at multiples of 1 KiB.
    fn is_zfs(&self) -> io::Result<bool> {
        const LABEL: u64 = 256 * KIB;
        const MAGIC: u64 = 0x00ba_b10c;
        if self.size < 4 * LABEL {
            return Ok(false);
        }
        let end = self.size & !(LABEL - 1);
        let mut blocks = vec![0; 128 << 10];
        for label in [0, LABEL, end - 2 * LABEL, end - LABEL] {
            let count = self.device.read(label + LABEL / 2, &mut blocks)?;
            let uberblocks = blocks.get(..count).unwrap_or_default().chunks_exact(1024);
            for magic in uberblocks.filter_map(|block| block.first_chunk::<8>()) {
                if u64::from_le_bytes(*magic) == MAGIC || u64::from_be_bytes(*magic) == MAGIC {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// A master boot record with a partition. A file system's boot sector ends with the same bytes, so each entry must be one.
    fn is_mbr(&self) -> io::Result<bool> {
        let Some(sector) = self.bytes::<512>(0)? else { return Ok(false) };
        if !sector.ends_with(&[0x55, 0xaa]) {
            return Ok(false);
        }
        let table = sector.get(446..510).unwrap_or_default();
        let entries: Vec<&[u8; 16]> =
            table.chunks_exact(16).filter_map(|entry| entry.first_chunk()).collect();
        let is_right = |entry: &&[u8; 16]| {
            let [flag, _, _, _, kind, ..] = entry;
            matches!(flag, 0 | 0x80) && (*kind != 0 || entry.iter().all(|byte| *byte == 0))
        };
        let is_used = |entry: &&[u8; 16]| entry.get(4).is_some_and(|kind| *kind != 0);
        Ok(entries.iter().all(is_right) && entries.iter().any(is_used))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn device(size: u64, at: &[(u64, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        for (offset, magic) in at {
            let offset = usize::try_from(*offset).unwrap();
            bytes[offset..offset + magic.len()].copy_from_slice(magic);
        }
        bytes
    }

    fn found(size: u64, at: &[(u64, &[u8])]) -> Vec<&'static str> {
        find(device(size, at).as_slice(), size, 512).unwrap()
    }

    #[test]
    fn each_fixed_signature_is_found_and_zeros_are_none() {
        const SIZE: u64 = 8 << 20;
        assert!(found(SIZE, &[]).is_empty());
        assert!(is_blank(device(SIZE, &[]).as_slice(), SIZE).unwrap());
        for (what, offset, magic) in AT {
            assert_eq!(found(SIZE, &[(*offset, magic)]), [*what]);
        }
        assert_eq!(found(SIZE, &[(0x4000, b"SKUL\xba\xbe")]), ["LUKS encryption"]);
        assert!(found(0, &[]).is_empty() && found(100, &[]).is_empty());
    }

    #[test]
    fn signatures_at_the_end_are_found() {
        const SIZE: u64 = (8 << 20) + 512 * 3;
        let magic = &0xa92b_4efc_u32.to_le_bytes();
        let swapped = &0xa92b_4efc_u32.to_be_bytes();
        let raid = ["a member of a Linux RAID"];
        assert_eq!(found(SIZE, &[((8 << 20) - 65536, magic)]), raid);
        assert_eq!(found(SIZE, &[((8 << 20) - 65536, swapped)]), raid);
        assert_eq!(found(SIZE, &[(((SIZE / 512 - 16) & !7) * 512, magic)]), raid);
        assert_eq!(found(SIZE, &[(SIZE - 512, b"EFI PART")]), ["a GPT partition table"]);
        assert_eq!(
            found(SIZE, &[(SIZE - 1024, b"Intel Raid ISM Cfg Sig.")]),
            ["a member of a firmware RAID"]
        );
        let uberblock = &0x00ba_b10c_u64.to_be_bytes();
        for label in [0, 256 << 10, (8 << 20) - (512 << 10), (8 << 20) - (256 << 10)] {
            let at = label + (128 << 10) + 7 * 1024;
            assert_eq!(found(SIZE, &[(at, uberblock)]), ["a member of a ZFS pool"]);
        }
    }

    #[test]
    fn a_boot_sector_is_a_partition_table_only_with_partitions() {
        const SIZE: u64 = 1 << 20;
        let mut entry = [0; 16];
        entry[4] = 0x83;
        let end: (u64, &[u8]) = (510, b"\x55\xaa");
        assert!(found(SIZE, &[end]).is_empty());
        assert_eq!(found(SIZE, &[end, (462, &entry)]), ["an MBR partition table"]);
        let odd = [7; 16];
        assert!(found(SIZE, &[end, (462, &odd)]).is_empty());
    }

    #[test]
    fn other_bytes_are_no_data_and_not_blank() {
        const SIZE: u64 = 4 << 20;
        let bytes: Vec<u8> = (0..SIZE).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
        assert_eq!(find(bytes.as_slice(), SIZE, 512).unwrap(), [""; 0]);
        assert!(!is_blank(bytes.as_slice(), SIZE).unwrap());
        let end = device(SIZE, &[(SIZE - 1, b"x")]);
        assert!(!is_blank(end.as_slice(), SIZE).unwrap());
    }

    #[test]
    fn what_real_programs_write_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for (program, arguments, what) in [
            ("mke2fs", vec!["-q", "-t", "ext4"], "an ext2, ext3 or ext4 file system"),
            ("mkswap", vec![], "swap space"),
            ("mkfs.vfat", vec![], "a FAT file system"),
            ("mkfs.xfs", vec!["-q"], "an XFS file system"),
            ("mkfs.btrfs", vec!["-q"], "a btrfs file system"),
            ("mkfs.ntfs", vec!["-F", "-q"], "an NTFS file system"),
        ] {
            let path = dir.path().join(program);
            let file = File::create(&path).unwrap();
            file.set_len(400 << 20).unwrap();
            let made = Command::new(program).args(arguments).arg(&path).output();
            if made.is_ok_and(|made| made.status.success()) {
                let file = File::open(&path).unwrap();
                assert_eq!(find(&file, 400 << 20, 512).unwrap(), [what], "{program}");
            }
        }
    }
}
