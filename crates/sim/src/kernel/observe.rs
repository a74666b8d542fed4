//! What the host shows of a step.

use std::fmt::Debug;

use model::{Address, NodeAccess, Observed, Step, VfSettings};

use super::{ENOENT, Errno, FunctionState, Kernel};

impl Kernel {
    /// What the host shows of a step now.
    ///
    /// # Errors
    /// Where what tells it cannot be read.
    pub(crate) fn observe(&self, step: &Step) -> Result<Observed, Errno> {
        match step {
            Step::LoadModule { module } => return Ok(told(self.modules.contains(module))),
            // A process and a unit are there or not, whatever became of the function.
            Step::Evict { pid, started, .. } => return Ok(told(!self.is_alive(*pid, *started))),
            Step::SetUnit { unit, to, .. } => {
                return Ok(self.units.get(unit).map_or(Observed::Absent, |on| told(on == to)));
            }
            _ => {}
        }
        // So is a file, also of a device that is gone.
        if let Some(ours) = step.definition() {
            let there = self.definitions.get(&ours.uuid);
            let write = matches!(step, Step::DefineMdev { .. });
            return Ok(match there {
                None => told(!write),
                Some(there) if *there == ours => told(write),
                Some(_) => Observed::Other("another definition".into()),
            });
        }
        if let Some(ours) = step.reservation() {
            let write = matches!(step, Step::ReserveAtBoot { .. });
            return Ok(match self.boot_list.get(&ours.address) {
                None => told(!write),
                Some(there) if *there == ours => told(write),
                Some(there) => Observed::Other(format!("it reserved as {there}")),
            });
        }
        let Some(address) = step.address() else { return Ok(Observed::Absent) };
        let Some(state) = self.functions.get(&address) else { return Ok(Observed::Absent) };
        match step {
            Step::SetVfCount { from, to, .. } => {
                // None: between the two writes that a change of the number takes.
                Ok(match self.vf_count(address).ok_or(ENOENT)? {
                    now if now == *to => Observed::After,
                    now if now == *from || now == 0 => Observed::Before,
                    now => Observed::Other(format!("{now} virtual functions")),
                })
            }
            Step::SetVf { parent, index, from, to, .. } => {
                Ok(settings(&self.vf_settings(*parent, *index)?, from, to))
            }
            _ => Ok(self.of_function(step, address, state).unwrap_or(Observed::Absent)),
        }
    }

    /// `None` where what the step is about is not there.
    fn of_function(&self, step: &Step, at: Address, state: &FunctionState) -> Option<Observed> {
        Some(match step {
            Step::GrantGroup { group, from, to, .. } => match self.group_of(at) {
                Some(now) if now != *group => Observed::Other(format!("{at} in IOMMU group {now}")),
                _ => access(self.nodes.get(group)?, from, to),
            },
            Step::GrantNode { node, from, to, .. } => access(&self.node(at, *node)?, from, to),
            Step::SetOverride { from, to, .. } => compare(&state.driver_override, from, to),
            // Drivers set it too when they bind: what is not as it shall be is as it was.
            Step::SetPower { to, .. } => told(state.power == *to),
            Step::Unbind { driver, .. } => compare(&state.driver, &Some(driver.clone()), &None),
            Step::Bind { driver, .. } | Step::Return { driver, .. } => {
                compare(&state.driver, &None, &Some(driver.clone()))
            }
            Step::SetPersistence { to, .. } => told(state.persistence? == *to),
            // It leaves nothing that shows.
            Step::Reset { .. } => Observed::Before,
            Step::SetAutoprobe { to, .. } => match state.autoprobe {
                Some(now) => told(now == *to),
                None => Observed::Other("no sriov_drivers_autoprobe".into()),
            },
            Step::CreateMdev { uuid, type_id, .. } => match self.mdevs.get(uuid) {
                None => Observed::Before,
                Some(mdev) if mdev.parent == at && mdev.type_id == *type_id => Observed::After,
                Some(mdev) => Observed::Other(format!("{} of {}", mdev.type_id, mdev.parent)),
            },
            Step::RemoveMdev { uuid, type_id, .. } => match self.mdevs.get(uuid) {
                None => Observed::After,
                Some(mdev) if mdev.parent == at && mdev.type_id == *type_id => Observed::Before,
                Some(mdev) => Observed::Other(format!("{} of {}", mdev.type_id, mdev.parent)),
            },
            Step::SetMdevAttribute { uuid, name, value, .. } => {
                let mdev = self.mdevs.get(uuid).filter(|mdev| mdev.parent == at)?;
                told(mdev.attributes.get(name) == Some(value))
            }
            Step::SetVgpu { from, to, .. } => compare(&state.vgpu?, from, to),
            Step::LoadModule { .. }
            | Step::DefineMdev { .. }
            | Step::UndefineMdev { .. }
            | Step::ReserveAtBoot { .. }
            | Step::UnreserveAtBoot { .. }
            | Step::Evict { .. }
            | Step::SetUnit { .. }
            | Step::SetVfCount { .. }
            | Step::SetVf { .. } => return None,
        })
    }
}

fn told(after: bool) -> Observed {
    if after { Observed::After } else { Observed::Before }
}

fn compare<T: PartialEq + Debug>(now: &T, before: &T, after: &T) -> Observed {
    if now == after {
        Observed::After
    } else if now == before {
        Observed::Before
    } else {
        Observed::Other(format!("{now:?}"))
    }
}

/// udev may have given a new node another mode by the administrator's rules. While root owns it, nobody has it yet.
fn access(now: &NodeAccess, from: &NodeAccess, to: &NodeAccess) -> Observed {
    let root = NodeAccess::KERNEL_DEFAULT.uid;
    if now != to && from.uid == root && now.uid == root {
        return Observed::Before;
    }
    compare(now, from, to)
}

/// Settings are made one after another: some may be as before still, and some as after.
fn settings(now: &VfSettings, from: &VfSettings, to: &VfSettings) -> Observed {
    fn either<T: PartialEq>(now: Option<T>, from: Option<T>, to: Option<T>) -> bool {
        to.is_none() || now == from || now == to
    }
    if to.holds_in(now) {
        return Observed::After;
    }
    let ours = either(now.mac, from.mac, to.mac)
        && either(now.vlan, from.vlan, to.vlan)
        && either(now.qos, from.qos, to.qos)
        && either(now.trust, from.trust, to.trust)
        && either(now.spoof_check, from.spoof_check, to.spoof_check)
        && either(now.min_rate, from.min_rate, to.min_rate)
        && either(now.max_rate, from.max_rate, to.max_rate);
    if ours { Observed::Before } else { Observed::Other(format!("it with {}", now.only(to))) }
}
