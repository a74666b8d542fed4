//! The end: everything is on the disks before the result is, and the result before the power is off.

use std::time::Duration;

use guest_protocol::CommandResult;
use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};

use super::Machine;
use crate::{console, sys};

/// Ends all processes, unmounts, writes the result and switches the machine off.
pub fn now(machine: Option<&mut Machine>, result: &CommandResult) {
    sys::kill_all(libc::SIGKILL);
    reap_all();
    if let Some(machine) = machine {
        for path in machine.volumes.iter().rev() {
            if unmount(path, UnmountFlags::empty()).is_err() {
                let _ = unmount(path, UnmountFlags::DETACH);
            }
        }
        if let Some(root) = &machine.root {
            root.close();
        }
        rustix::fs::sync();
        if let Err(error) = machine.disk.write_result(result) {
            console::say(&format!("cannot write the result: {error}"));
        }
    }
    rustix::fs::sync();
    let _ = reboot(RebootCommand::PowerOff);
    // Without ACPI the kernel may be unable to: a halted machine is better than a panic.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Waits for killed processes, so that they keep no file system busy. One that the kernel holds is not waited for long.
fn reap_all() {
    for _ in 0..200 {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => return,
        }
    }
}
