//! The image's root with its writable layer, and how it becomes the root of all processes.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use guest_protocol::ramdisk;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_move, mount_remount};
use rustix::process::{chdir, chroot};

use super::error::InitError;
use super::mounts::{directory, mount_on};
use crate::path_of;

const LOWER: &str = "/lower";
const UPPER: &str = "/upper";
const NEW: &str = "/new";

/// The root that is in use. No path leads to the writable layer any more, but it must be made clean at the end.
pub struct Root {
    upper: File,
}

/// Mounts the image's root and the writable layer over it, and makes it the root.
pub fn enter(lower: &Path, upper: &Path) -> Result<Root, InitError> {
    let (lower, upper) = (lower.to_string_lossy(), upper.to_string_lossy());
    mount_on(&lower, LOWER, "erofs", MountFlags::RDONLY, "")?;
    mount_on(&upper, UPPER, "ext4", MountFlags::NOATIME, "")?;
    let upper_root = format!("{UPPER}/upper");
    if !Path::new(&upper_root).exists() {
        directory(&upper_root, 0o755)?;
        copy_attributes(LOWER, &upper_root)?;
    }
    directory(&format!("{UPPER}/work"), 0o700)?;
    let options = format!("lowerdir={LOWER},upperdir={upper_root},workdir={UPPER}/work");
    mount_on("overlay", NEW, "overlay", MountFlags::empty(), &options)?;
    let failed = |errno: Errno| InitError::Make { path: UPPER.to_owned(), source: errno.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = openat(CWD, UPPER, flags, Mode::empty()).map_err(failed)?;
    switch()?;
    Ok(Root { upper: File::from(handle) })
}

/// The root directory of an overlay has the attributes of its upper directory.
fn copy_attributes(from: &str, to: &str) -> Result<(), InitError> {
    let made = |source| InitError::Make { path: to.to_owned(), source };
    let metadata = fs::metadata(from).map_err(made)?;
    chown(to, Some(metadata.uid()), Some(metadata.gid())).map_err(made)?;
    fs::set_permissions(to, metadata.permissions()).map_err(made)
}

/// Moves the kernel's file systems into the new root, frees the initial ramdisk, and enters the new root.
fn switch() -> Result<(), InitError> {
    for name in ["/dev", "/proc", "/sys"] {
        let target = format!("{NEW}{name}");
        // A link of the image could lead back into the ramdisk.
        if Path::new(&target).is_symlink() {
            return Err(InitError::NotADirectory(name.to_owned()));
        }
        directory(&target, 0o755)?;
        mount_move(name, &target).map_err(|errno| InitError::Mount {
            what: name.to_owned(),
            target: target.clone(),
            errno,
        })?;
    }
    let _ = fs::remove_dir_all(format!("/{}", ramdisk::MODULES));
    for file in [ramdisk::MODULE_LIST, ramdisk::INIT] {
        let _ = fs::remove_file(format!("/{file}"));
    }
    let failed = |errno| InitError::Mount {
        what: "the image's root".to_owned(),
        target: "/".to_owned(),
        errno,
    };
    chdir(NEW).map_err(failed)?;
    mount_move(".", "/").map_err(failed)?;
    chroot(".").map_err(failed)?;
    chdir("/").map_err(failed)
}

impl Root {
    /// Makes the root and its writable layer read-only, so that the disk is clean. What cannot be, is synced.
    pub fn close(&self) {
        let _ = mount_remount("/", MountFlags::RDONLY, c"");
        let _ = rustix::fs::syncfs(&self.upper);
        let _ = mount_remount(path_of::descriptor(&self.upper), MountFlags::RDONLY, c"");
    }
}
