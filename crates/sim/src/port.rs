//! The simulated host as the engine sees it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::{
    Address, AsFound, BlockDevice, BlockError, BlockUse, Capacity, Checked, CpuLayout, Disk,
    FabricSets, Fingerprint, Holder, Host, HostDisplay, HostError, HostKernel, HostLock,
    HostLockError, HugePool, Inventory, LinkBaseline, Lock, LockHolder, Mark, MdevDefinition,
    Moment, NodeAccess, Observed, Step, UsbDevice, VfSettings,
};

use crate::fault::{self, Fault};
use crate::host::{Inside, SimHost};
use crate::kernel::{EIO, Errno, Outcome, refused};

impl Inside {
    fn found(&self, address: Address) -> Result<AsFound, HostError> {
        self.expect_readable("driver_override", address)?;
        let kernel = &self.kernel;
        let gone = HostError::Gone { address };
        let state = kernel.functions.get(&address).ok_or(gone.clone())?;
        let function = kernel.known.function(address).ok_or(gone)?;
        let link = kernel.links.get(&address).copied();
        Ok(AsFound {
            address,
            driver: state.driver.clone(),
            driver_override: state.driver_override.clone(),
            power: Some(state.power),
            link: link.filter(|_| !kernel.silent.contains(&address)),
            fingerprint: Fingerprint {
                vendor: function.vendor,
                device: function.device,
                subsystem_vendor: function.subsystem_vendor,
                subsystem_device: function.subsystem_device,
                serial: kernel.serials.get(&address).cloned(),
                slot_path: format!("{:02x}.{}", address.device(), address.function()),
            },
        })
    }

    /// A step, with its fault.
    fn perform(&mut self, step: &Step) -> Result<(), HostError> {
        let fault = self.faults.hit(step);
        if let (Some(Fault::Lose), Some(address)) = (fault, step.address()) {
            self.kernel.lose(address);
            return Err(HostError::Gone { address });
        }
        match fault {
            Some(Fault::Refuse) => Err(refused(step, EIO)),
            Some(Fault::Error(pick)) => Err(refused(step, fault::error(step, pick))),
            Some(Fault::Hang) => Err(self.hang(step)),
            _ if self.kernel.blocks(step) => Err(self.wait_inside(step)),
            Some(Fault::DoneAfterAll) => {
                self.kernel.perform(step)?;
                Err(refused(step, EIO))
            }
            Some(Fault::Ignored) => {
                if self.kernel.prepare(step)? {
                    self.kernel.see(step)
                } else {
                    Ok(())
                }
            }
            Some(Fault::Fewer(fewer)) if matches!(step, Step::SetVfCount { .. }) => {
                self.kernel.fewer = fewer;
                self.perform_oddly(step)
            }
            Some(Fault::NeverBack) if matches!(step, Step::Reset { .. }) => {
                self.kernel.outcome = Outcome::Silent;
                self.perform_oddly(step)
            }
            Some(Fault::SlowerLink) if matches!(step, Step::Reset { .. }) => {
                self.kernel.outcome = Outcome::Slower;
                self.perform_oddly(step)
            }
            Some(Fault::Fewer(_) | Fault::NeverBack | Fault::SlowerLink) => Err(refused(step, EIO)),
            Some(Fault::Lose) | None => self.kernel.perform(step),
        }
    }

    /// A fault of this step does not hit another one.
    fn perform_oddly(&mut self, step: &Step) -> Result<(), HostError> {
        let result = self.kernel.perform(step);
        self.kernel.fewer = 0;
        self.kernel.outcome = Outcome::Well;
        result
    }
}

impl Disk for SimHost {
    fn free_space(&self, _: &Path) -> Result<u64, HostError> {
        let small = self.inside().disk.clone();
        Ok(small.map_or(u64::MAX, |(dir, size)| size.saturating_sub(used_below(&dir))))
    }

    fn write_out(&self, _: &Path) {}

    fn between_changes(&self) {
        let mut inside = self.inside();
        let Some(left) = &mut inside.file_changes_left else { return };
        if *left > 0 {
            *left -= 1;
            return;
        }
        // It stays 0: the process does nothing any more.
        inside.has_died = true;
        drop(inside);
        std::panic::resume_unwind(Box::new(crate::Died));
    }
}

/// Bytes on disk of the files below a directory. Files that vanish meanwhile are not counted.
fn used_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let used = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => used_below(&entry.path()),
        Ok(found) => found.blocks().saturating_mul(512),
        Err(_) => 0,
    };
    entries.flatten().map(used).sum()
}

impl Host for SimHost {
    fn lock_host(&self, state_dir: &Path) -> Result<Box<dyn HostLock>, HostLockError> {
        let holder = LockHolder {
            pid: Some(std::process::id()),
            state_dir: Some(state_dir.to_owned()),
            ..LockHolder::default()
        };
        self.take_lock(holder).map_err(HostLockError::Held)
    }

    fn boot_id(&self) -> Result<String, HostError> {
        Ok(self.inside().boot.to_string())
    }

    fn now(&self) -> Moment {
        let inside = self.inside();
        let elapsed = inside.started.elapsed() + inside.slept;
        let unix = inside.started_at.saturating_add(elapsed.as_secs());
        Moment { unix: unix.saturating_add_signed(inside.clock_error), uptime: elapsed }
    }

    fn inventory(&self) -> Result<Inventory, HostError> {
        Ok(self.inside().kernel.listing())
    }

    fn complete(&self, inventory: &mut Inventory, addresses: &[Address]) {
        let inside = self.inside();
        for address in addresses {
            let Some(function) = inventory.functions.get_mut(address) else { continue };
            if inside.is_stuck(&Lock::Function(*address)) {
                function.notes.push("it could not be read within 10 s".into());
                continue;
            }
            function.detail = Some(Box::new(inside.kernel.detail(*address)));
            if inside.kernel.silent.contains(address) {
                let note = "its configuration space reads as all ones: it does not respond";
                function.notes.push(note.into());
            }
        }
    }

    fn answers(&self, inventory: &mut Inventory, addresses: &[Address]) {
        let inside = self.inside();
        let silent = addresses.iter().filter(|address| inside.kernel.silent.contains(*address));
        for address in silent {
            let Some(function) = inventory.functions.get_mut(address) else { continue };
            function.detail.get_or_insert_default().silent = true;
        }
    }

    fn vf_settings(&self, parent: Address, index: u16) -> Result<VfSettings, HostError> {
        let inside = self.inside();
        inside.expect_readable("the virtual functions", parent)?;
        inside.kernel.vf_settings(parent, index).map_err(|(errno, words): Errno| HostError::File {
            action: format!("ask {parent} for its virtual function {index} by"),
            path: "netlink".into(),
            reason: words.into(),
            errno: Some(errno),
        })
    }

    fn mdev_definitions(&self) -> Vec<MdevDefinition> {
        self.inside().kernel.definitions.values().cloned().collect()
    }

    fn boot_list(&self) -> Vec<Address> {
        let inside = self.inside();
        inside.reserved.iter().chain(inside.kernel.boot_list.keys()).copied().collect()
    }

    fn applies_boot_list(&self) -> bool {
        self.inside().has_initramfs_tool
    }

    fn as_found(&self, addresses: &[Address]) -> Result<Vec<AsFound>, HostError> {
        let inside = self.inside();
        addresses.iter().map(|address| inside.found(*address)).collect()
    }

    fn group_nodes(&self, groups: &[u32]) -> Result<BTreeMap<u32, NodeAccess>, HostError> {
        let mut nodes = self.inside().kernel.nodes.clone();
        nodes.retain(|group, _| groups.contains(group));
        Ok(nodes)
    }

    fn marks(&self, addresses: &[Address]) -> Result<BTreeMap<Address, Mark>, HostError> {
        let inside = self.inside();
        let mark = |address: &Address| {
            Some((*address, inside.kernel.functions.get(address)?.mark.clone()?))
        };
        Ok(addresses.iter().filter_map(mark).collect())
    }

    fn holders(&self, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
        let inside = self.inside();
        if inside.holders_hidden {
            let step = "reading /proc/4711/maps".into();
            return Err(HostError::Deadline { step, seconds: 10 });
        }
        Ok(inside.kernel.holders_of(addresses))
    }

    fn reattach_usb(&self, device: &model::UsbDevice) {
        self.inside().reattached.push(device.clone());
    }

    fn usb_devices(&self) -> Vec<UsbDevice> {
        self.inside().usb.clone()
    }

    fn display(&self, addresses: &[Address]) -> Result<HostDisplay, HostError> {
        Ok(self.inside().kernel.display_of(addresses))
    }

    fn fabric_sets(&self) -> Result<Option<FabricSets>, HostError> {
        Ok(self.inside().kernel.fabric.clone())
    }

    fn check(&self, address: Address, link: Option<LinkBaseline>) -> Result<Checked, HostError> {
        let inside = self.inside();
        inside.expect_readable("the configuration space", address)?;
        if !inside.kernel.functions.contains_key(&address) {
            return Err(HostError::Gone { address });
        }
        Ok(inside.kernel.checked(address, link))
    }

    fn observe(&self, step: &Step) -> Result<Observed, HostError> {
        let inside = self.inside();
        inside.expect_free(step, [&step.lock()])?;
        inside.kernel.observed(step)
    }

    fn perform(&self, step: &Step) -> Result<(), HostError> {
        let (locks, made) = {
            let inside = self.inside();
            let locks = inside.locks(step);
            inside.expect_free(step, &locks)?;
            (locks, inside.kernel.observe(step) == Ok(Observed::After))
        };
        let _turn = self.turns.take(locks.iter().cloned().collect());
        if !made {
            self.take_time(step);
        }
        let mut inside = self.inside();
        // A worker of another step may have got stuck while this one waited for its turn.
        inside.expect_free(step, &locks)?;
        inside.performed += 1;
        inside.perform(step)
    }

    fn is_locked(&self, lock: &Lock) -> Result<bool, HostError> {
        Ok(self.inside().is_stuck(lock) || self.turns.is_busy(lock))
    }

    fn cpu_layout(&self) -> CpuLayout {
        self.inside().cpu_layout.clone()
    }

    fn kernel(&self) -> Option<HostKernel> {
        self.inside().booted.clone()
    }

    fn huge_pools(&self) -> Vec<HugePool> {
        self.inside().huge_pools.clone()
    }

    fn block_device(&self, allowed: &[PathBuf], name: &str) -> Result<BlockDevice, BlockError> {
        model::check_block_name(name)?;
        let is = |device: &BlockDevice| allowed.iter().any(|dir| device.path == dir.join(name));
        let inside = self.inside();
        let found = inside.blocks.iter().find(|(device, _)| is(device));
        found
            .map(|(device, _)| device.clone())
            .ok_or_else(|| BlockError::Missing { name: name.to_owned(), allowed: allowed.to_vec() })
    }

    fn block_use(&self, device: &BlockDevice) -> Result<BlockUse, HostError> {
        let inside = self.inside();
        let found = inside.blocks.iter().find(|(other, _)| other.path == device.path);
        Ok(found.map(|(_, found)| found.clone()).unwrap_or_default())
    }

    fn capacity(&self) -> Result<Capacity, HostError> {
        Ok(self.inside().capacity)
    }
}
