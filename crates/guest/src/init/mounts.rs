//! The kernel's own file systems.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::error::InitError;

/// Mounts `what`, a file system of this type, on a directory, which is made if it is missing.
pub fn mount_on(
    what: &str,
    target: &str,
    filesystem: &str,
    flags: MountFlags,
    options: &str,
) -> Result<(), InitError> {
    directory(target, 0o755)?;
    let failed =
        |errno| InitError::Mount { what: what.to_owned(), target: target.to_owned(), errno };
    let options = std::ffi::CString::new(options).map_err(|_| failed(Errno::INVAL))?;
    mount(what, target, filesystem, flags, options.as_c_str()).map_err(failed)
}

/// Makes a directory with its parents if it is missing.
pub fn directory(path: &str, mode: u32) -> Result<(), InitError> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    match made {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(InitError::NotADirectory(path.to_owned()))
        }
        Err(source) => Err(InitError::Make { path: path.to_owned(), source }),
    }
}

const KERNEL: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);

/// In the initial ramdisk: what is needed to find the disks. They move to the image's root later.
pub fn early() -> Result<(), InitError> {
    mount_on("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, "mode=0755")?;
    mount_on("proc", "/proc", "proc", KERNEL, "")?;
    mount_on("sysfs", "/sys", "sysfs", KERNEL, "")
}

/// In the image's root: the rest. A kernel without one of the optional ones runs without it.
pub fn late() -> Result<(), InitError> {
    let devices = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_on("devpts", "/dev/pts", "devpts", devices, "mode=0620,gid=5,ptmxmode=0666")?;
    let shared = MountFlags::NOSUID | MountFlags::NODEV;
    mount_on("shm", "/dev/shm", "tmpfs", shared, "mode=1777")?;
    optional(mount_on("mqueue", "/dev/mqueue", "mqueue", KERNEL, ""))?;
    optional(mount_on("cgroup2", "/sys/fs/cgroup", "cgroup2", KERNEL, "nsdelegate"))?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let path = Path::new("/dev").join(name);
        if !path.exists() {
            let made = symlink(target, &path);
            made.map_err(|source| InitError::Make { path: path.display().to_string(), source })?;
        }
    }
    run_directory()?;
    // `/tmp` stays on the disk: what programs put there can be larger than the memory.
    if !Path::new("/tmp").exists() {
        directory("/tmp", 0o755)?;
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        let set = fs::set_permissions("/tmp", all);
        set.map_err(|source| InitError::Make { path: "/tmp".to_owned(), source })?;
    }
    Ok(())
}

/// `/run` is in memory, so that no file of an earlier start is there. What the image has in it, is there too.
fn run_directory() -> Result<(), InitError> {
    let shared = MountFlags::NOSUID | MountFlags::NODEV;
    if Path::new("/run").is_symlink() {
        return Err(InitError::NotADirectory("/run".to_owned()));
    }
    directory("/run", 0o755)?;
    let made = |source| InitError::Make { path: "/run".to_owned(), source };
    let old = fs::File::open("/run").map_err(made)?;
    mount_on("tmpfs", "/run", "tmpfs", shared, "mode=0755")?;
    copy_up(Path::new(&crate::path_of::descriptor(&old)), Path::new("/run"), 0).map_err(made)
}

/// Directories deeper than this are not copied.
const MAX_DEPTH: usize = 16;

/// Copies directories, files and links with their modes and owners.
fn copy_up(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown, lchown};
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        let (uid, gid) = (Some(metadata.uid()), Some(metadata.gid()));
        if metadata.is_dir() && depth < MAX_DEPTH {
            fs::create_dir(&target)?;
            copy_up(&source, &target, depth + 1)?;
            chown(&target, uid, gid)?;
            fs::set_permissions(&target, metadata.permissions())?;
        } else if metadata.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            lchown(&target, uid, gid)?;
        } else if metadata.is_file() {
            fs::copy(&source, &target)?;
            chown(&target, uid, gid)?;
            fs::set_permissions(&target, metadata.permissions())?;
        }
    }
    Ok(())
}

/// A file system that the kernel does not have is left out.
fn optional(mounted: Result<(), InitError>) -> Result<(), InitError> {
    match mounted {
        Err(InitError::Mount { errno: Errno::NODEV, .. }) => Ok(()),
        // The directory of cgroups is made by the kernel if it has them.
        Err(InitError::Make { .. }) => Ok(()),
        other => other,
    }
}
