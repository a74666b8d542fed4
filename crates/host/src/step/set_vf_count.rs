//! `sriov_numvfs`: how many virtual functions a physical one has.

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

/// How NVIDIA's driver has its virtual functions made.
const SRIOV_MANAGE: &str = "usr/lib/nvidia/sriov-manage";

/// How long a removal or rescan may take before this one: others that make virtual functions wait in their daemon.
const HOST_LOCK: Duration = Duration::from_secs(60);

/// How long the functions may take to appear, or to go, once the kernel says that all is done.
const APPEARING: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How many there are, compared with before and after. Reading the number waits for the device's lock
/// (`sriov_numvfs_show` in drivers/pci/iov.c).
pub fn observe(root: &Root, address: Address, from: u16, to: u16) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    let now = count(root, &dir, address)?;
    let there = Sriov::of(&dir).present(root).len();
    Ok(if now == to && there == usize::from(to) {
        Observed::After
    } else if now == to {
        Observed::Other(format!("{there} of {to} virtual functions"))
    } else if now == from || now == 0 {
        // None: between the two writes that a change of the number takes.
        Observed::Before
    } else {
        Observed::Other(format!("{now} virtual functions"))
    })
}

fn count(root: &Root, dir: &Dir, address: Address) -> Result<u16, HostError> {
    let path = format!("{DEVICES}/{address}/{VF_COUNT}");
    Sriov::of(dir).vf_count().map_err(|unread| match unread {
        Unread::Refused { errno: Errno::NOENT, .. } => {
            let reason = "the function cannot make virtual functions";
            problem::because(root, "read", &path, Errno::NOENT, reason)
        }
        Unread::Refused { errno, .. } => problem::file(root, "read", &path, errno),
        Unread::Senseless { text, .. } => {
            problem::because(root, "understand", &path, Errno::INVAL, format!("{text:?}"))
        }
    })
}

/// Sets it. What was there goes first, for the kernel changes no number but to and from 0.
pub fn set(
    root: &Root,
    locks: &Locks,
    address: Address,
    from: u16,
    to: u16,
) -> Result<(), HostError> {
    let change = Change { root, address, to, path: format!("{DEVICES}/{address}/{VF_COUNT}") };
    // The kernel takes one lock for this, for removals and for rescans of a whole host (`pci_rescan_remove_lock`).
    let _host = locks.hold(&Lock::Host, HOST_LOCK, &change.step())?;
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
    // Fewer than were asked for are nobody's: as it was before, it can be tried again.
    match (change.back(&dir, from), error) {
        (Err(rollback), HostError::Check { step, found }) => {
            Err(HostError::Check { step, found: format!("{found}; and afterwards: {rollback}") })
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

    /// Puts back what was there before.
    fn back(&self, dir: &Dir, from: u16) -> Result<(), HostError> {
        self.write(0)?;
        self.wait(dir, 0)?;
        if from == 0 || from == self.to {
            return Ok(());
        }
        self.write(from)?;
        self.wait(dir, from)
    }

    /// Virtual functions go with all that uses them, and the kernel waits, with its lock held, for a machine that has
    /// one. New ones can take the place of vGPUs that the physical function has itself.
    fn refuse_while_used(&self, dir: &Dir) -> Result<(), HostError> {
        let refused = |reason: String| {
            let action = format!("write \"{}\" to", self.to);
            Err(problem::because(self.root, action, &self.path, Errno::BUSY, reason))
        };
        let mut functions = Sriov::of(dir).present(self.root);
        if let Some(user) = holders::find(self.root, &functions)?.first() {
            let (function, user, by) = (user.address, &user.user, &user.by);
            return refused(format!("its virtual function {function} is used by {user} ({by})"));
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

    /// What the kernel's refusal means (`sriov_numvfs_store` in drivers/pci/iov.c).
    fn explain(&self, error: HostError) -> HostError {
        let HostError::File { action, path, reason, errno } = error else { return error };
        let more = match errno.map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => {
                "no driver that can make virtual functions is bound to it".to_owned()
            }
            Some(Errno::RANGE) => {
                format!("it can have {} at most", sriov::total_of(self.root, self.address))
            }
            Some(Errno::PERM) => "its driver says that some are in use".to_owned(),
            _ => format!("see `dmesg | grep {}`", self.address),
        };
        HostError::File { action, path, reason: format!("{reason}: {more}"), errno }
    }

    /// Waits until all are there, each with its link and its directory, or all are gone.
    fn wait(&self, dir: &Dir, wanted: u16) -> Result<(), HostError> {
        let until = Instant::now() + APPEARING;
        loop {
            let there = Sriov::of(dir).present(self.root).len();
            let count = count(self.root, dir, self.address)?;
            if there == usize::from(wanted) && count == wanted {
                return Ok(());
            }
            // The driver has made others than it was asked for, and is done.
            let settled = count != wanted && there == usize::from(count);
            if settled || Instant::now() >= until {
                let found = format!("{there} virtual functions, {wanted} were asked for");
                return Err(HostError::Check { step: self.step(), found });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Has NVIDIA's program make all or remove all: it knows no other numbers. It can fail and say that all is well,
    /// and leave the GPU without its driver; so what it says counts for nothing.
    fn by_nvidia(&self, dir: &Dir) -> Result<(), HostError> {
        let total = sriov::total_of(self.root, self.address);
        if self.to != 0 && self.to != total {
            let found = format!("that NVIDIA's sriov-manage makes all {total} of them or none");
            return Err(HostError::Check { step: self.step(), found });
        }
        let way = if self.to == 0 { "-d" } else { "-e" };
        let ran = program::run(self.root, SRIOV_MANAGE, &[way, &self.address.to_string()])?;
        if bound_now(self.root, self.address)?.is_none() {
            bind::by_name(self.root, self.address, "nvidia")?;
        }
        self.wait(dir, self.to).map_err(|error| match error {
            HostError::Check { step, found } => HostError::Check {
                step,
                found: format!("{found}; sriov-manage said: {}", ran.words),
            },
            other => other,
        })
    }
}
