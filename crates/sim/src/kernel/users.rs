//! Users of devices: processes, units, and NVIDIA's persistence daemon.

use model::{Address, Holder, HolderKind};

use super::{ENODEV, ENOENT, Errno, Kernel};

/// A holder, and whether it ignores SIGTERM.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub(crate) holder: Holder,
    pub(crate) stubborn: bool,
}

/// The unit and the pid of NVIDIA's persistence daemon.
const PERSISTENCED: (&str, u32) = ("nvidia-persistenced.service", 900);

impl Kernel {
    /// The users of these functions.
    pub(crate) fn holders_of(&self, addresses: &[Address]) -> Vec<Holder> {
        let explicit = self.holders.iter().map(|using| using.holder.clone());
        let explicit = explicit.filter(|holder| addresses.contains(&holder.address));
        let persistent = addresses.iter().filter(|address| self.is_kept_awake(**address));
        let drawing = self.drawing().into_iter();
        explicit
            .chain(persistent.map(|address| persistenced(*address)))
            .chain(drawing.filter(|holder| addresses.contains(&holder.address)))
            .collect()
    }

    /// Whether the persistence daemon has the GPU open: while it runs and the GPU's persistence mode is on.
    fn is_kept_awake(&self, address: Address) -> bool {
        self.units.get(PERSISTENCED.0) == Some(&true)
            && self.state(address).is_ok_and(|state| state.persistence == Some(true))
    }

    /// A function's interfaces disappear with its driver, and with them what the host's network does over them.
    pub(crate) fn drop_network(&mut self, address: Address) {
        self.holders.retain(|using| {
            using.holder.kind != HolderKind::Network || using.holder.address != address
        });
    }

    /// Whether a process still uses a device.
    pub(super) fn is_alive(&self, pid: u32, started: u64) -> bool {
        let all: Vec<Address> = self.functions.keys().copied().collect();
        self.holders_of(&all).iter().any(|holder| is(holder, pid, started))
    }

    /// Whether a process ignores SIGTERM.
    pub(super) fn is_stubborn(&self, pid: u32, started: u64) -> bool {
        self.holders.iter().any(|using| using.stubborn && is(&using.holder, pid, started))
    }

    /// SIGTERM.
    pub(super) fn evict(&mut self, pid: u32, started: u64) {
        self.holders.retain(|using| using.stubborn || !is(&using.holder, pid, started));
        if pid == PERSISTENCED.1 {
            self.switch_unit(PERSISTENCED.0, false);
        }
    }

    /// `nvidia-smi -pm`.
    pub(super) fn set_persistence(&mut self, address: Address, on: bool) -> Result<(), Errno> {
        self.state(address)?.persistence.ok_or(ENODEV)?;
        self.change(address, |state| state.persistence = Some(on))
    }

    pub(super) fn set_unit(&mut self, unit: &str, on: bool) -> Result<(), Errno> {
        if !self.units.contains_key(unit) {
            return Err(ENOENT);
        }
        self.switch_unit(unit, on);
        Ok(())
    }

    fn switch_unit(&mut self, unit: &str, on: bool) {
        let was = self.units.insert(unit.into(), on);
        if on && was != Some(true) {
            self.unit_started(unit);
        }
        // When it exits, it disables persistence mode for all GPUs.
        if !on && was == Some(true) && unit == PERSISTENCED.0 {
            for state in self.functions.values_mut() {
                state.persistence = state.persistence.map(|_| false);
            }
        }
    }

    /// The persistence daemon enables persistence mode for the GPUs that it finds.
    pub(super) fn unit_started(&mut self, unit: &str) {
        if unit != PERSISTENCED.0 {
            return;
        }
        for address in &self.hardware.persistent {
            if let Some(state) = self.functions.get_mut(address) {
                state.persistence = state.persistence.map(|_| true);
            }
        }
    }
}

fn is(holder: &Holder, pid: u32, started: u64) -> bool {
    holder.pid == Some(pid) && holder.started.is_none_or(|then| then == started)
}

fn persistenced(address: Address) -> Holder {
    let (unit, pid) = PERSISTENCED;
    Holder {
        address,
        kind: HolderKind::Process,
        pid: Some(pid),
        started: Some(pid.into()),
        program: Some("nvidia-persiste".into()),
        user: format!("nvidia-persistenced (pid {pid}, {unit})"),
        by: "/dev/nvidia0".into(),
        mdev: None,
        interface: None,
    }
}
