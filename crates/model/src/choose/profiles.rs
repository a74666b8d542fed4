//! Why a vGPU of a profile cannot be created: the profile does not exist, or there is no room for it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Scene;
use crate::vgpu::{Rooms, is_named, own_name};
use crate::{Address, Claim, Code, Function, Mechanism, Partition, Refusal};

/// More names are not listed.
const MOST_NAMES: usize = 24;

/// What one GPU offers.
#[derive(Default)]
struct Offer<'a> {
    /// The names of its profiles.
    all: BTreeSet<&'a str>,
    /// Those that it has room for, besides what is reserved.
    now: BTreeSet<&'a str>,
    /// Whether the requested one is among them.
    known: bool,
    /// Whether it may have more: drivers with vGPUs on virtual functions list only what fits beside existing ones.
    hides: bool,
}

/// What the GPUs that a request means offer.
struct Offers<'a> {
    of: Option<Address>,
    gpus: BTreeMap<Address, Offer<'a>>,
}

impl Scene<'_> {
    /// Why no more than `found` vGPUs of this profile can be created, the most helpful reason first.
    pub(super) fn why_no_profile(
        &self,
        profile: &str,
        of: Option<Address>,
        found: usize,
    ) -> Vec<Refusal> {
        let rooms = self.rooms();
        let offers = self.offers(&rooms, profile, of);
        let mut reasons: Vec<Refusal> = self.bare_functions(of, false).into_iter().collect();
        let able = offers.able(profile);
        if !offers.gpus.values().any(|offer| offer.known) {
            let none = offers.gpus.values().all(|offer| offer.all.is_empty() && !offer.hides);
            match (none, able.is_empty()) {
                (true, _) if reasons.is_empty() => reasons.push(no_profiles(of)),
                (true, _) => {}
                (false, true) => reasons.push(unknown_profile(profile, &offers)),
                (false, false) => reasons.push(self.unlisted_profile(profile, &offers, &able)),
            }
            // The missing profile may be one of functions that its driver does not have.
            let bare = self.bare_functions(of, true);
            reasons.extend(bare.filter(|bare| !reasons.contains(bare)));
            return reasons;
        }
        reasons.extend(self.foreign_mdevs(&able));
        reasons.extend(self.no_room(profile, &offers, &able, found));
        reasons
    }

    /// The functions that offer profiles: of one GPU or of all.
    fn offering(&self, of: Option<Address>) -> impl Iterator<Item = &Function> {
        self.inventory.functions.values().filter(move |function| {
            let own = gpu_of(function);
            of.is_none_or(|of| of == own || of == function.address)
        })
    }

    fn offers(&self, rooms: &Rooms<'_>, profile: &str, of: Option<Address>) -> Offers<'_> {
        let mut gpus: BTreeMap<Address, Offer<'_>> = BTreeMap::new();
        for function in self.offering(of) {
            let Some(detail) = function.detail.as_ref() else { continue };
            if detail.mdev_types.is_empty() && detail.vgpu.is_none() {
                continue;
            }
            let offer = gpus.entry(gpu_of(function)).or_default();
            let taken = self.claims.iter().any(|held| held.claim.holds(function.address))
                || self.barred.contains_key(&function.address);
            for kind in &detail.mdev_types {
                let name = kind.name.as_deref().unwrap_or(&kind.id);
                offer.known |= kind.id == profile || is_named(name, profile);
                offer.all.insert(own_name(name));
                if !taken && rooms.left(function, kind) > 0 {
                    offer.now.insert(own_name(name));
                }
            }
            offer.hides |= detail.vgpu.as_ref().is_some_and(|vgpu| vgpu.current.is_some());
            for kind in detail.vgpu.iter().flat_map(|vgpu| &vgpu.creatable) {
                offer.known |= is_named(&kind.name, profile);
                offer.all.insert(own_name(&kind.name));
                if !taken && rooms.fits(function, kind) {
                    offer.now.insert(own_name(&kind.name));
                }
            }
        }
        for partition in self.claims.iter().flat_map(|held| partitions(&held.claim)) {
            if let (Mechanism::Vgpu { name, .. }, Some(offer)) =
                (&partition.how, gpus.get_mut(&partition.parent))
            {
                offer.known |= is_named(name, profile);
                offer.all.insert(own_name(name));
            }
        }
        Offers { of, gpus }
    }

    /// A known profile without room for as many as are requested.
    fn no_room(
        &self,
        profile: &str,
        offers: &Offers<'_>,
        able: &BTreeSet<Address>,
        found: usize,
    ) -> Option<Refusal> {
        let used = self.is_used(able);
        let place = place(offers.of);
        let now = offers.now();
        let why = if used {
            ": existing and reserved ones take the room, or exclude other sizes"
        } else {
            ""
        };
        let release = self.claimed_partition(able);
        if found > 0 {
            let fewer = format!("request at most {found}");
            return Some(Refusal::new(
                Code::InsufficientResources,
                format!("{place} has room for {found} of {profile} now{why}"),
                release
                    .map_or(fewer.clone(), |release| format!("{fewer}, or release one: {release}")),
            ));
        }
        let message = match (now.is_empty(), used) {
            (true, false) => return None,
            (true, true) => format!("{place} has no room for another vGPU now{why}"),
            (false, _) => format!("{place} offers only {} now{why}", list(&now)),
        };
        let remedy = match (release, now.is_empty()) {
            (Some(release), true) => release,
            (Some(release), false) => format!("request one of those, or release one: {release}"),
            (None, true) => "use another GPU".to_owned(),
            (None, false) => "request one of those, or use another GPU".to_owned(),
        };
        Some(Refusal::new(Code::InsufficientResources, message, remedy))
    }

    /// Whether these GPUs have vGPUs already, or claims reserve some.
    fn is_used(&self, gpus: &BTreeSet<Address>) -> bool {
        let of_gpus = |function: &&Function| gpus.contains(&gpu_of(function));
        self.inventory.functions.values().filter(of_gpus).any(|function| {
            !function.mdevs.is_empty() || function.vgpu().is_some_and(|one| one.current.is_some())
        }) || self.claimed_partition(gpus).is_some()
    }

    /// How to release a claim that has a vGPU of these GPUs.
    fn claimed_partition(&self, gpus: &BTreeSet<Address>) -> Option<String> {
        let is_one = |partition: &Partition| {
            let parent = self.inventory.function(partition.parent);
            let gpu = parent.map_or(partition.parent, gpu_of);
            gpus.contains(&gpu)
                && matches!(partition.how, Mechanism::Mdev { .. } | Mechanism::Vgpu { .. })
        };
        let mut holding = self.claims.iter().filter(|held| partitions(&held.claim).any(is_one));
        holding.next().map(|held| held.why.remedy.clone())
    }

    /// A profile that no GPU lists, while some GPUs list only what fits beside their vGPUs.
    fn unlisted_profile(
        &self,
        profile: &str,
        offers: &Offers<'_>,
        able: &BTreeSet<Address>,
    ) -> Refusal {
        let hiding: Vec<String> = able.iter().map(ToString::to_string).collect();
        let now = offers.now();
        let check = "check the name; another GPU, or this one without its vGPUs, lists all";
        Refusal::new(
            Code::InsufficientResources,
            format!(
                "{} offers only {} now; no {profile:?} is listed, and {} lists only what fits beside its vGPUs",
                place(offers.of),
                if now.is_empty() { "no vGPU".to_owned() } else { list(&now) },
                hiding.join(", ")
            ),
            match self.claimed_partition(able) {
                Some(release) => format!("request one of those, or {check}: {release}"),
                None => format!("request one of those, or {check}"),
            },
        )
    }

    /// Mediated devices that no claim has: another tool created them, and only that tool or a person removes them.
    fn foreign_mdevs(&self, gpus: &BTreeSet<Address>) -> Option<Refusal> {
        let ours: BTreeSet<Uuid> = self
            .claims
            .iter()
            .flat_map(|held| partitions(&held.claim))
            .filter_map(Partition::mdev)
            .collect();
        let of_gpus = self.inventory.functions.values();
        let of_gpus = of_gpus.filter(|function| gpus.contains(&gpu_of(function)));
        let mut foreign = of_gpus.flat_map(|function| {
            function.mdevs.iter().map(move |mdev| (function.address, mdev.uuid))
        });
        let (parent, uuid) = foreign.by_ref().find(|(_, uuid)| !ours.contains(uuid))?;
        let more = foreign.filter(|(_, uuid)| !ours.contains(uuid)).count();
        let others = if more > 0 { format!(", and {more} more") } else { String::new() };
        Some(Refusal::new(
            Code::InsufficientResources,
            format!(
                "another tool created the mediated device {uuid} on {parent}{others}, which takes room"
            ),
            format!(
                "claim that one (`handover claim mdev={uuid}`), or remove it when it is unused: `echo 1 > \
                 /sys/bus/mdev/devices/{uuid}/remove`"
            ),
        ))
    }
}

impl<'a> Offers<'a> {
    /// The GPUs that can have such a vGPU, if there is room: those that offer it, or may do so once their vGPUs are gone.
    fn able(&self, profile: &str) -> BTreeSet<Address> {
        let family =
            |name: &str| own_name(name).rsplit_once('-').map(|(family, _)| family.to_owned());
        let same = |name: &&str| family(name).is_some_and(|one| Some(one) == family(profile));
        let able = self.gpus.iter().filter(|(_, offer)| {
            offer.known || offer.hides && (offer.all.is_empty() || offer.all.iter().any(same))
        });
        able.map(|(gpu, _)| *gpu).collect()
    }

    fn now(&self) -> BTreeSet<&'a str> {
        self.gpus.values().flat_map(|offer| &offer.now).copied().collect()
    }

    fn all(&self) -> BTreeSet<&'a str> {
        self.gpus.values().flat_map(|offer| &offer.all).copied().collect()
    }
}

fn gpu_of(function: &Function) -> Address {
    function.physical_function.unwrap_or(function.address)
}

fn partitions(claim: &Claim) -> impl Iterator<Item = &Partition> {
    claim.parts.iter().filter_map(|part| part.partition.as_ref())
}

fn place(of: Option<Address>) -> String {
    of.map_or("this host".to_owned(), |of| of.to_string())
}

/// A profile that no GPU has.
fn unknown_profile(profile: &str, offers: &Offers<'_>) -> Refusal {
    Refusal::new(
        Code::InsufficientResources,
        format!(
            "{} offers no profile {profile:?}; it offers {}",
            place(offers.of),
            list(&offers.all())
        ),
        "request one of those",
    )
}

fn no_profiles(of: Option<Address>) -> Refusal {
    let Some(of) = of else {
        return Refusal::new(
            Code::InsufficientResources,
            "no GPU of this host offers vGPUs",
            "request a whole GPU (`gpu`); `handover doctor` shows what vGPUs need",
        );
    };
    Refusal::new(
        Code::InsufficientResources,
        format!("{of} offers no vGPUs"),
        format!(
            "`handover show {of}` shows what it supports; `handover doctor --for {of}` shows what is missing"
        ),
    )
}

fn list(names: &BTreeSet<&str>) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let shown: Vec<&str> = names.iter().copied().take(MOST_NAMES).collect();
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
