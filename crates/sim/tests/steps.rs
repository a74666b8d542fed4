//! Every step is visible, and can be undone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;

use model::boot_list::BootListEntry;
use model::{
    Address, Function, Host, Mac, Mark, NodeAccess, Observed, PowerControl, Step, VfSettings,
    VfioNode, is_vfio,
};
use proptest::prelude::*;
use sim::{FunctionState, SimHost, Snapshot, gpus, server, workstation};
use uuid::Uuid;

const OURS: NodeAccess = NodeAccess { uid: 200_000, gid: 0, mode: 0o600 };
const UNIT: &str = "nvidia-persistenced.service";

/// The default settings of a virtual function.
fn untold() -> VfSettings {
    VfSettings {
        mac: Some(Mac([0; 6])),
        vlan: Some(0),
        qos: Some(0),
        trust: Some(false),
        spoof_check: Some(true),
        min_rate: Some(0),
        max_rate: Some(0),
    }
}

fn kind(step: &Step) -> String {
    format!("{step:?}").split(' ').next().unwrap().to_owned()
}

/// A random step: first a random kind, because most steps are of few kinds, then a step of that kind.
fn pick(candidates: Vec<Step>, pick: u16) -> Option<Step> {
    let kinds: Vec<String> =
        candidates.iter().map(kind).collect::<BTreeSet<_>>().into_iter().collect();
    let wanted = kinds.get(usize::from(pick) % kinds.len())?;
    let of: Vec<Step> = candidates.into_iter().filter(|step| kind(step) == *wanted).collect();
    of.get(usize::from(pick) / kinds.len() % of.len()).cloned()
}

/// The possible steps on a host.
struct Candidates<'a> {
    host: &'a SimHost,
    now: Snapshot,
    steps: Vec<Step>,
}

impl<'a> Candidates<'a> {
    /// All steps with a complete inverse. Values that depend on a driver must be the driver's defaults.
    fn of(host: &'a SimHost) -> Vec<Step> {
        let mut all = Self { host, now: host.snapshot(), steps: Vec::new() };
        let inventory =
            host.detail(&all.now.functions.keys().copied().collect::<Vec<_>>()).unwrap();
        for function in
            inventory.functions.values().filter(|f| f.driver.as_deref() != Some("pcieport"))
        {
            let state = all.now.functions[&function.address].clone();
            all.binding(function, &state);
            all.access(function);
            all.counting(function, &state);
            all.parts(function, &state);
            all.switches(function.address, &state);
        }
        all.steps
    }

    fn binding(&mut self, function: &Function, state: &FunctionState) {
        let address = function.address;
        self.steps.push(match &state.mark {
            Some(mark) => Step::Unmark { address, mark: mark.clone() },
            None => Step::Mark {
                address,
                mark: Mark { store: Uuid::nil(), claim: Uuid::nil(), state_dir: "/".into() },
            },
        });
        let vfio = Some("vfio-pci".to_owned());
        let to = if state.driver_override.is_none() { vfio } else { None };
        self.steps.push(Step::SetOverride { address, from: state.driver_override.clone(), to });
        for to in [PowerControl::On, PowerControl::Auto] {
            if to != state.power {
                self.steps.push(Step::SetPower { address, from: state.power, to });
            }
        }
        let group = |node: &NodeAccess| *node == NodeAccess::KERNEL_DEFAULT;
        let fresh = self.now.nodes.get(&function.iommu_group.unwrap()).is_none_or(group)
            && self.now.vf_nodes.get(&address).is_none_or(group)
            && self.now.device_nodes.get(&address).is_none_or(group);
        let plain = state.persistence != Some(true)
            && state.vgpu.is_none_or(|current| current == 0)
            && function.virtual_functions().is_empty()
            && function.mdevs.is_empty();
        match (&state.driver, &state.driver_override) {
            (Some(driver), reserved) => {
                // A return must find the driver that the unbind left.
                let finds = reserved.as_ref().map_or(!is_vfio(driver, driver), |to| to == driver);
                if fresh && plain && finds && self.may_probe(function, reserved.is_some()) {
                    self.steps.push(Step::Unbind { address, driver: driver.clone() });
                }
            }
            (None, Some(driver)) => self.steps.push(Step::Bind { address, driver: driver.clone() }),
            (None, None) => {
                let driver = self.host.detail(&[address]).unwrap();
                let driver = driver.function(address).unwrap().detail.as_ref().unwrap();
                let native = driver.candidate_drivers.first().cloned();
                if let Some(driver) = native.filter(|_| self.may_probe(function, false)) {
                    self.steps.push(Step::Return { address, driver });
                }
            }
        }
    }

    fn may_probe(&self, function: &Function, reserved: bool) -> bool {
        let parent = function.physical_function;
        reserved || parent.is_none_or(|p| self.now.functions[&p].autoprobe == Some(true))
    }

    fn access(&mut self, function: &Function) {
        let address = function.address;
        let group = function.iommu_group.unwrap();
        let other = |now: NodeAccess| if now == OURS { NodeAccess::KERNEL_DEFAULT } else { OURS };
        let nodes = self.host.group_nodes(&[group]).unwrap();
        if let Some(from) = nodes.get(&group).copied() {
            self.steps.push(Step::GrantGroup { address, group, from, to: other(from) });
        }
        if let Some(from) = self.now.device_nodes.get(&address).copied() {
            let (node, to) = (VfioNode::Device, other(from));
            self.steps.push(Step::GrantNode { address, node, from, to });
        }
        let BootListEntry { address: _, vendor, device, driver } = BootListEntry::of(function);
        let reserve = Step::AddToBootList { address, vendor, device, driver };
        match self.now.boot_list.contains_key(&address) {
            false => self.steps.push(reserve),
            true => self.steps.extend(reserve.inverse()),
        }
        for mdev in &function.mdevs {
            let from = self.now.mdev_nodes[&mdev.uuid];
            let (node, to) = (VfioNode::MdevGroup(mdev.uuid), other(from));
            self.steps.push(Step::GrantNode { address, node, from, to });
        }
    }

    fn counting(&mut self, function: &Function, state: &FunctionState) {
        let address = function.address;
        let Some(sriov) = function.sriov.clone() else { return };
        let autoprobe = state.autoprobe.unwrap();
        self.steps.push(Step::SetAutoprobe { address, from: autoprobe, to: !autoprobe });
        if state.driver.as_ref().is_none_or(|driver| is_vfio(driver, "vfio-pci")) {
            return;
        }
        let new = |vf: &Address| {
            let state = &self.now.functions[vf];
            let new = state.settings.as_ref().is_none_or(|told| *told == untold());
            new && state.driver.is_some() == autoprobe
                && state.driver.as_ref().is_none_or(|driver| !is_vfio(driver, "vfio-pci"))
                && state.driver_override.is_none()
                && state.power == PowerControl::Auto
                && state.mark.is_none()
                && state.vgpu.is_none_or(|current| current == 0)
        };
        if sriov.present.iter().all(new) {
            let from = u16::try_from(sriov.present.len()).unwrap();
            let counts = [0, 1, sriov.total].into_iter().filter(|to| *to != from);
            self.steps.extend(counts.map(|to| Step::SetVfCount { address, from, to }));
        }
    }

    fn parts(&mut self, function: &Function, state: &FunctionState) {
        let address = function.address;
        let detail = function.detail.as_ref().unwrap();
        for kind in detail.mdev_types.iter().filter(|kind| kind.available != Some(0)) {
            let uuid =
                (0..).map(Uuid::from_u128).find(|id| !self.now.mdevs.contains_key(id)).unwrap();
            self.steps.push(Step::CreateMdev { address, uuid, type_id: kind.id.clone() });
        }
        for (uuid, mdev) in self.now.mdevs.iter().filter(|(_, mdev)| mdev.parent == address) {
            let (uuid, type_id) = (*uuid, mdev.type_id.clone());
            if mdev.attributes.is_empty()
                && self.now.mdev_nodes[&uuid] == NodeAccess::KERNEL_DEFAULT
            {
                self.steps.push(Step::RemoveMdev { address, uuid, type_id });
            }
        }
        for uuid in (0..2).map(Uuid::from_u128) {
            let (type_id, attributes) = ("nvidia-468".to_owned(), Vec::new());
            let define = Step::DefineMdev { address, uuid, type_id, attributes };
            match self.now.definitions.get(&uuid) {
                None => self.steps.push(define),
                Some(there) if Some(there) == define.definition().as_ref() => {
                    self.steps.extend(define.inverse());
                }
                Some(_) => {}
            }
        }
        for kind in detail.vgpu.iter().flat_map(|vgpu| &vgpu.creatable) {
            self.steps.push(Step::SetVgpu { address, from: 0, to: kind.id });
        }
        let fresh = self.now.vf_nodes.get(&address) == Some(&NodeAccess::KERNEL_DEFAULT)
            && self.now.device_nodes.get(&address) == Some(&NodeAccess::KERNEL_DEFAULT);
        if let Some(from) = state.vgpu.filter(|current| *current != 0 && fresh) {
            self.steps.push(Step::SetVgpu { address, from, to: 0 });
        }
        let Some(parent) = function.physical_function else { return };
        let siblings = self.host.inventory().unwrap();
        let siblings = siblings.function(parent).unwrap().virtual_functions().to_vec();
        let index = u16::try_from(siblings.iter().position(|vf| *vf == address).unwrap()).unwrap();
        if let Ok(found) = self.host.vf_settings(parent, index) {
            let none = VfSettings::default();
            let vlan = if found.vlan == Some(0) { 5 } else { 0 };
            for to in [
                VfSettings { mac: Some(Mac([2, 0, 0, 0, 0, 1])), ..none.clone() },
                VfSettings { vlan: Some(vlan), qos: Some(3), ..none.clone() },
                VfSettings { max_rate: Some(100), min_rate: Some(10), ..none },
            ] {
                if to.holds_in(&found) {
                    continue;
                }
                let from = found.only(&to);
                self.steps.push(Step::SetVf { address, parent, index, from, to });
            }
        }
    }

    fn switches(&mut self, address: Address, state: &FunctionState) {
        if let Some(from) = state.persistence {
            self.steps.push(Step::SetPersistence { address, from, to: !from });
        }
        // The unit itself changes persistence mode: on for its known GPU, off for all.
        let on = self.now.units.get(UNIT).copied();
        let switched: Vec<bool> =
            self.now.functions.values().filter_map(|s| s.persistence).collect();
        let (unit, known) = (UNIT.to_owned(), address == "0000:05:00.0".parse().unwrap());
        let one = known && state.persistence.is_some();
        let count = switched.iter().filter(|on| **on).count();
        match on {
            Some(true) if one && state.persistence == Some(true) && count == 1 => {
                self.steps.push(Step::SetUnit { address, unit, from: true, to: false });
            }
            Some(false) if one && count == 0 => {
                self.steps.push(Step::SetUnit { address, unit, from: false, to: true });
            }
            _ => {}
        }
    }
}

/// Drivers set power control themselves: a plan's last step sets it for a function with a new driver.
fn without_power(mut snapshot: Snapshot, of: &BTreeSet<Address>) -> Snapshot {
    for address in of {
        if let Some(state) = snapshot.functions.get_mut(address) {
            state.power = PowerControl::On;
        }
    }
    snapshot
}

fn host(which: u8) -> SimHost {
    let host = match which {
        0 => SimHost::seeded(server(), 3),
        1 => SimHost::new(gpus()),
        _ => SimHost::new(workstation()),
    };
    for module in ["vfio_pci", "vfio_iommu_type1"] {
        host.perform(&Step::LoadModule { module: module.into() }).unwrap();
    }
    host
}

/// Random steps that this host accepts; each is visible afterwards.
fn walk(host: &SimHost, picks: &[u16]) -> (Vec<(Snapshot, Step)>, BTreeSet<Address>) {
    let (mut done, mut driven) = (Vec::new(), BTreeSet::new());
    for turn in picks {
        let Some(step) = pick(Candidates::of(host), *turn) else { continue };
        let before = host.snapshot();
        assert_eq!(host.observe(&step), Ok(Observed::Before), "{}", step.describe());
        if let Err(error) = host.perform(&step) {
            panic!("{}: {error}", step.describe());
        }
        assert_eq!(host.observe(&step), Ok(Observed::After), "{}", step.describe());
        // The step is idempotent.
        let after = host.snapshot();
        host.perform(&step).unwrap();
        assert_eq!(host.snapshot(), after);
        if matches!(step, Step::Unbind { .. } | Step::Bind { .. } | Step::Return { .. }) {
            driven.extend(step.address());
        }
        done.push((before, step));
    }
    (done, driven)
}

/// The walks include every kind of step that has an inverse.
#[test]
fn no_kind_of_step_is_left_out() {
    let host = host(0);
    let picks: Vec<u16> =
        (0..1500u32).map(|n| (n.wrapping_mul(40_503) >> 3 & 0xffff) as u16).collect();
    let (done, _) = walk(&host, &picks);
    let kinds: BTreeSet<String> = done.iter().map(|(_, step)| kind(step)).collect();
    for kind in [
        "Mark",
        "Unmark",
        "SetOverride",
        "Unbind",
        "Bind",
        "Return",
        "SetPower",
        "GrantGroup",
        "GrantNode",
        "SetPersistence",
        "SetUnit",
        "SetVfCount",
        "SetAutoprobe",
        "SetVf",
        "CreateMdev",
        "RemoveMdev",
        "DefineMdev",
        "UndefineMdev",
        "AddToBootList",
        "RemoveFromBootList",
        "SetVgpu",
    ] {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
}

/// `PROPTEST_CASES=10000` searches longer.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 200 };
    ProptestConfig { cases, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_step_shows_and_its_inverse_puts_back_what_was(
        which in 0..3u8,
        picks in proptest::collection::vec(any::<u16>(), 1..40),
    ) {
        let host = host(which);
        let (done, driven) = walk(&host, &picks);
        for (before, step) in done.iter().rev() {
            let mut back = step.inverse().unwrap();
            // A recreated virtual function has another group number.
            if let Step::GrantGroup { address, group, .. } = &mut back {
                let inventory = host.inventory().unwrap();
                *group = inventory.function(*address).unwrap().iommu_group.unwrap();
            }
            if let Err(error) = host.perform(&back) {
                prop_assert!(false, "{} after {}: {error}", back.describe(), step.describe());
            }
            prop_assert_eq!(host.observe(&back), Ok(Observed::After));
            prop_assert_eq!(
                without_power(host.snapshot(), &driven),
                without_power(before.clone(), &driven),
                "{}", back.describe()
            );
        }
    }

    /// The simulation is deterministic.
    #[test]
    fn nothing_is_left_to_chance(
        which in 0..3u8,
        picks in proptest::collection::vec(any::<u16>(), 1..20),
    ) {
        let (one, other) = (host(which), host(which));
        prop_assert_eq!(walk(&one, &picks), walk(&other, &picks));
        prop_assert_eq!(one.inventory(), other.inventory());
    }

    /// A reboot restores the state of the first boot, except for files.
    #[test]
    fn a_restart_forgets_all_but_files(
        which in 0..3u8,
        picks in proptest::collection::vec(any::<u16>(), 1..20),
    ) {
        let host = host(which);
        let before = host.snapshot();
        walk(&host, &picks);
        let sim::Snapshot { definitions, boot_list, .. } = host.snapshot();
        host.reboot();
        prop_assert_eq!(host.snapshot(), sim::Snapshot { definitions, boot_list, ..before });
    }
}
