//! Block devices of the host that become disks of machines: found by name, and examined.

mod examine;
mod identity;
pub mod signatures;

use std::path::{Component, Path, PathBuf};

use model::{BlockDevice, BlockError, BlockNumber, check_block_name};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, major, minor, openat, openat2};
use rustix::io::Errno;

use crate::nodes::device_number;
use crate::problem;
use crate::root::Root;

pub use examine::examine;

/// The size of a sector in sysfs, whatever the device's blocks are (block/genhd.c, `part_size_show`).
const SECTOR: u64 = 512;

/// Finds a block device by its name below one of these directories. Only sysfs is read; the device is not opened.
///
/// # Errors
/// See [`BlockError`].
pub fn find(root: &Root, allowed: &[PathBuf], name: &str) -> Result<BlockDevice, BlockError> {
    check_block_name(name)?;
    if allowed.is_empty() {
        return Err(BlockError::NoneAllowed(name.to_owned()));
    }
    let (name, allowed) = (name.to_owned(), allowed.to_vec());
    // Nodes below another root would be devices of this host.
    if !root.is_host() {
        return Err(BlockError::Missing { name, allowed });
    }
    let mut is_below = false;
    for dir in &allowed {
        let Some(relative) = below(dir, Path::new(&name)) else { continue };
        is_below = true;
        if let Some((path, number)) = node(dir, relative, &name, &allowed)? {
            return describe(root, path, number);
        }
    }
    Err(if is_below {
        BlockError::Missing { name, allowed }
    } else {
        BlockError::Outside { name, allowed }
    })
}

/// The part of a name below a directory.
fn below<'a>(dir: &Path, name: &'a Path) -> Option<&'a Path> {
    let relative = if name.is_absolute() { name.strip_prefix(dir).ok()? } else { name };
    let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    (is_plain && relative != Path::new("")).then_some(relative)
}

/// The number of the device behind a name, if the directory has it. The name itself must be below the directory; if it is a
/// link, such as udev's, it may lead out of it.
fn node(
    dir: &Path,
    relative: &Path,
    name: &str,
    allowed: &[PathBuf],
) -> Result<Option<(PathBuf, BlockNumber)>, BlockError> {
    let path = dir.join(relative);
    let failed =
        |errno: Errno| BlockError::Unreadable { path: path.clone(), reason: problem::words(errno) };
    let top =
        match openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            // udev makes the directory with its first link.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            opened => opened.map_err(failed)?,
        };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let itself = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(&top, relative, itself, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::XDEV | Errno::LOOP) => {
            return Err(BlockError::Outside { name: name.to_owned(), allowed: allowed.to_vec() });
        }
        opened => opened.map(drop).map_err(failed)?,
    }
    let node = match openat(&top, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        // A link that leads nowhere.
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    match number(&node).map_err(failed)? {
        Some(number) => Ok(Some((path, number))),
        None => Err(BlockError::NotBlock(path)),
    }
}

/// The number of an open block device; `None` for other files.
fn number(node: &OwnedFd) -> Result<Option<BlockNumber>, Errno> {
    let found = fstat(node.as_fd())?;
    let is_block = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
    Ok(is_block.then(|| (major(found.st_rdev), minor(found.st_rdev))))
}

/// What the kernel knows of a device.
fn describe(root: &Root, path: PathBuf, number: BlockNumber) -> Result<BlockDevice, BlockError> {
    let at = format!("sys/dev/block/{}:{}", number.0, number.1);
    let unreadable = |reason: String| BlockError::Unreadable { path: path.clone(), reason };
    let read = |file: &str| {
        root.attribute(&format!("{at}/{file}")).map_err(|errno| unreadable(problem::words(errno)))
    };
    let name = root.link_name(&at).map_err(|errno| unreadable(problem::words(errno)))?;
    if let Some(reason) = unfit(&name) {
        return Err(BlockError::Unfit { path, reason });
    }
    let parsed = |text: String| {
        text.trim().parse::<u64>().map_err(|_| unreadable(format!("{text:?} is no number")))
    };
    let is_partition = root.exists(&format!("{at}/partition"));
    let (disk, queue) = if is_partition {
        (device_number(read("../dev")?.trim()), "../queue")
    } else {
        (None, "queue")
    };
    let (major, minor) = disk.unwrap_or(number);
    let whole = format!("sys/dev/block/{major}:{minor}");
    let size = parsed(read("size")?)?.saturating_mul(SECTOR);
    if size == 0 {
        return Err(BlockError::Unfit { path, reason: "its size is 0: it has no medium" });
    }
    let sector = read(&format!("{queue}/logical_block_size")).and_then(parsed).unwrap_or(SECTOR);
    let is_read_only = read("ro").is_ok_and(|text| text.trim() == "1");
    let sector = u32::try_from(sector).unwrap_or(512);
    let identity = identity::identity(root, &at, &whole, size);
    let backing = identity::backing(root, &whole);
    let functions = identity::functions(root, &whole);
    Ok(BlockDevice {
        path,
        name,
        number,
        disk,
        size,
        sector,
        is_read_only,
        identity,
        backing,
        functions,
    })
}

/// Why a kind of device can never be a disk of a machine.
fn unfit(name: &str) -> Option<&'static str> {
    let is = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit()))
    };
    if is("sr") {
        Some("it is a CD-ROM drive")
    } else if is("fd") {
        Some("it is a floppy drive")
    } else if is("ram") || is("zram") {
        Some("it is memory of the host")
    } else if is("mtdblock") {
        Some("it is flash memory of the host")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_below_its_directory() {
        let dir = Path::new("/dev/disk/by-id");
        let relative = |name: &'static str| below(dir, Path::new(name)).and_then(Path::to_str);
        assert_eq!(relative("ata-1"), Some("ata-1"));
        assert_eq!(relative("/dev/disk/by-id/ata-1"), Some("ata-1"));
        for outside in ["/dev/sda", "/dev/disk/by-id", "../sda", "/dev/disk/by-id/../sda"] {
            assert_eq!(relative(outside), None, "{outside}");
        }
    }

    #[test]
    fn some_kinds_of_devices_are_no_disks() {
        for bad in ["sr0", "fd0", "ram3", "zram0", "mtdblock1"] {
            assert!(unfit(bad).is_some(), "{bad}");
        }
        for good in ["sda", "sda1", "nvme0n1p2", "dm-0", "md127", "loop0", "vda", "srx"] {
            assert_eq!(unfit(good), None, "{good}");
        }
    }

    #[test]
    fn what_is_missing_or_no_device_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(Path::new("/")).unwrap();
        let allowed = [dir.path().to_owned()];
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        std::os::unix::fs::symlink("/dev", dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("character")).unwrap();
        let error = |name: &str| find(&root, &allowed, name).unwrap_err();
        assert!(matches!(error("file"), BlockError::NotBlock(_)));
        assert!(matches!(error("character"), BlockError::NotBlock(_)));
        assert!(matches!(error("dangling"), BlockError::Missing { .. }));
        assert!(matches!(error("none"), BlockError::Missing { .. }));
        assert!(matches!(error("out/null"), BlockError::Outside { .. }), "{:?}", error("out/null"));
        assert!(matches!(error("/dev/sda"), BlockError::Outside { .. }));
        assert!(matches!(error("../x"), BlockError::Name(_)));
        assert!(matches!(find(&root, &[], "x").unwrap_err(), BlockError::NoneAllowed(_)));
    }
}
