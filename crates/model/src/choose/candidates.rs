//! The candidates for each wish, best first.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::matching::assign;
use super::{Chosen, Filter, Scene, Want, WantKind};
use crate::{
    Address, Assembly, Code, Function, Kind, Mechanism, Partition, Refusal, Role, VfSettings,
};

/// The candidates of all wishes.
#[derive(Default)]
struct Pool {
    all: Vec<Chosen>,
}

impl Pool {
    fn add(&mut self, chosen: Chosen) -> usize {
        self.all.push(chosen);
        self.all.len() - 1
    }
}

/// A wish that several candidates can meet.
struct Wish<'a> {
    place: usize,
    want: &'a Want,
    likes: Vec<usize>,
    /// For candidates shared with other wishes: this wish's own form of it.
    own: BTreeMap<usize, usize>,
    /// How many candidates fit, available or not.
    fitting: usize,
    /// Why fitting candidates are not available.
    reasons: Vec<Refusal>,
}

impl Scene<'_> {
    /// Meets all open wishes, or returns why one cannot be met.
    pub(super) fn fill(
        &self,
        open: &[(usize, &Want)],
        named: &[Chosen],
    ) -> Result<Vec<(usize, Chosen)>, Refusal> {
        let mut pool = Pool::default();
        let mut wishes = Vec::new();
        for (place, want) in open {
            wishes.push(self.wish(*place, want, named, &mut pool)?);
        }
        share(&mut wishes, &pool);
        let mut dropped = BTreeSet::new();
        loop {
            let given = give(&wishes, &pool, &dropped)?;
            let Some(one) = conflicting(&given, &pool) else {
                return Ok(given
                    .into_iter()
                    .map(|(place, one)| {
                        let wish = wishes.iter().find(|wish| wish.place == place);
                        let own = wish.and_then(|wish| wish.own.get(&one)).unwrap_or(&one);
                        (place, settled(open, place, &pool.all[*own], self.id, one))
                    })
                    .collect());
            };
            dropped.insert(one);
        }
    }

    fn wish<'a>(
        &self,
        place: usize,
        want: &'a Want,
        named: &[Chosen],
        pool: &mut Pool,
    ) -> Result<Wish<'a>, Refusal> {
        let fitting = match &want.kind {
            WantKind::Any(filter) => self.whole(|function| filter.fits(function), want.count),
            WantKind::Vf { of, settings } => self.vfs(self.parent(of.as_ref())?, settings)?,
            WantKind::Profile { profile, of, .. } => {
                self.profiles(profile, self.parent(of.as_ref())?, want.count)
            }
            WantKind::Device(_) | WantKind::Mdev(_) => Vec::new(),
        };
        let mut wish = Wish {
            place,
            want,
            likes: Vec::new(),
            own: BTreeMap::new(),
            fitting: fitting.len(),
            reasons: Vec::new(),
        };
        if let WantKind::Profile { of, .. } = &want.kind
            && fitting.is_empty()
        {
            let of = self.parent(of.as_ref())?;
            wish.reasons.extend(self.bare_functions(of));
            wish.reasons.extend(self.other_profiles(of));
        }
        if let WantKind::Any(filter) = &want.kind
            && fitting.is_empty()
        {
            wish.reasons.extend(self.unfit(filter));
        }
        let mut requested = Vec::new();
        for candidate in fitting {
            if let Some(why) = self.why_not(&candidate) {
                wish.reasons.push(why);
            } else if let Some(named) = named.iter().find(|named| named.excludes(&candidate)) {
                requested.push(already_requested(&candidate, named));
            } else {
                wish.likes.push(pool.add(candidate));
            }
        }
        wish.reasons.extend(requested);
        Ok(wish)
    }

    fn parent(&self, of: Option<&String>) -> Result<Option<Address>, Refusal> {
        let Some(name) = of else { return Ok(None) };
        let address = self.address(name)?;
        if self.inventory.function(address).is_none() {
            return Err(crate::no_such_function(address));
        }
        Ok(Some(address))
    }

    /// Assemblies without obstacles whose head fits: first those of the smallest NUMA node that has enough, and there
    /// those without a driver.
    fn whole(&self, fits: impl Fn(&Function) -> bool, count: u32) -> Vec<Chosen> {
        let mut found: Vec<(&Function, Assembly)> = Vec::new();
        for assembly in Assembly::all(self.inventory) {
            let Some(head) = self.inventory.function(assembly.head) else { continue };
            let assembly = if self.alone {
                Assembly::alone(self.inventory, head.address)
            } else {
                Some(assembly)
            };
            let Some(assembly) = assembly else { continue };
            if fits(head)
                && head.physical_function.is_none()
                && assembly.obstacles(self.inventory).is_empty()
            {
                found.push((head, assembly));
            }
        }
        let mut on_node: BTreeMap<Option<u32>, usize> = BTreeMap::new();
        for (head, _) in &found {
            *on_node.entry(head.numa_node).or_default() += 1;
        }
        let wanted = usize::try_from(count).unwrap_or(usize::MAX);
        found.sort_by_key(|(head, _)| {
            let there = on_node.get(&head.numa_node).copied().unwrap_or_default();
            // The smallest node with enough devices, else the largest.
            let enough = if there >= wanted { (0, there) } else { (1, usize::MAX - there) };
            let idle = head.driver.is_none() || head.on_vfio();
            (enough, head.numa_node, head.boot_vga, !idle, head.path.clone(), head.address)
        });
        found.iter().map(|(_, assembly)| Chosen::whole(assembly)).collect()
    }

    /// Why functions that fit are no candidates: obstacles of their assemblies, or that they are virtual functions.
    fn unfit(&self, filter: &Filter) -> Vec<Refusal> {
        let fitting = self.inventory.functions.values().filter(|function| filter.fits(function));
        let reason = |function: &Function| match function.physical_function {
            Some(parent) => Some(Refusal::new(
                Code::NotAssignable,
                format!("{} is a virtual function of {parent}", function.address),
                format!("ask for `vf@{parent}`, or name the function by its address"),
            )),
            None => {
                let assembly = Assembly::of(self.inventory, function.address)?;
                assembly.obstacles(self.inventory).into_iter().next()
            }
        };
        fitting.filter_map(reason).collect()
    }

    /// The virtual functions of a device, or of all devices. Only those of NICs have settings.
    fn vfs(&self, of: Option<Address>, settings: &VfSettings) -> Result<Vec<Chosen>, Refusal> {
        let has_settings = |parent: &Function| settings.is_empty() || parent.kind() == Kind::Nic;
        if let Some(parent) = of.and_then(|of| self.inventory.function(of))
            && !has_settings(parent)
        {
            return Err(no_settings(parent, settings));
        }
        let parents = self.inventory.functions.values().filter(|parent| has_settings(parent));
        let parents = parents.filter(|function| of.is_none_or(|of| of == function.address));
        let mut found = Vec::new();
        for parent in parents {
            let Some(sriov) = &parent.sriov else { continue };
            for (vf, index) in sriov.present.iter().zip(0u16..) {
                let Some(assembly) = Assembly::of(self.inventory, *vf) else { continue };
                if !assembly.obstacles(self.inventory).is_empty() {
                    continue;
                }
                let how = Mechanism::Vf { index, settings: VfSettings::default() };
                let partition = Some(Partition { parent: parent.address, how });
                found.push(Chosen { partition, ..Chosen::whole(&assembly) });
            }
        }
        match of.and_then(|of| self.inventory.function(of)) {
            Some(parent) if found.is_empty() => Err(no_vfs(parent)),
            _ => Ok(found),
        }
    }

    /// Partitions of a profile that can be created now. Devices that already have partitions come first, because some
    /// drivers allow only one type per device.
    fn profiles(&self, profile: &str, of: Option<Address>, count: u32) -> Vec<Chosen> {
        let mut found: Vec<(usize, Chosen)> = Vec::new();
        for function in self.inventory.functions.values() {
            let own = function.physical_function.unwrap_or(function.address);
            if of.is_some_and(|of| of != own && of != function.address) {
                continue;
            }
            let busy = function.mdevs.len();
            let mdevs = self.mdevs(function, profile, count);
            found.extend(mdevs.into_iter().map(|chosen| (usize::MAX - busy, chosen)));
            let siblings = self.vgpus_on(own);
            found
                .extend(self.vgpu(function, profile).map(|chosen| (usize::MAX - siblings, chosen)));
        }
        found.sort_by_key(|(rank, chosen)| (*rank, chosen.head));
        found.into_iter().map(|(_, chosen)| chosen).collect()
    }

    fn mdevs(&self, parent: &Function, profile: &str, count: u32) -> Vec<Chosen> {
        let Some(detail) = &parent.detail else { return Vec::new() };
        let matching = detail.mdev_types.iter().find(|kind| {
            let name = kind.name.as_deref().unwrap_or_default();
            kind.id == profile || named(name, profile)
        });
        let Some(kind) = matching else { return Vec::new() };
        // The parent still counts reserved partitions as available until they are created.
        let reserved = self.claims.iter().flat_map(|held| &held.claim.parts).filter(|part| {
            let uuid = part.partition.as_ref().and_then(Partition::mdev);
            part.head == parent.address
                && uuid.is_some_and(|uuid| !parent.mdevs.iter().any(|mdev| mdev.uuid == uuid))
        });
        let reserved = u32::try_from(reserved.count()).unwrap_or(u32::MAX);
        let available = kind.available.unwrap_or(0).saturating_sub(reserved).min(count);
        let how = Mechanism::Mdev {
            uuid: Uuid::nil(),
            type_id: kind.id.clone(),
            existing: false,
            attributes: Vec::new(),
            define: false,
        };
        let partition = Some(Partition { parent: parent.address, how });
        let one = Chosen { head: parent.address, partition, members: Vec::new() };
        vec![one; usize::try_from(available).unwrap_or_default()]
    }

    fn vgpu(&self, function: &Function, profile: &str) -> Option<Chosen> {
        let parent = function.physical_function?;
        let types = function.detail.as_ref()?.vgpu.as_ref()?;
        let kind = types.creatable.iter().find(|kind| named(&kind.name, profile))?;
        if types.current.is_some() {
            return None;
        }
        let assembly = Assembly::of(self.inventory, function.address)?;
        let how = Mechanism::Vgpu {
            function: function.address,
            type_id: kind.id,
            name: kind.name.clone(),
        };
        // Other members of its group would have to be unbound, but a vGPU stays on its driver.
        let alone = assembly
            .members
            .iter()
            .all(|member| member.address == function.address || member.role == Role::Bystander);
        alone.then(|| Chosen {
            partition: Some(Partition { parent, how }),
            ..Chosen::whole(&assembly)
        })
    }

    /// Virtual functions of a GPU without a driver: the vendor's driver offers the types.
    fn bare_functions(&self, of: Option<Address>) -> Option<Refusal> {
        let functions = self.inventory.functions.values();
        let parent = functions
            .filter(|one| one.driver.is_none())
            .filter(|one| matches!(one.kind(), Kind::Gpu | Kind::Accelerator))
            .find_map(|one| {
                let parent = one.physical_function?;
                of.is_none_or(|of| of == parent || of == one.address).then_some(parent)
            })?;
        let count = self.inventory.function(parent)?.virtual_functions().len();
        Some(Refusal::new(
            Code::InsufficientResources,
            format!("virtual functions of {parent} have no driver, so they offer no vGPU types"),
            // Drivers are probed for new functions only.
            format!(
                "handover sriov set {parent} 0 && handover sriov set {parent} {count} --autoprobe"
            ),
        ))
    }

    /// What can be created instead of a profile: it may be mistyped, existing vGPUs may leave no room for it or, on a
    /// card in single-size mode, exclude it. Drivers do not report which.
    fn other_profiles(&self, of: Option<Address>) -> Option<Refusal> {
        let mut names = BTreeSet::new();
        let mut has_some = false;
        for function in self.inventory.functions.values() {
            let own = function.physical_function.unwrap_or(function.address);
            let Some(detail) = function.detail.as_ref() else { continue };
            if of.is_some_and(|of| of != own && of != function.address) {
                continue;
            }
            has_some |= !function.mdevs.is_empty() || self.vgpus_on(own) > 0;
            let mdevs = detail.mdev_types.iter().filter(|kind| kind.available != Some(0));
            names.extend(mdevs.map(|kind| kind.name.as_deref().unwrap_or(&kind.id)));
            let vgpus = detail.vgpu.iter().flat_map(|vgpu| &vgpu.creatable);
            names.extend(vgpus.map(|kind| kind.name.as_str()));
        }
        let place = of.map_or("this host".to_owned(), |of| of.to_string());
        let why = "existing ones take the room, or exclude other sizes";
        let message = match (names.is_empty(), has_some) {
            (true, false) => return None,
            (true, true) => format!("{place} has no room for another vGPU now: {why}"),
            (false, _) => {
                let names: Vec<&str> = names.into_iter().collect();
                let because = if has_some { format!(": {why}") } else { String::new() };
                format!("{place} offers only {} now{because}", names.join(", "))
            }
        };
        let remedy = "request one of those, or release existing ones first (`handover claims`)";
        Some(Refusal::new(Code::InsufficientResources, message, remedy))
    }

    fn vgpus_on(&self, parent: Address) -> usize {
        let siblings = self.inventory.functions.values();
        siblings
            .filter(|function| function.physical_function == Some(parent))
            .filter(|function| {
                let vgpu = function.detail.as_ref().and_then(|detail| detail.vgpu.as_ref());
                vgpu.is_some_and(|vgpu| vgpu.current.is_some())
            })
            .count()
    }
}

/// Whether the profile is this name: `NVIDIA L40S-1Q`, or without the vendor's name.
fn named(name: &str, profile: &str) -> bool {
    let last = name.rsplit(' ').next().unwrap_or_default();
    !profile.is_empty()
        && (name.eq_ignore_ascii_case(profile) || last.eq_ignore_ascii_case(profile))
}

/// Merges equal candidates of several wishes: each wish then uses the first one.
fn share(wishes: &mut [Wish<'_>], pool: &Pool) {
    let mut seen: BTreeMap<(Address, Vec<Address>), usize> = BTreeMap::new();
    for wish in wishes {
        for like in &mut wish.likes {
            let Some(chosen) = pool.all.get(*like) else { continue };
            if chosen.members.is_empty() {
                continue;
            }
            let key = (chosen.head, chosen.taken().collect());
            let first = *seen.entry(key).or_insert(*like);
            wish.own.insert(first, *like);
            *like = first;
        }
    }
}

/// Assigns each wish the number of candidates that it requests.
fn give(
    wishes: &[Wish<'_>],
    pool: &Pool,
    dropped: &BTreeSet<usize>,
) -> Result<Vec<(usize, usize)>, Refusal> {
    let mut likes = Vec::new();
    let mut owner = Vec::new();
    for (turn, wish) in wishes.iter().enumerate() {
        let left: Vec<usize> =
            wish.likes.iter().copied().filter(|like| !dropped.contains(like)).collect();
        if left.len() < usize::try_from(wish.want.count).unwrap_or(usize::MAX) {
            let excluded = left.len() < wish.likes.len();
            return Err(too_few(wish, left.len(), excluded));
        }
        for _ in 0..wish.want.count {
            likes.push(left.clone());
            owner.push(turn);
        }
    }
    let mut given = Vec::new();
    for (candidate, turn) in assign(&likes, pool.all.len()).into_iter().zip(owner) {
        let Some(wish) = wishes.get(turn) else { continue };
        match candidate {
            Some(candidate) => given.push((wish.place, candidate)),
            None => return Err(too_few(wish, wish.want.count.saturating_sub(1) as usize, true)),
        }
    }
    Ok(given)
}

/// A candidate that excludes an earlier one.
fn conflicting(given: &[(usize, usize)], pool: &Pool) -> Option<usize> {
    let chosen = |at: usize| given.get(at).and_then(|(_, one)| pool.all.get(*one));
    (0..given.len()).find_map(|late| {
        let one = chosen(late)?;
        let clash = (0..late).filter_map(chosen).any(|other| other.excludes(one));
        clash.then(|| given.get(late).map(|(_, one)| *one)).flatten()
    })
}

/// Fills in the wish's settings, and the UUID of a new mediated device: the claim's id with its last bytes changed, so
/// that its owner is visible.
fn settled(
    open: &[(usize, &Want)],
    place: usize,
    chosen: &Chosen,
    id: Uuid,
    turn: usize,
) -> Chosen {
    let mut chosen = chosen.clone();
    let want = open.iter().find(|(other, _)| *other == place).map(|(_, want)| &want.kind);
    let how = chosen.partition.as_mut().map(|partition| &mut partition.how);
    match (how, want) {
        (Some(Mechanism::Vf { settings, .. }), Some(WantKind::Vf { settings: wanted, .. })) => {
            *settings = wanted.clone();
        }
        (
            Some(Mechanism::Mdev { uuid, attributes, .. }),
            Some(WantKind::Profile { attributes: wanted, .. }),
        ) => {
            let turn = u128::try_from(turn).unwrap_or_default() + 1;
            *uuid = Uuid::from_u128(id.as_u128() ^ (turn & 0xffff));
            attributes.clone_from(wanted);
        }
        _ => {}
    }
    chosen
}

fn no_settings(parent: &Function, settings: &VfSettings) -> Refusal {
    let address = parent.address;
    Refusal::new(
        Code::InvalidRequest,
        format!(
            "virtual functions of {address} cannot have settings ({settings}): it is not a NIC"
        ),
        format!("ask for `vf@{address}` without settings"),
    )
}

fn no_vfs(parent: &Function) -> Refusal {
    let address = parent.address;
    match &parent.sriov {
        None => Refusal::new(
            Code::NotAssignable,
            format!("{address} cannot have virtual functions: it has no SR-IOV"),
            format!(
                "`handover show {address}` shows what it supports; the firmware may have disabled SR-IOV"
            ),
        ),
        Some(sriov) if sriov.present.is_empty() => Refusal::new(
            Code::InsufficientResources,
            format!("{address} has no virtual functions; it supports {}", sriov.total),
            format!("handover sriov set {address} {}", sriov.total),
        ),
        Some(_) => Refusal::new(
            Code::NotAssignable,
            format!("none of the virtual functions of {address} can be handed over"),
            format!("handover doctor --for {address}"),
        ),
    }
}

/// A candidate that the same request names, or that excludes one that it names.
fn already_requested(candidate: &Chosen, named: &Chosen) -> Refusal {
    let message = if candidate.head == named.head {
        format!("{} is already in this request", candidate.head)
    } else {
        format!("{} excludes {}, which is already in this request", candidate.head, named.head)
    };
    Refusal::new(Code::InsufficientResources, message, FEWER)
}

/// The remedy of a request that asks for more than there is.
const FEWER: &str = "request fewer devices; `handover ls` lists what this host has";

/// Not enough candidates. `requested`: other wishes of the same request have some of them.
fn too_few(wish: &Wish<'_>, left: usize, requested: bool) -> Refusal {
    let what = &wish.want.kind;
    let count = wish.want.count;
    let have = match left {
        0 => "none is free".to_owned(),
        left => format!("{left} of {count} available"),
    };
    let mut why: BTreeSet<&str> = wish.reasons.iter().map(|why| why.message.as_str()).collect();
    if requested {
        why.insert("other matching devices are already in this request");
    }
    let shown: Vec<&str> = why.iter().copied().take(4).collect();
    let more = why.len().saturating_sub(shown.len());
    let mut message = format!("{what}: {have}");
    if !shown.is_empty() {
        message.push_str(&format!(" ({}", shown.join("; ")));
        message.push_str(&if more > 0 { format!("; and {more} more)") } else { ")".into() });
    } else if left == 0 {
        message = format!("{what}: this host has none");
    }
    // The candidates of a profile are those that can be created now.
    let is_countable = matches!(wish.want.kind, WantKind::Any(_) | WantKind::Vf { .. });
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    let remedy = match wish.reasons.first() {
        _ if is_countable && (1..wanted).contains(&wish.fitting) => {
            format!("request at most {}: this host has no more", wish.fitting)
        }
        Some(first) => first.remedy.clone(),
        None if requested => FEWER.into(),
        None => "`handover ls` lists the devices, `handover doctor` the obstacles".into(),
    };
    // An obstacle of the host itself is the reason for all of them.
    let of_host = |code: Code| matches!(code, Code::NoIommu | Code::VfioMissing);
    let code =
        wish.reasons.first().map(|first| first.code).filter(|code| left == 0 && of_host(*code));
    Refusal::new(code.unwrap_or(Code::InsufficientResources), message, remedy)
}
