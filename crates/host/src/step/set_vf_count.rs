//! `sriov_numvfs`: the number of virtual functions of a physical function.

use std::time::{Duration, Instant};

use model::{Address, HostError, Lock, Observed};
use rustix::io::Errno;

use super::{bind, set_vgpu};
use crate::device_lock::Locks;
use crate::function_files::{DEVICES, bound_now, directory, existing, write};
use crate::inventory::mdevs_of;
use crate::root::{Dir, Root};
use crate::sriov::{self, Sriov, Unread, VF_COUNT};
use crate::{holders, problem, program};

/// The program that creates the virtual functions of NVIDIA GPUs.
const SRIOV_MANAGE: &str = "usr/lib/nvidia/sriov-manage";

/// How long to wait for another removal or rescan; other changes of VF counts wait in their daemon.
const HOST_LOCK: Duration = Duration::from_secs(60);

/// How long the functions may take to appear or to disappear after the write has returned.
const APPEARING: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Compares the present number with those before and after. Reading it waits for the device's lock
/// (`sriov_numvfs_show` in drivers/pci/iov.c).
pub fn observe(root: &Root, address: Address, from: u16, to: u16) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    let now = count(root, &dir, address)?;
    let present = Sriov::of(&dir).present(root).len();
    Ok(if now == to && present == usize::from(to) {
        Observed::After
    } else if now == to {
        Observed::Other(format!("{present} of {to} virtual functions"))
    } else if now == from || now == 0 {
        // 0: between the two writes that a change needs.
        Observed::Before
    } else {
        Observed::Other(format!("{now} virtual functions"))
    })
}

fn count(root: &Root, dir: &Dir, address: Address) -> Result<u16, HostError> {
    let path = format!("{DEVICES}/{address}/{VF_COUNT}");
    Sriov::of(dir).vf_count().map_err(|unread| match unread {
        Unread::Refused { errno: Errno::NOENT, .. } => {
            let reason = "the function does not support virtual functions";
            problem::because(root, "read", &path, Errno::NOENT, reason)
        }
        Unread::Refused { errno, .. } => problem::file(root, "read", &path, errno),
        Unread::Malformed { text, .. } => {
            problem::because(root, "parse", &path, Errno::INVAL, format!("{text:?}"))
        }
    })
}

/// Sets the number. Existing functions are removed first: the kernel changes the number only from 0 and to 0.
pub fn set(
    root: &Root,
    locks: &Locks,
    address: Address,
    from: u16,
    to: u16,
) -> Result<(), HostError> {
    let change = Change { root, address, to, path: format!("{DEVICES}/{address}/{VF_COUNT}") };
    // The kernel has one lock for this, for removals and for rescans on the whole host (`pci_rescan_remove_lock`).
    let _host = locks.acquire(&Lock::Host, HOST_LOCK, &change.step())?;
    let dir = existing(root, address)?;
    change.refuse_while_used(&dir)?;
    if root.exists(SRIOV_MANAGE) && bound_now(root, address)?.as_deref() == Some("nvidia") {
        return change.by_nvidia(&dir);
    }
    if count(root, &dir, address)? != 0 && to != 0 {
        change.write(0)?;
        change.wait(&dir, 0)?;
    }
    change.write(to)?;
    let Err(error) = change.wait(&dir, to) else { return Ok(()) };
    // A wrong number of functions is rolled back, so that the step can be retried.
    match (change.roll_back(&dir, from), error) {
        (Err(rollback), HostError::Check { step, found }) => {
            Err(HostError::Check { step, found: format!("{found}; rollback failed: {rollback}") })
        }
        (_, error) => Err(error),
    }
}

/// One change of the number.
struct Change<'a> {
    root: &'a Root,
    address: Address,
    to: u16,
    path: String,
}

impl Change<'_> {
    fn step(&self) -> String {
        format!("set the number of virtual functions of {} to {}", self.address, self.to)
    }

    /// Restores the number from before.
    fn roll_back(&self, dir: &Dir, from: u16) -> Result<(), HostError> {
        self.write(0)?;
        self.wait(dir, 0)?;
        if from == 0 || from == self.to {
            return Ok(());
        }
        self.write(from)?;
        self.wait(dir, from)
    }

    /// Refuses while a virtual function is in use: removing it would take it from its user, and for one in a machine
    /// the kernel waits with its lock held. Also refuses while vGPUs or mediated devices exist, which a change would
    /// remove.
    fn refuse_while_used(&self, dir: &Dir) -> Result<(), HostError> {
        let refused = |reason: String| {
            let action = format!("write \"{}\" to", self.to);
            Err(problem::because(self.root, action, &self.path, Errno::BUSY, reason))
        };
        let mut functions = Sriov::of(dir).present(self.root);
        if let Some(user) = holders::find(self.root, &functions)?.first() {
            let (function, user, by) = (user.address, &user.user, &user.by);
            return refused(format!("{user} uses its virtual function {function} ({by})"));
        }
        for function in &functions {
            let Some(dir) = directory(self.root, *function)? else { continue };
            if let Some(kind @ 1..) = set_vgpu::current(self.root, &dir, *function)? {
                return refused(format!(
                    "its virtual function {function} is a vGPU of type {kind}"
                ));
            }
        }
        functions.push(self.address);
        for (parent, mdevs) in mdevs_of(self.root, &functions) {
            if let Some(mdev) = mdevs.first() {
                return refused(format!("{parent} has the mediated device {}", mdev.uuid));
            }
        }
        Ok(())
    }

    fn write(&self, count: u16) -> Result<(), HostError> {
        write(self.root, self.address, &self.path, &count.to_string())
            .map_err(|error| self.explain(error))
    }

    /// Explains the kernel's error (`sriov_numvfs_store` in drivers/pci/iov.c).
    fn explain(&self, error: HostError) -> HostError {
        let HostError::File { action, path, reason, errno } = error else { return error };
        let more = match errno.map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => {
                "no driver that supports virtual functions is bound to it".to_owned()
            }
            Some(Errno::RANGE) => {
                format!("it supports {} at most", sriov::total_of(self.root, self.address))
            }
            Some(Errno::PERM) => "its driver reports that some are in use".to_owned(),
            _ => format!("see `dmesg | grep {}`", self.address),
        };
        HostError::File { action, path, reason: format!("{reason}: {more}"), errno }
    }

    /// Waits until the wanted number exists, each with its link and its directory.
    fn wait(&self, dir: &Dir, wanted: u16) -> Result<(), HostError> {
        let until = Instant::now() + APPEARING;
        loop {
            let present = Sriov::of(dir).present(self.root).len();
            let count = count(self.root, dir, self.address)?;
            if present == usize::from(wanted) && count == wanted {
                return Ok(());
            }
            // The driver has created another number, and is done.
            let settled = count != wanted && present == usize::from(count);
            if settled || Instant::now() >= until {
                let found = format!("{present} virtual functions instead of {wanted}");
                return Err(HostError::Check { step: self.step(), found });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Lets NVIDIA's program create or remove all functions: it supports no other numbers. Its exit status is ignored:
    /// it can report success after a failure, and leave the GPU without its driver.
    fn by_nvidia(&self, dir: &Dir) -> Result<(), HostError> {
        let total = sriov::total_of(self.root, self.address);
        if self.to != 0 && self.to != total {
            let found = format!("NVIDIA's sriov-manage, which creates all {total} or none");
            return Err(HostError::Check { step: self.step(), found });
        }
        let way = if self.to == 0 { "-d" } else { "-e" };
        let ran = program::run(self.root, SRIOV_MANAGE, &[way, &self.address.to_string()])?;
        if bound_now(self.root, self.address)?.is_none() {
            bind::by_name(self.root, self.address, "nvidia")?;
        }
        self.wait(dir, self.to).map_err(|error| match error {
            HostError::Check { step, found } => {
                HostError::Check { step, found: format!("{found}; sriov-manage: {}", ran.words) }
            }
            other => other,
        })
    }
}
