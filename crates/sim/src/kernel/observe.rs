//! What the host shows of a step.

use std::fmt::Debug;

use model::{Address, Observed, Step};

use super::{FunctionState, Kernel};

impl Kernel {
    pub(crate) fn observe(&self, step: &Step) -> Observed {
        let Some(address) = step.address() else {
            let Step::LoadModule { module } = step else { return Observed::Absent };
            return told(self.modules.contains(module));
        };
        let Some(state) = self.functions.get(&address) else { return Observed::Absent };
        self.of_function(step, address, state).unwrap_or(Observed::Absent)
    }

    /// `None` where what the step is about is not there.
    fn of_function(&self, step: &Step, at: Address, state: &FunctionState) -> Option<Observed> {
        Some(match step {
            Step::LoadModule { .. } => return None,
            Step::GrantGroup { group, from, to, .. } => match self.group_of(at) {
                Some(now) if now != *group => Observed::Other(format!("{at} in IOMMU group {now}")),
                _ => compare(self.nodes.get(group)?, from, to),
            },
            Step::GrantNode { node, from, to, .. } => compare(&self.node(at, *node)?, from, to),
            Step::SetOverride { from, to, .. } => compare(&state.driver_override, from, to),
            // Drivers set it too when they bind: what is not as it shall be is as it was.
            Step::SetPower { to, .. } => told(state.power == *to),
            Step::Unbind { driver, .. } => compare(&state.driver, &Some(driver.clone()), &None),
            Step::Bind { driver, .. } | Step::Return { driver, .. } => {
                compare(&state.driver, &None, &Some(driver.clone()))
            }
            Step::Evict { pid, started, .. } => told(!self.is_alive(*pid, *started)),
            Step::SetPersistence { to, .. } => told(state.persistence? == *to),
            Step::SetUnit { unit, to, .. } => told(self.units.get(unit)? == to),
            // It leaves nothing that shows.
            Step::Reset { .. } => Observed::Before,
            Step::SetVfCount { from, to, .. } => match self.vf_count(at)? {
                now if now == *to => Observed::After,
                now if now == *from => Observed::Before,
                now => Observed::Other(format!("{now} virtual functions")),
            },
            Step::SetAutoprobe { to, .. } => told(state.autoprobe? == *to),
            Step::SetVf { parent, index, from, to, .. } => {
                if self.virtual_functions(*parent).nth((*index).into()) != Some(at) {
                    return None;
                }
                let now = self.vf_settings(*parent, *index).ok()?;
                if to.holds_in(&now) {
                    Observed::After
                } else if from.holds_in(&now) {
                    Observed::Before
                } else {
                    Observed::Other(now.to_string())
                }
            }
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
                told(self.mdevs.get(uuid)?.attributes.get(name) == Some(value))
            }
            Step::SetVgpu { from, to, .. } => compare(&state.vgpu?, from, to),
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
