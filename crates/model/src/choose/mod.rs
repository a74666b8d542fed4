//! Choosing: from a request to assemblies and partitions, or to the reason why there are none. A pure function of the
//! hardware, the claims and the obstacles.

mod candidates;
mod fill;
mod matching;
mod nearest;
mod profiles;
mod sets;
mod shortage;
mod want;
mod wish;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

pub use nearest::nearest;
pub use want::{Filter, GRAMMAR, Want, WantKind};

pub use crate::own_state::ExistingClaim;

use crate::vgpu::{Rooms, own_name};
use crate::{
    Address, Assembly, Code, Detail, Inventory, MdevDefinition, Mechanism, Partition, Refusal,
    Role, VfSettings,
};

/// The state of the host for choosing.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The hardware, with detail of the functions in [`needs_detail`].
    pub inventory: &'a Inventory,
    /// All claims.
    pub claims: &'a [ExistingClaim],
    /// Functions that are not available, and why: they are in use or need manual attention.
    pub barred: &'a BTreeMap<Address, Refusal>,
    /// Other tools' definitions of mediated devices.
    pub definitions: &'a [MdevDefinition],
    /// The functions of each resource of the catalog.
    pub resources: &'a BTreeMap<String, Vec<Address>>,
    /// Registered devices by name.
    pub names: &'a BTreeMap<String, Address>,
    /// The id of the new claim; UUIDs of mediated devices are derived from it.
    pub id: Uuid,
    /// What else the request says.
    pub options: Options,
}

/// What a request says of all its devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Companions in other IOMMU groups are left out.
    pub alone: bool,
    /// Several devices of a kind need not be of one model.
    pub mixed: bool,
    /// A kind of device also means the display of the host's console or of its management controller.
    pub any_display: bool,
    /// The request has none of these options: its way out is to name the devices.
    pub by_name_only: bool,
}

/// A chosen assembly or partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its function; for a mediated device, the parent.
    pub head: Address,
    /// The partition; `None` for a whole device.
    pub partition: Option<Partition>,
    /// The functions of the assembly.
    pub members: Vec<(Address, Role)>,
}

impl Chosen {
    fn whole(assembly: &Assembly) -> Self {
        let members = assembly.members.iter().map(|member| (member.address, member.role));
        Self { head: assembly.head, partition: None, members: members.collect() }
    }

    /// A mediated device that another tool has defined but not created: it is created as defined, and its definition
    /// stays.
    fn defined(definition: &MdevDefinition, type_name: Option<String>) -> Self {
        let MdevDefinition { parent, uuid, type_id, attributes } = definition.clone();
        let how = Mechanism::Mdev {
            uuid,
            type_id,
            type_name,
            existing: false,
            attributes,
            define: false,
        };
        Self { head: parent, partition: Some(Partition { parent, how }), members: Vec::new() }
    }

    /// Requests an mdevctl definition. Returns whether this is possible: only for a mediated device.
    pub const fn define(&mut self) -> bool {
        let Some(Partition { how: Mechanism::Mdev { define, .. }, .. }) = &mut self.partition
        else {
            return false;
        };
        *define = true;
        true
    }

    /// The functions whose users on the host would lose them: those that it takes, and what goes away with them.
    pub fn lost(&self) -> impl Iterator<Item = Address> {
        let lost = self.members.iter().filter(|(_, role)| *role != Role::Bystander);
        lost.map(|(address, _)| *address)
    }

    /// The functions that it takes from the host.
    pub fn taken(&self) -> impl Iterator<Item = Address> {
        let taken = self.members.iter().filter(|(_, role)| role.is_taken());
        taken.map(|(address, _)| *address)
    }

    fn part(&self) -> crate::Part {
        let unknown = |address: Address| crate::ClaimedMember::unknown(address);
        crate::Part {
            head: self.head,
            partition: self.partition.clone(),
            members: self
                .members
                .iter()
                .map(|(address, role)| crate::ClaimedMember { role: *role, ..unknown(*address) })
                .collect(),
            at_boot: false,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        self.part().conflict(&other.part()).is_some()
    }
}

/// Chooses everything that is requested, or returns why not all is available. Named devices are taken as named; among
/// equal candidates, those are preferred that are close together and leave the most to others.
///
/// # Errors
/// Why something is not available, and what to do.
pub fn choose(scene: &Scene<'_>, wants: &[Want]) -> Result<Vec<Chosen>, Refusal> {
    if wants.is_empty() {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "the request is empty",
            format!("request one or more of these:\n{GRAMMAR}"),
        ));
    }
    // Named devices first, so that a filter does not take them; each stays at the index of its want.
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
    /// The device that a want names.
    fn named(&self, want: &Want) -> Result<Option<Chosen>, Refusal> {
        let chosen = match &want.kind {
            WantKind::Device(name) => self.device(self.address(name)?)?,
            WantKind::Mdev(uuid) => self.existing_mdev(*uuid)?,
            WantKind::Vf { settings: VfSettings { mac: Some(mac), .. }, .. } if want.count > 1 => {
                return Err(Refusal::new(
                    Code::InvalidRequest,
                    format!("{} virtual functions cannot all have the address {mac}", want.count),
                    "request each one separately, with its own mac",
                ));
            }
            WantKind::Any(_) | WantKind::Vf { .. } | WantKind::Profile { .. } => return Ok(None),
        };
        if want.count > 1 {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!("{} is a single device, but {} are requested", want.kind, want.count),
                "request a kind of device, or name each device",
            ));
        }
        let head = chosen.head;
        let parent = self.inventory.function(head).and_then(|function| function.physical_function);
        Ok(Some(match (parent, &chosen.partition) {
            (Some(parent), None) => Chosen { partition: self.vf_of(parent, head), ..chosen },
            _ => chosen,
        }))
    }

    /// A whole device; a virtual function that is a vGPU already is taken as that.
    fn device(&self, address: Address) -> Result<Chosen, Refusal> {
        let assembly = self.assembly(address)?;
        let chosen = Chosen::whole(&assembly);
        let existing = || {
            let function = self.inventory.function(address)?;
            let (parent, vgpu) = (function.physical_function?, function.vgpu()?);
            let type_id = vgpu.current?;
            let siblings = self.inventory.functions.values();
            let siblings = siblings.filter(|one| one.physical_function == Some(parent));
            let mut names = siblings.filter_map(|one| one.vgpu()?.name_of(type_id));
            let name = names.next().or_else(|| vgpu.name_of(type_id));
            let name = name.unwrap_or_else(|| format!("type {type_id}"));
            let how = Mechanism::Vgpu { function: address, type_id, name, existing: true };
            Some(Partition { parent, how })
        };
        Ok(Chosen { partition: existing(), ..chosen })
    }

    fn vf_of(&self, parent: Address, vf: Address) -> Option<Partition> {
        let siblings = self.inventory.function(parent)?.virtual_functions();
        let index = siblings.iter().position(|other| *other == vf)?;
        let index = u16::try_from(index).ok()?;
        let settings = VfSettings::default();
        Some(Partition { parent, how: Mechanism::Vf { index, settings } })
    }

    /// Resolves an address, or the name of a registered device.
    pub(crate) fn address(&self, name: &str) -> Result<Address, Refusal> {
        if let Some(address) = self.names.get(name) {
            return Ok(*address);
        }
        name.parse().map_err(|_| {
            Refusal::new(
                Code::NotFound,
                format!("no device {name:?}"),
                crate::near_miss::hint(name).unwrap_or_else(|| {
                    "`handover device list` lists registered devices, `handover ls` lists addresses".to_owned()
                }),
            )
        })
    }

    fn assembly(&self, head: Address) -> Result<Assembly, Refusal> {
        let made = if self.options.alone { Assembly::alone } else { Assembly::of };
        let assembly = made(self.inventory, head).ok_or_else(|| crate::no_such_function(head))?;
        self.obstacle(&assembly).map_or(Ok(assembly), Err)
    }

    /// The first obstacle of an assembly. Its partitions may be those of a claim, which must be released and not removed.
    fn obstacle(&self, assembly: &Assembly) -> Option<Refusal> {
        let obstacle = assembly.obstacles(self.inventory).into_iter().next()?;
        let part = Chosen::whole(assembly).part();
        Some(self.claims.iter().find_map(|claim| claim.refuse(&part)).unwrap_or(obstacle))
    }

    fn existing_mdev(&self, uuid: Uuid) -> Result<Chosen, Refusal> {
        let found = self.inventory.functions.values().find_map(|function| {
            let mdev = function.mdevs.iter().find(|mdev| mdev.uuid == uuid)?;
            Some((function.address, mdev.type_id.clone().unwrap_or_default()))
        });
        let defined = self.definitions.iter().find(|one| one.uuid == uuid);
        if let (None, Some(defined)) = (&found, defined) {
            let name = self.type_name(defined.parent, &defined.type_id);
            return self.expect_offered(defined).map(|()| Chosen::defined(defined, name));
        }
        let Some((parent, type_id)) = found else {
            return Err(Refusal::new(
                Code::NotFound,
                format!("no mediated device {uuid} on a PCI function"),
                "`handover ls` lists existing ones, `mdevctl list --defined` lists defined ones",
            ));
        };
        let type_name = self.type_name(parent, &type_id);
        let how = Mechanism::Mdev {
            uuid,
            type_id,
            type_name,
            existing: true,
            attributes: Vec::new(),
            define: false,
        };
        let partition = Some(Partition { parent, how });
        Ok(Chosen { head: parent, partition, members: Vec::new() })
    }

    /// The name of a type of mediated devices, if its parent tells it.
    fn type_name(&self, parent: Address, type_id: &str) -> Option<String> {
        let detail = self.inventory.function(parent)?.detail.as_ref()?;
        detail.mdev_types.iter().find(|kind| kind.id == type_id)?.name.clone()
    }

    /// Refuses a definition of a type that its parent does not offer, if the types are known.
    fn expect_offered(&self, defined: &MdevDefinition) -> Result<(), Refusal> {
        let MdevDefinition { parent, uuid, type_id, .. } = defined;
        let detail = self.inventory.function(*parent).and_then(|parent| parent.detail.as_ref());
        let Some(detail) = detail else { return Ok(()) };
        expect_type(detail, *parent, type_id).map_err(|why| Refusal {
            message: format!("the definition of {uuid} cannot be used: {}", why.message),
            ..why
        })
    }

    /// Refuses what is claimed, in use, or needs manual attention.
    fn expect_free(&self, chosen: &Chosen) -> Result<(), Refusal> {
        if let Some(refusal) = self.why_not(chosen) {
            return Err(refusal);
        }
        match &chosen.partition {
            Some(partition) => {
                expect_room(self.inventory, self.claims.iter().map(|held| &held.claim), [partition])
            }
            None => Ok(()),
        }
    }

    /// Refuses a whole virtual function that another tool made a vGPU: unbinding its driver would destroy the vGPU.
    fn foreign_vgpu(&self, chosen: &Chosen) -> Option<Refusal> {
        let bound = self.claims.iter().all(|held| !held.claim.holds(chosen.head));
        let itself = match chosen.partition.as_ref().map(|partition| &partition.how) {
            Some(Mechanism::Vgpu { function, existing: true, .. }) => Some(*function),
            _ => None,
        };
        let is_vgpu =
            |address: Address| Some((address, self.inventory.function(address)?.vgpu()?.current?));
        let mut others = chosen.taken().filter(|address| Some(*address) != itself);
        let (address, current) = others.find_map(is_vgpu).filter(|_| bound)?;
        Some(Refusal::new(
            Code::InUse,
            format!("{address} is a vGPU of type {current}, created by another tool"),
            format!(
                "claim it as the vGPU that it is (`handover claim {address}`), or use another virtual function; a machine of \
                 that tool may use it, so only the tool that created it should free it"
            ),
        ))
    }

    /// Why something is not available.
    fn why_not(&self, chosen: &Chosen) -> Option<Refusal> {
        let part = chosen.part();
        if let Some(foreign) = self.foreign_vgpu(chosen) {
            return Some(foreign);
        }
        self.claims.iter().find_map(|held| held.refuse(&part)).or_else(|| {
            let pinned = chosen.partition.as_ref().map(|partition| partition.parent);
            let parent = pinned.filter(|parent| {
                // A parent is in use by its own driver; its partitions are unavailable only if it needs manual
                // attention.
                self.barred.get(parent).is_some_and(|why| why.code == Code::DeviceWedged)
            });
            let barred = |address: Address| Some((address, self.barred.get(&address)?));
            let (address, why) = chosen.lost().chain(parent).find_map(barred)?;
            Some(about(chosen.head, address, parent, why))
        })
    }
}

/// Refuses new vGPUs for which their GPUs have no room besides those that exist and those that `claims` reserve.
///
/// # Errors
/// `insufficient_resources`.
pub fn expect_room<'a>(
    inventory: &Inventory,
    claims: impl IntoIterator<Item = &'a crate::Claim>,
    new: impl IntoIterator<Item = &'a Partition>,
) -> Result<(), Refusal> {
    let claims: Vec<&crate::Claim> = claims.into_iter().collect();
    let mut rooms = Rooms::of(inventory, claims.iter().copied());
    for (position, partition) in new.into_iter().enumerate() {
        if !rooms.has_room(partition) {
            // What the request asks for before leaves no room, and there is nothing to release.
            let alone = Rooms::of(inventory, claims.iter().copied());
            let is_own = position > 0 && alone.has_room(partition);
            return Err(if is_own { no_room_beside(partition) } else { no_room_for(partition) });
        }
        rooms.ask(partition);
    }
    Ok(())
}

fn no_room_beside(partition: &Partition) -> Refusal {
    let parent = partition.parent;
    let what = partition.profile().unwrap_or_else(|| "a vGPU".into());
    Refusal::new(
        Code::InsufficientResources,
        format!("{parent} has no room for {what} beside the other vGPUs of this request"),
        "request fewer or smaller ones, all of one profile, or some of another GPU",
    )
}

fn no_room_for(partition: &Partition) -> Refusal {
    let profile = partition.profile().unwrap_or_default();
    Refusal::new(
        Code::InsufficientResources,
        format!("{} has no room for another {profile} now", partition.parent),
        "release a vGPU of this GPU (`handover claims`), or use another GPU",
    )
}

/// Refuses a type of mediated device that this parent does not offer, or of which it has no room for another one.
///
/// # Errors
/// `invalid_state`, `insufficient_resources`.
pub fn expect_type(detail: &Detail, parent: Address, type_id: &str) -> Result<(), Refusal> {
    let name = |kind: &crate::MdevType| match &kind.name {
        Some(name) => format!("{} ({})", own_name(name), kind.id),
        None => kind.id.clone(),
    };
    let offered: Vec<String> = detail.mdev_types.iter().map(name).collect();
    match detail.mdev_types.iter().find(|kind| kind.id == type_id) {
        Some(kind) if kind.available == Some(0) => Err(Refusal::new(
            Code::InsufficientResources,
            format!("{parent} has no room for another {} now", name(kind)),
            "release a vGPU of this GPU (`handover claims`), or use another GPU",
        )),
        Some(_) => Ok(()),
        None => Err(Refusal::new(
            Code::InvalidState,
            match offered.as_slice() {
                [] => format!("{parent} offers no types of mediated devices now, so not {type_id}"),
                offered => {
                    format!("{parent} does not offer {type_id}; it offers {}", offered.join(", "))
                }
            },
            format!(
                "`handover show {parent}` lists the types; their driver offers them: release this claim, and request one of those"
            ),
        )),
    }
}

/// The refusal of a device because of `address`: itself, a member of its assembly, or its parent.
fn about(head: Address, address: Address, parent: Option<Address>, why: &Refusal) -> Refusal {
    if head == address {
        return why.clone();
    }
    let relation = if parent == Some(address) { "is part of" } else { "must be handed over with" };
    Refusal { message: format!("{head} {relation} {address}, but {}", why.message), ..why.clone() }
}

fn together(one: &Chosen, other: &Chosen) -> Refusal {
    if one.head == other.head && one.partition.is_none() && other.partition.is_none() {
        return Refusal::new(
            Code::Conflict,
            format!("the request names {} twice", one.head),
            "name each device once",
        );
    }
    Refusal::new(
        Code::Conflict,
        format!(
            "{} and {} exclude each other in one request: they belong to the same assembly",
            one.head, other.head
        ),
        "request only one of them",
    )
}

/// Functions whose detail is needed to choose: possible parents of partitions.
#[must_use]
pub fn needs_detail(
    inventory: &Inventory,
    wants: &[Want],
    names: &BTreeMap<String, Address>,
) -> Vec<Address> {
    let mut needed = BTreeSet::new();
    for want in wants {
        let of = match &want.kind {
            WantKind::Profile { of, .. } | WantKind::Vf { of, .. } => of,
            WantKind::Device(name) => &Some(name.clone()),
            WantKind::Mdev(uuid) => {
                // Their types have the names.
                let has = |one: &&crate::Function| one.mdevs.iter().any(|mdev| mdev.uuid == *uuid);
                needed.extend(inventory.functions.values().filter(has).map(|one| one.address));
                continue;
            }
            WantKind::Any(_) => continue,
        };
        let parts = matches!(want.kind, WantKind::Profile { .. });
        let parent = of.as_ref().and_then(|of| names.get(of).copied().or_else(|| of.parse().ok()));
        // The room for a vGPU is that of its whole GPU.
        let gpu = parent.and_then(|parent| inventory.function(parent)?.physical_function);
        let gpu = gpu.filter(|_| matches!(want.kind, WantKind::Profile { .. }));
        for function in inventory.functions.values() {
            let own = function.physical_function.unwrap_or(function.address);
            // Bridges, and functions without a driver, offer no partitions.
            let may = function.driver.is_some()
                && !function.on_vfio()
                && function.kind() != crate::Kind::Bridge
                && (parts || function.physical_function.is_some());
            let asked = of.is_none()
                || parent == Some(own)
                || parent == Some(function.address)
                || gpu == Some(own);
            if may && asked {
                needed.insert(function.address);
            }
        }
    }
    needed.into_iter().collect()
}
