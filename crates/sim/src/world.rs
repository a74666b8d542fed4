//! External events: users, other tools, other programs, hardware.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use model::{
    Address, BlockDevice, BlockUse, Holder, HolderKind, HostError, LinkBaseline, Step, is_vfio,
};
use uuid::Uuid;

use crate::fault::{Fault, When};
use crate::host::SimHost;
use crate::kernel::{Errno, FunctionState, Kernel, ResetDone, Use};

/// Faults and restarts.
impl SimHost {
    /// Injects a fault.
    pub fn fault(&self, when: When, fault: Fault) {
        self.inside().faults.add(when, fault);
    }

    /// Injects random faults into this many of a thousand steps. The fault depends on the seed, the kind of step, its
    /// function and the number of attempts, but not on concurrent steps.
    pub fn dice(&self, seed: u64, per_mille: u16, of: &[Fault]) {
        self.inside().faults.dice(seed, per_mille, of);
    }

    /// Removes pending faults.
    pub fn clear_faults(&self) {
        self.inside().faults.clear();
    }

    /// Gives the host a disk of this many bytes, which the files below `dir` share. The default never becomes full.
    pub fn set_disk(&self, dir: &Path, size: u64) {
        self.inside().disk = Some((dir.to_owned(), size));
    }

    /// The process dies after so many changes of files (see [`Disk::between_changes`](model::Disk::between_changes)): every thread that makes
    /// a further one panics with [`Died`](crate::Died). `None` revives it.
    pub fn dies_after_file_changes(&self, changes: Option<u32>) {
        let mut inside = self.inside();
        (inside.file_changes_left, inside.has_died) = (changes, false);
    }

    /// Whether it died so.
    #[must_use]
    pub fn has_died(&self) -> bool {
        self.inside().has_died
    }

    /// Gives the host a block device, or replaces one of the same path.
    pub fn set_block(&self, device: BlockDevice, found: BlockUse) {
        let blocks = &mut self.inside().blocks;
        blocks.retain(|(other, _)| other.path != device.path);
        blocks.push((device, found));
    }

    /// What is connected by USB from now on.
    pub fn set_usb(&self, devices: Vec<model::UsbDevice>) {
        self.inside().usb = devices;
    }

    /// The USB devices that were given back after a machine's end, one for each time.
    #[must_use]
    pub fn reattached(&self) -> Vec<model::UsbDevice> {
        self.inside().reattached.clone()
    }

    /// Takes a block device away.
    pub fn remove_block(&self, path: &Path) {
        self.inside().blocks.retain(|(device, _)| device.path != path);
    }

    /// Unblocks the stuck workers: their steps complete now or, if the kernel waits for a user, when that user is gone.
    pub fn release(&self) {
        self.inside().go_on(|_| true);
    }

    /// Reboots the host: drivers, overrides, nodes, partitions, processes and workers are gone; the hardware and files
    /// stay. For machines, see [`SimLauncher::reboot`](crate::SimLauncher::reboot).
    pub fn reboot(&self) {
        self.forget_lock();
        let mut inside = self.inside();
        let elapsed = inside.started.elapsed() + inside.slept;
        inside.started_at = inside.started_at.saturating_add(elapsed.as_secs());
        (inside.started, inside.slept) = (Instant::now(), Duration::ZERO);
        let serials = inside.kernel.serials.clone();
        let definitions = inside.kernel.definitions.clone();
        let boot_list = inside.kernel.boot_list.clone();
        inside.kernel = Kernel::boot(inside.kernel.hardware.clone(), inside.kernel.seed);
        inside.kernel.serials = serials;
        inside.kernel.definitions = definitions;
        inside.kernel.boot_list = boot_list;
        for address in inside.pulled.clone() {
            inside.kernel.lose(address);
        }
        inside.stuck.clear();
        inside.boot = Uuid::new_v4();
    }
}

/// Other tools.
impl SimHost {
    /// Another tool changes a function.
    pub fn change(&self, address: Address, change: impl FnOnce(&mut FunctionState)) {
        if let Some(state) = self.inside().kernel.functions.get_mut(&address) {
            change(state);
        }
    }

    /// Another tool removes a function from its bus (`echo 1 > remove`); a rescan finds it again.
    pub fn remove(&self, address: Address) {
        let mut inside = self.inside();
        inside.kernel.lose(address);
        inside.kernel.removed.insert(address);
    }

    /// Time passes.
    pub fn pass(&self, time: Duration) {
        self.inside().slept += time;
    }

    /// Makes the wall clock wrong by this many seconds from now on.
    pub fn set_clock_error(&self, seconds: i64) {
        self.inside().clock_error = seconds;
    }

    /// A user adds a function to the boot list.
    pub fn reserve_at_boot(&self, address: Address) {
        self.inside().reserved.insert(address);
    }

    /// The tool that builds the initial ramdisk is installed or removed.
    pub fn set_initramfs_tool(&self, installed: bool) {
        self.inside().has_initramfs_tool = installed;
    }

    /// Another tool performs a step: drivers, power and nodes follow.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn meddle(&self, step: &Step) -> Result<(), HostError> {
        let mut inside = self.inside();
        inside.expect_free(step, &inside.locks(step))?;
        if inside.kernel.blocks(step) {
            return Err(inside.wait_inside(step));
        }
        inside.kernel.perform(step)
    }

    /// Another tool writes `sriov_numvfs`.
    ///
    /// # Errors
    /// The kernel's error number.
    pub fn write_vf_count(&self, address: Address, count: u16) -> Result<(), i32> {
        self.inside().kernel.write_vf_count(address, count).map_err(number)
    }

    /// Another tool writes `nvidia/current_vgpu_type`, once.
    ///
    /// # Errors
    /// The kernel's error number.
    pub fn write_vgpu(&self, address: Address, type_id: u32) -> Result<(), i32> {
        self.inside().kernel.write_vgpu(address, type_id).map_err(number)
    }

    /// Another tool resets a function, and everything else that the reset affects.
    ///
    /// # Errors
    /// The kernel's error number.
    pub fn write_reset(&self, address: Address) -> Result<(), i32> {
        self.inside().kernel.reset(address).map_err(number)
    }

    /// The resets since boot.
    #[must_use]
    pub fn resets(&self) -> Vec<ResetDone> {
        self.inside().kernel.resets.clone()
    }
}

fn number((errno, _): Errno) -> i32 {
    errno
}

/// Other programs.
impl SimHost {
    /// Adds a user of a function that exits when asked.
    pub fn hold(&self, holder: Holder) {
        self.inside().kernel.holders.push(Use { holder, stubborn: false });
    }

    /// Adds a user of a function that ignores SIGTERM.
    pub fn hold_stubbornly(&self, holder: Holder) {
        self.inside().kernel.holders.push(Use { holder, stubborn: true });
    }

    /// The host's network begins to use a function, if its native driver has it. Returns whether it does: without that
    /// driver there is no interface.
    pub fn use_network(&self, address: Address, user: &str) -> bool {
        let mut inside = self.inside();
        let kernel = &mut inside.kernel;
        let Ok(state) = kernel.state(address) else { return false };
        if state.driver.as_deref().is_none_or(|driver| is_vfio(driver, "vfio-pci")) {
            return false;
        }
        let holder = Holder {
            address,
            kind: HolderKind::Network,
            pid: None,
            started: None,
            program: None,
            user: user.into(),
            by: "eth0".into(),
            mdev: None,
            interface: Some("eth0".into()),
        };
        kernel.holders.push(Use { holder, stubborn: false });
        true
    }

    /// The host's network ends to use a function.
    pub fn end_network(&self, address: Address) {
        self.inside().kernel.drop_network(address);
    }

    /// A process exits and releases everything.
    pub fn let_go(&self, pid: u32) {
        let mut inside = self.inside();
        inside.kernel.holders.retain(|using| using.holder.pid != Some(pid));
        let machine = stray(pid);
        inside.kernel.users.retain(|_, user| *user != machine);
    }

    /// An unknown machine opens a mediated device. Returns whether it succeeded.
    pub fn open_mdev(&self, uuid: Uuid, pid: u32) -> bool {
        let group = self.inside().kernel.mdev_groups.get(&uuid).copied();
        group.is_some_and(|group| self.open_group(group, pid))
    }

    /// An unknown machine opens an IOMMU group, of functions or of a mediated device. Returns whether it succeeded:
    /// there must be a node that is not open.
    pub fn open_group(&self, group: u32, pid: u32) -> bool {
        let kernel = &mut self.inside().kernel;
        if !kernel.nodes.contains_key(&group) || kernel.users.contains_key(&group) {
            return false;
        }
        kernel.users.insert(group, stray(pid));
        let functions = kernel.functions.keys().copied();
        let mut used: BTreeSet<(Address, Option<Uuid>)> = functions
            .filter(|address| kernel.group_of(*address) == Some(group))
            .map(|address| (address, None))
            .collect();
        let of_group = |uuid: &Uuid| kernel.mdev_groups.get(uuid) == Some(&group);
        let mdevs = kernel.mdevs.iter().filter(|(uuid, _)| of_group(uuid));
        used.extend(mdevs.map(|(uuid, mdev)| (mdev.parent, Some(*uuid))));
        for (address, mdev) in used {
            let holder = Holder {
                address,
                kind: model::HolderKind::Process,
                pid: Some(pid),
                started: Some(pid.into()),
                program: Some("qemu-system-x86".into()),
                user: format!("qemu-system-x86 (pid {pid})"),
                by: format!("/dev/vfio/{group}"),
                mdev,
                interface: None,
            };
            kernel.holders.push(Use { holder, stubborn: false });
        }
        true
    }

    /// Makes looking for users of functions time out, or work again.
    pub fn hide_holders(&self, hidden: bool) {
        self.inside().holders_hidden = hidden;
    }
}

/// The id of an unknown machine.
const fn stray(pid: u32) -> Uuid {
    Uuid::from_u128(pid as u128)
}

/// Hardware.
impl SimHost {
    /// Puts another card, with this serial number, at an address.
    pub fn replace_card(&self, address: Address, serial: &str) {
        self.inside().kernel.serials.insert(address, serial.into());
    }

    /// A GPU is in these modes.
    pub fn set_modes(&self, address: Address, modes: model::GpuModes) {
        self.inside().kernel.modes.insert(address, modes);
    }

    /// A function is unplugged or falls off the bus: it and its partitions are gone until it is plugged in again.
    pub fn pull(&self, address: Address) {
        let mut inside = self.inside();
        inside.kernel.lose(address);
        inside.kernel.removed.remove(&address);
        inside.pulled.insert(address);
    }

    /// Plugs a function in again: the same one, or one with another serial number. The kernel binds it to its driver.
    pub fn plug(&self, address: Address, serial: Option<&str>) {
        let mut inside = self.inside();
        if let Some(serial) = serial {
            inside.kernel.serials.insert(address, serial.into());
        }
        inside.pulled.remove(&address);
        let known = inside.kernel.known.functions.contains_key(&address);
        if known && !inside.kernel.functions.contains_key(&address) {
            inside.kernel.find(address);
        }
    }

    /// A function, everything below it and its virtual functions stop responding: a lost link, or an error that AER
    /// could not recover. They are still listed.
    pub fn lose_link(&self, address: Address) {
        let kernel = &mut self.inside().kernel;
        let below = kernel.known.below(address).map(|function| function.address);
        let mut silent: BTreeSet<Address> =
            below.chain(kernel.virtual_functions(address)).collect();
        silent.insert(address);
        silent.retain(|address| kernel.functions.contains_key(address));
        kernel.silent.extend(silent);
    }

    /// Ends the effect of [`lose_link`](Self::lose_link).
    pub fn regain_link(&self, address: Address) {
        let kernel = &mut self.inside().kernel;
        let back: BTreeSet<Address> = kernel
            .known
            .below(address)
            .map(|function| function.address)
            .chain(kernel.virtual_functions(address))
            .chain([address])
            .collect();
        kernel.silent.retain(|address| !back.contains(address));
    }

    /// A link trains to another speed or width.
    pub fn set_link(&self, address: Address, link: LinkBaseline) {
        self.inside().kernel.links.insert(address, link);
    }

    /// Freeing this vGPU fails this many times before it works.
    pub fn slow_vgpu(&self, address: Address, times: u32) {
        self.inside().kernel.releasing.insert(address, times);
    }
}
