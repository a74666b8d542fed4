//! From what is asked for to what is given: which assemblies and parts of devices, or the reason why none. A function of
//! the hardware, of the claims there are, and of what stands in the way.

mod candidates;
mod matching;
mod want;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

pub use matching::assign;
pub use want::{Filter, GRAMMAR, Want, WantKind};

use crate::{
    Address, Assembly, Claim, Code, Inventory, MdevDefinition, Mechanism, Partition, Refusal, Role,
    VfSettings,
};

/// A claim that is there, and what is said to others who want the same.
#[derive(Clone, Debug)]
pub struct ExistingClaim {
    /// The claim.
    pub claim: Claim,
    /// Why its things cannot be had, and what to do.
    pub why: Refusal,
}

/// What is known of the host when something is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The hardware, with detail of what parts are asked of.
    pub inventory: &'a Inventory,
    /// All claims there are.
    pub claims: &'a [ExistingClaim],
    /// Functions that cannot be had, and why: they wait for a person, or somebody uses them.
    pub barred: &'a BTreeMap<Address, Refusal>,
    /// Mediated devices that other tools have definitions of.
    pub definitions: &'a [MdevDefinition],
    /// Registered devices by name.
    pub names: &'a BTreeMap<String, Address>,
    /// The id of the claim that is made: mediated devices are named after it.
    pub id: Uuid,
    /// Whether companions in other IOMMU groups are left where they are.
    pub alone: bool,
}

/// One thing that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The function that stands for it; the parent of a mediated device.
    pub head: Address,
    /// What it is, where it is a part of a device.
    pub partition: Option<Partition>,
    /// The functions that go with it.
    pub members: Vec<(Address, Role)>,
}

impl Chosen {
    fn whole(assembly: &Assembly) -> Self {
        let members = assembly.members.iter().map(|member| (member.address, member.role));
        Self { head: assembly.head, partition: None, members: members.collect() }
    }

    /// One that another tool has a definition of and that is not there: it is made as it is written down, and its definition
    /// stays.
    fn defined(definition: &MdevDefinition) -> Self {
        let MdevDefinition { parent, uuid, type_id, attributes } = definition.clone();
        let how = Mechanism::Mdev { uuid, type_id, existing: false, attributes, define: false };
        Self { head: parent, partition: Some(Partition { parent, how }), members: Vec::new() }
    }

    /// Has mdevctl's definition written with it. Whether that can be: it is a mediated device.
    pub const fn define(&mut self) -> bool {
        let Some(Partition { how: Mechanism::Mdev { define, .. }, .. }) = &mut self.partition
        else {
            return false;
        };
        *define = true;
        true
    }

    /// The functions that it takes from the host.
    pub fn taken(&self) -> impl Iterator<Item = Address> {
        let taken = self.members.iter().filter(|(_, role)| *role != Role::Bystander);
        taken.map(|(address, _)| *address)
    }

    fn part(&self) -> crate::Part {
        let nobody = |address: Address| crate::ClaimedMember::unknown(address);
        crate::Part {
            head: self.head,
            partition: self.partition.clone(),
            members: self
                .members
                .iter()
                .map(|(address, role)| crate::ClaimedMember { role: *role, ..nobody(*address) })
                .collect(),
            at_boot: false,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        self.part().conflict(&other.part()).is_some()
    }
}

/// Chooses everything that is wanted, or says why not all of it can be had. Named things are taken as named; of what
/// several would do, those are taken that are close together and leave most to others.
///
/// # Errors
/// The reason why something cannot be had, and what to do.
pub fn choose(scene: &Scene<'_>, wants: &[Want]) -> Result<Vec<Chosen>, Refusal> {
    if wants.is_empty() {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "nothing is asked for",
            format!("ask for one or more of these:\n{GRAMMAR}"),
        ));
    }
    // What is named first, so that a filter does not take it away; each kept in the place of its want.
    let mut chosen: Vec<Vec<Chosen>> = vec![Vec::new(); wants.len()];
    for (place, want) in wants.iter().enumerate() {
        if let Some(named) = scene.named(want)? {
            scene.expect_free(&named)?;
            if let Some(other) = chosen.iter().flatten().find(|other| other.excludes(&named)) {
                return Err(together(&named, other));
            }
            if let Some(list) = chosen.get_mut(place) {
                list.push(named);
            }
        }
    }
    let named: Vec<Chosen> = chosen.iter().flatten().cloned().collect();
    let open: Vec<(usize, &Want)> =
        wants.iter().enumerate().filter(|(place, _)| chosen[*place].is_empty()).collect();
    for (place, found) in scene.fill(&open, &named)? {
        if let Some(list) = chosen.get_mut(place) {
            list.push(found);
        }
    }
    Ok(chosen.into_iter().flatten().collect())
}

impl Scene<'_> {
    /// What a want names outright.
    fn named(&self, want: &Want) -> Result<Option<Chosen>, Refusal> {
        let chosen = match &want.what {
            WantKind::Device(name) => Chosen::whole(&self.assembly(self.address(name)?)?),
            WantKind::Mdev(uuid) => self.existing_mdev(*uuid)?,
            WantKind::Vf { settings: VfSettings { mac: Some(mac), .. }, .. } if want.count > 1 => {
                return Err(Refusal::new(
                    Code::InvalidRequest,
                    format!("{} virtual functions cannot all have the address {mac}", want.count),
                    "ask for each by itself, with a mac of its own",
                ));
            }
            WantKind::Any(_) | WantKind::Vf { .. } | WantKind::Profile { .. } => return Ok(None),
        };
        if want.count > 1 {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!("{} is one, and {} are asked for", want.what, want.count),
                "ask for a kind of device, or name each",
            ));
        }
        let head = chosen.head;
        let parent = self.inventory.function(head).and_then(|function| function.physical_function);
        Ok(Some(match (parent, &chosen.partition) {
            (Some(parent), None) => Chosen { partition: self.vf_of(parent, head), ..chosen },
            _ => chosen,
        }))
    }

    fn vf_of(&self, parent: Address, vf: Address) -> Option<Partition> {
        let siblings = self.inventory.function(parent)?.virtual_functions();
        let index = siblings.iter().position(|other| *other == vf)?;
        let index = u16::try_from(index).ok()?;
        let settings = VfSettings::default();
        Some(Partition { parent, how: Mechanism::Vf { index, settings } })
    }

    /// An address, or the address that a name is registered for.
    pub(crate) fn address(&self, name: &str) -> Result<Address, Refusal> {
        if let Some(address) = self.names.get(name) {
            return Ok(*address);
        }
        name.parse().map_err(|_| {
            Refusal::new(
                Code::NotFound,
                format!("there is no device {name:?}"),
                "`handover device ls` shows the registered ones; or give an address, `handover ls` shows them",
            )
        })
    }

    fn assembly(&self, head: Address) -> Result<Assembly, Refusal> {
        let made = if self.alone { Assembly::alone } else { Assembly::of };
        let assembly = made(self.inventory, head).ok_or_else(|| crate::no_such_function(head))?;
        match assembly.obstacles(self.inventory).into_iter().next() {
            Some(obstacle) => Err(obstacle),
            None => Ok(assembly),
        }
    }

    fn existing_mdev(&self, uuid: Uuid) -> Result<Chosen, Refusal> {
        let found = self.inventory.functions.values().find_map(|function| {
            let mdev = function.mdevs.iter().find(|mdev| mdev.uuid == uuid)?;
            Some((function.address, mdev.type_id.clone().unwrap_or_default()))
        });
        let defined = self.definitions.iter().find(|one| one.uuid == uuid);
        if let (None, Some(defined)) = (&found, defined) {
            return Ok(Chosen::defined(defined));
        }
        let Some((parent, type_id)) = found else {
            return Err(Refusal::new(
                Code::NotFound,
                format!("there is no mediated device {uuid} on a PCI function"),
                "`handover ls` shows those that are there, `mdevctl list --defined` those that could be made",
            ));
        };
        let attributes = Vec::new();
        let how = Mechanism::Mdev { uuid, type_id, existing: true, attributes, define: false };
        let partition = Some(Partition { parent, how });
        Ok(Chosen { head: parent, partition, members: Vec::new() })
    }

    /// Refuses what a claim has, or what waits for a person or is used by somebody.
    fn expect_free(&self, chosen: &Chosen) -> Result<(), Refusal> {
        match self.why_not(chosen) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Refuses a virtual function as such that another tool made a vGPU: it would be lost with its driver.
    fn foreign_vgpu(&self, chosen: &Chosen) -> Option<Refusal> {
        let bound = self.claims.iter().all(|held| !held.claim.holds(chosen.head));
        let is_vgpu = |address: Address| {
            let detail = self.inventory.function(address)?.detail.as_ref()?;
            Some((address, detail.vgpu.as_ref()?.current?))
        };
        let (address, current) = chosen.taken().find_map(is_vgpu).filter(|_| bound)?;
        Some(Refusal::new(
            Code::InUse,
            format!("{address} is a vGPU of type {current}, which another tool made"),
            format!("free it: echo 0 > /sys/bus/pci/devices/{address}/nvidia/current_vgpu_type"),
        ))
    }

    /// Why something cannot be had.
    fn why_not(&self, chosen: &Chosen) -> Option<Refusal> {
        let part = chosen.part();
        if let Some(foreign) = self.foreign_vgpu(chosen) {
            return Some(foreign);
        }
        let held = self.claims.iter().find(|held| held.claim.conflict(&part).is_some());
        held.map(|held| held.why.clone()).or_else(|| {
            let pinned = chosen.partition.as_ref().map(|partition| partition.parent);
            let parent = pinned.filter(|parent| {
                // A parent's own driver uses it; only one that waits for a person spoils its parts.
                self.barred.get(parent).is_some_and(|why| why.code == Code::DeviceWedged)
            });
            chosen.taken().chain(parent).find_map(|address| self.barred.get(&address).cloned())
        })
    }
}

fn together(one: &Chosen, other: &Chosen) -> Refusal {
    Refusal::new(
        Code::Conflict,
        format!("{} and {} go together: whoever gets one gets the other", one.head, other.head),
        "ask for one of them only",
    )
}

/// Functions of which detail is needed to choose: what parts are asked of.
#[must_use]
pub fn needs_detail(
    inventory: &Inventory,
    wants: &[Want],
    names: &BTreeMap<String, Address>,
) -> Vec<Address> {
    let mut needed = BTreeSet::new();
    for want in wants {
        let of = match &want.what {
            WantKind::Profile { of, .. } | WantKind::Vf { of, .. } => of,
            WantKind::Device(name) => &Some(name.clone()),
            WantKind::Any(_) | WantKind::Mdev(_) => continue,
        };
        let parts = matches!(want.what, WantKind::Profile { .. });
        let parent = of.as_ref().and_then(|of| names.get(of).copied().or_else(|| of.parse().ok()));
        for function in inventory.functions.values() {
            let own = function.physical_function.unwrap_or(function.address);
            // Bridges, and functions without a driver, offer no parts.
            let may = function.driver.is_some()
                && !function.on_vfio()
                && function.kind() != crate::Kind::Bridge
                && (parts || function.physical_function.is_some());
            let asked = of.is_none() || parent == Some(own) || parent == Some(function.address);
            if may && asked {
                needed.insert(function.address);
            }
        }
    }
    needed.into_iter().collect()
}
