//! Who uses a block device, and what is on it.

use std::fs::File;

use model::{BlockDevice, BlockNumber, BlockUse, HostError};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::identity::backing;
use super::{number, signatures};
use crate::holders::block_users;
use crate::nodes::device_number;
use crate::problem;
use crate::root::{FileKind, Root};

/// Finds the users of a device and of its parts, and reads it. Opening and reading can block: call it in a worker.
///
/// # Errors
/// If it cannot be opened or read, or is another device now.
pub fn examine(root: &Root, device: &BlockDevice) -> Result<BlockUse, HostError> {
    let parts = parts(root, device);
    let mut users = block_users(root, &parts);
    let failed = |action: &str, errno: Errno| HostError::File {
        action: action.into(),
        path: device.path.display().to_string(),
        reason: problem::words(errno),
        errno: Some(errno.raw_os_error()),
    };
    // Exclusive: the kernel refuses it if a file system, swap space, a volume manager or another machine has the device, or a
    // part of it (`bd_may_claim` in block/bdev.c).
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match openat(CWD, &device.path, flags, Mode::empty()) {
        Err(Errno::BUSY) => {
            if users.is_empty() {
                users.push(format!(
                    "{} is held by the kernel or by a program (ZFS, btrfs, another machine, ...)",
                    device.name
                ));
            }
            return Ok(BlockUse { users, ..BlockUse::default() });
        }
        opened => opened.map_err(|errno| failed("open", errno))?,
    };
    if number(&opened).map_err(|errno| failed("stat", errno))? != Some(device.number) {
        return Err(failed("open", Errno::NXIO));
    }
    if users.is_empty() {
        users = writers(root, &parts);
    }
    let file = File::from(opened);
    let reading = |error: std::io::Error| HostError::File {
        action: "read".into(),
        path: device.path.display().to_string(),
        reason: error.to_string(),
        errno: error.raw_os_error(),
    };
    let data = signatures::find(&file, device.size, device.sector).map_err(reading)?;
    let is_blank = data.is_empty() && signatures::is_blank(&file, device.size).map_err(reading)?;
    Ok(BlockUse { users, data: data.into_iter().map(str::to_owned).collect(), is_blank })
}

/// The device, its whole disk and its partitions, and other loop devices of the same file, by name and number.
fn parts(root: &Root, device: &BlockDevice) -> Vec<(String, BlockNumber)> {
    let mut parts = vec![(device.name.clone(), device.number)];
    let named = |number: BlockNumber| {
        let name = root.link_name(&format!("sys/dev/block/{}:{}", number.0, number.1)).ok()?;
        Some((name, number))
    };
    if device.backing.is_some() {
        parts.extend(same_file(root, device));
    }
    if let Some(disk) = device.disk {
        parts.extend(named(disk));
        return parts;
    }
    parts.extend(partitions(root, &device.name));
    parts
}

fn partitions(root: &Root, disk: &str) -> Vec<(String, BlockNumber)> {
    let at = format!("sys/class/block/{disk}");
    let number =
        |name: &str| device_number(root.attribute(&format!("{at}/{name}/dev")).ok()?.trim());
    let names = root.names(&at).unwrap_or_default().into_iter();
    names
        .filter(|name| root.exists(&format!("{at}/{name}/partition")))
        .filter_map(|name| number(&name).map(|number| (name, number)))
        .collect()
}

/// Other loop devices that have the same file.
fn same_file(root: &Root, device: &BlockDevice) -> Vec<(String, BlockNumber)> {
    let mut same = Vec::new();
    for name in root.names("sys/class/block").unwrap_or_default() {
        let at = format!("sys/class/block/{name}");
        if !name.starts_with("loop") || backing(root, &at) != device.backing {
            continue;
        }
        let number = root.attribute(&format!("{at}/dev")).ok();
        let Some(number) = number.and_then(|text| device_number(text.trim())) else { continue };
        if number != device.number && Some(number) != device.disk {
            same.extend(partitions(root, &name));
            same.push((name, number));
        }
    }
    same
}

/// The processes that have one of these devices open for writing: other hypervisors do not open it exclusively. Programs that
/// only read it, such as udev after each change, do not count.
fn writers(root: &Root, parts: &[(String, BlockNumber)]) -> Vec<String> {
    let mut writers = Vec::new();
    for pid in root.names("proc").unwrap_or_default() {
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        for fd in root.names(&format!("proc/{pid}/fd")).unwrap_or_default() {
            let Some((FileKind::Block, number)) = root.device(&format!("proc/{pid}/fd/{fd}"))
            else {
                continue;
            };
            let Some((name, _)) = parts.iter().find(|(_, part)| *part == number) else { continue };
            if !is_writer(&root.text(&format!("proc/{pid}/fdinfo/{fd}")).unwrap_or_default()) {
                continue;
            }
            let program = root.attribute(&format!("proc/{pid}/comm")).unwrap_or_default();
            writers.push(format!("{program} (pid {pid}) has {name} open for writing"));
            break;
        }
    }
    writers
}

/// Whether an open file can be written to: the last octal digit of its flags (proc_pid_fdinfo(5)).
fn is_writer(fdinfo: &str) -> bool {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    let mode = flags.and_then(|flags| flags.trim().bytes().last());
    mode.is_some_and(|digit| matches!(digit & 3, 1 | 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_an_open_file_tell_whether_it_writes() {
        assert!(!is_writer("pos:\t0\nflags:\t02100000\nmnt_id:\t9\n"));
        assert!(is_writer("pos:\t0\nflags:\t02100002\n"));
        assert!(is_writer("flags:\t0100001"));
        assert!(!is_writer("") && !is_writer("flags:"));
    }
}
