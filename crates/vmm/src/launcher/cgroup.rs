//! A control group of the machine's own, beside the daemon's: what ends the daemon's group leaves the machine alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use uuid::Uuid;

/// How often, and how long between, a group is tried to be removed: the kernel lets go of the last process a moment
/// after its end.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// Moves this process into a new group for the machine, and says where it is.
pub fn enter(root: &Path, id: Uuid) -> Result<PathBuf, String> {
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).map_err(|error| format!("cannot read {name}: {error}"))
    };
    let mount = unified_mount(&read("proc/self/mountinfo")?)
        .ok_or("no unified hierarchy (cgroup2) is mounted")?;
    let own = own_group(&read("proc/self/cgroup")?)
        .ok_or("this process is in no group of the unified hierarchy")?;
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    // A group with processes in it can have no children that use controllers (cgroup-v2.rst, "No Internal Process
    // Constraint"), the root excepted; hence beside and not below.
    let parent = Path::new(&own).parent().unwrap_or_else(|| Path::new("/"));
    let group = below(&mount)
        .join(parent.to_string_lossy().trim_start_matches('/'))
        .join(format!("handover-{id}"));
    match fs::create_dir(&group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("cannot make {}: {error}", group.display()));
        }
        _ => {}
    }
    // 0 stands for the writer itself.
    fs::write(group.join("cgroup.procs"), "0")
        .map_err(|error| format!("cannot enter {}: {error}", group.display()))?;
    Ok(group)
}

/// Removes a group whose processes have ended. Nothing there is no error.
pub fn remove(group: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        match fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                thread::sleep(BETWEEN_TRIES);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
    }
    Err(Errno::BUSY.into())
}

/// Where the unified hierarchy is mounted (proc_pid_mountinfo(5)): the fifth field, where the type after the `-` is
/// `cgroup2`.
fn unified_mount(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let unified = filesystem.split(' ').next() == Some("cgroup2");
        unified.then(|| mount.split(' ').nth(4).map(str::to_owned)).flatten()
    })
}

/// The path in the unified hierarchy: the line with id 0 and no controllers (cgroups(7)).
fn own_group(cgroup: &str) -> Option<String> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_unified_hierarchy_alone_and_beside_the_old_one() {
        let alone = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(unified_mount(alone).as_deref(), Some("/sys/fs/cgroup"));
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      40 30 0:39 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";
        assert_eq!(unified_mount(hybrid).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(unified_mount("garbage\n"), None);
    }

    #[test]
    fn finds_its_own_group() {
        let text = "8:pids:/a\n0::/system.slice/handover.service\n";
        assert_eq!(own_group(text).as_deref(), Some("/system.slice/handover.service"));
        assert_eq!(own_group("8:pids:/a\n"), None);
    }
}
