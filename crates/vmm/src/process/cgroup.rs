//! The machine's cgroup, below the daemon's, which systemd delegates (`Delegate=yes`). With `KillMode=process` it
//! survives a restart of the daemon.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use uuid::Uuid;

/// How often the removal of a cgroup is tried, and the pause between: the kernel removes the last process from it a
/// moment after its end.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The tries before what is left is killed: a helper ends a moment after the VMM.
const BEFORE_KILL: u32 = 5;

/// The path of the cgroup for a machine that this process starts.
pub fn place(root: &Path, id: Uuid) -> Result<PathBuf, String> {
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).map_err(|error| format!("cannot read {name}: {error}"))
    };
    let mount = unified_mount(&read("proc/self/mountinfo")?)
        .ok_or("no unified hierarchy (cgroup2) is mounted")?;
    let own = own_group(&read("proc/self/cgroup")?)
        .ok_or("this process is not in a cgroup of the unified hierarchy")?;
    let below = |path: &str| path.trim_start_matches('/').to_owned();
    Ok(root.join(below(&mount)).join(below(&own)).join(format!("handover-{id}")))
}

/// Moves this process into a cgroup, which is created if needed. The daemon's cgroup may contain processes as long as
/// it enables no controllers for its children (cgroup-v2.rst, "No Internal Process Constraint").
pub fn enter(group: &Path) -> Result<(), String> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("cannot create {}: {error}", group.display()));
        }
        _ => {}
    }
    // 0 means the writing process.
    fs::write(group.join("cgroup.procs"), "0")
        .map_err(|error| format!("cannot enter {}: {error}", group.display()))
}

/// The processes in a cgroup; `None` if it is gone or cannot be read.
pub fn processes(group: &Path) -> Option<Vec<u32>> {
    let text = fs::read_to_string(group.join("cgroup.procs")).ok()?;
    text.lines().map(|line| line.parse().ok()).collect()
}

/// The processor time of all processes that are or were in a cgroup; `None` if it cannot be read. Every cgroup has it, also
/// without the controller `cpu` (cgroup-v2.rst, `cpu.stat`).
pub fn cpu_time(group: &Path) -> Option<Duration> {
    usage(&fs::read_to_string(group.join("cpu.stat")).ok()?)
}

fn usage(stat: &str) -> Option<Duration> {
    let value = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(Duration::from_micros(value.trim().parse().ok()?))
}

/// Removes a cgroup whose VMM has exited. A program that served it and has not ended by itself is killed, where the kernel
/// has `cgroup.kill` (5.14): it has the machine's user. A missing cgroup is not an error.
pub fn remove(group: &Path) -> io::Result<()> {
    for turn in 0..TRIES {
        match fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                if turn == BEFORE_KILL {
                    let _ = fs::write(group.join("cgroup.kill"), "1");
                }
                thread::sleep(BETWEEN_TRIES);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
    }
    Err(Errno::BUSY.into())
}

/// The mount point of the unified hierarchy (proc_pid_mountinfo(5)): the fifth field, if the type after the `-` is
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
    fn reads_the_processor_time() {
        let text = "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n";
        assert_eq!(usage(text), Some(Duration::from_millis(1500)));
        assert_eq!(usage("usage_usec much\n"), None);
        assert_eq!(usage(""), None);
    }

    #[test]
    fn finds_its_own_group() {
        let text = "8:pids:/a\n0::/system.slice/handover.service\n";
        assert_eq!(own_group(text).as_deref(), Some("/system.slice/handover.service"));
        assert_eq!(own_group("8:pids:/a\n"), None);
    }

    #[test]
    fn a_machines_cgroup_is_below_the_daemons() {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc/self");
        fs::create_dir_all(&proc).unwrap();
        let mountinfo = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        fs::write(proc.join("mountinfo"), mountinfo).unwrap();
        let name = "handover-00000000-0000-0000-0000-000000000000";
        for (own, below) in
            [("/", ""), ("/system.slice/handover.service", "system.slice/handover.service")]
        {
            fs::write(proc.join("cgroup"), format!("0::{own}\n")).unwrap();
            let group = root.path().join("sys/fs/cgroup").join(below).join(name);
            assert_eq!(place(root.path(), Uuid::nil()), Ok(group));
        }
    }
}
