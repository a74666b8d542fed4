//! Why a vGPU of a profile cannot be created: the profile does not exist, or there is no room for it.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Scene;
use super::candidates::named;
use crate::{Address, Code, Function, Mechanism, Partition, Refusal};

/// More names are not listed.
const MOST_NAMES: usize = 24;

/// What GPUs offer: the names of their profiles, and which can be created now.
#[derive(Default)]
struct Offer<'a> {
    all: BTreeSet<&'a str>,
    now: BTreeSet<&'a str>,
    /// Whether the requested one is among them.
    known: bool,
}

impl Scene<'_> {
    /// Why no (or no other) vGPU of this profile can be created, the most helpful reason first.
    pub(super) fn why_no_profile(&self, profile: &str, of: Option<Address>) -> Vec<Refusal> {
        let offer = self.offer(profile, of);
        // Drivers with vGPUs on virtual functions list only what can be created now.
        let hidden = self.offering(of).any(|one| one.vgpu().is_some()) && self.is_used(of);
        let mut reasons: Vec<Refusal> = self.bare_functions(of).into_iter().collect();
        if !offer.all.is_empty() && !offer.known && !hidden {
            reasons.push(unknown_profile(profile, of, &offer));
            return reasons;
        }
        reasons.extend(self.foreign_mdevs(of));
        reasons.extend(self.no_room(of, &offer));
        if reasons.is_empty() {
            reasons.extend(of.map(no_profiles));
        }
        reasons
    }

    /// The functions that offer profiles: of one GPU or of all.
    fn offering(&self, of: Option<Address>) -> impl Iterator<Item = &Function> {
        self.inventory.functions.values().filter(move |function| {
            let own = function.physical_function.unwrap_or(function.address);
            of.is_none_or(|of| of == own || of == function.address)
        })
    }

    fn offer(&self, profile: &str, of: Option<Address>) -> Offer<'_> {
        let mut offer = Offer::default();
        for detail in self.offering(of).filter_map(|function| function.detail.as_ref()) {
            for kind in &detail.mdev_types {
                let name = kind.name.as_deref().unwrap_or(&kind.id);
                offer.known |= kind.id == profile || named(name, profile);
                offer.all.insert(name);
                if kind.available != Some(0) {
                    offer.now.insert(name);
                }
            }
            for kind in detail.vgpu.iter().flat_map(|vgpu| &vgpu.creatable) {
                offer.known |= named(&kind.name, profile);
                offer.all.insert(&kind.name);
                offer.now.insert(&kind.name);
            }
        }
        offer
    }

    /// Whether there are vGPUs already.
    fn is_used(&self, of: Option<Address>) -> bool {
        self.offering(of).any(|function| {
            let own = function.physical_function.unwrap_or(function.address);
            !function.mdevs.is_empty() || self.vgpus_on(own) > 0
        })
    }

    /// A known profile without room.
    fn no_room(&self, of: Option<Address>, offer: &Offer<'_>) -> Option<Refusal> {
        let used = self.is_used(of);
        let place = place(of);
        let why = if used { ": existing ones take the room, or exclude other sizes" } else { "" };
        let message = match (offer.now.is_empty(), used) {
            (true, false) => return None,
            (true, true) => format!("{place} has no room for another vGPU now{why}"),
            (false, _) => format!("{place} offers only {} now{why}", list(&offer.now)),
        };
        let remedy = match (self.claimed_partition(of), offer.now.is_empty()) {
            (Some(release), true) => release,
            (Some(release), false) => format!("request one of those, or release one: {release}"),
            (None, _) => "request one of those, or another GPU".to_owned(),
        };
        Some(Refusal::new(Code::InsufficientResources, message, remedy))
    }

    /// How to release a claim that has a vGPU of these GPUs.
    fn claimed_partition(&self, of: Option<Address>) -> Option<String> {
        let parents: BTreeSet<Address> = self
            .offering(of)
            .map(|function| function.physical_function.unwrap_or(function.address))
            .collect();
        let is_one = |partition: &Partition| {
            parents.contains(&partition.parent)
                && matches!(partition.how, Mechanism::Mdev { .. } | Mechanism::Vgpu { .. })
        };
        let has = |claim: &crate::Claim| {
            claim.parts.iter().filter_map(|part| part.partition.as_ref()).any(is_one)
        };
        self.claims.iter().find(|held| has(&held.claim)).map(|held| held.why.remedy.clone())
    }

    /// Mediated devices that no claim has: another tool created them, and only that tool or a person removes them.
    fn foreign_mdevs(&self, of: Option<Address>) -> Option<Refusal> {
        let ours: BTreeSet<Uuid> = self
            .claims
            .iter()
            .flat_map(|held| &held.claim.parts)
            .filter_map(|part| part.partition.as_ref().and_then(Partition::mdev))
            .collect();
        let mut foreign = self.offering(of).flat_map(|function| {
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

fn place(of: Option<Address>) -> String {
    of.map_or("this host".to_owned(), |of| of.to_string())
}

/// A profile that no GPU has.
fn unknown_profile(profile: &str, of: Option<Address>, offer: &Offer<'_>) -> Refusal {
    Refusal::new(
        Code::InsufficientResources,
        format!("{} offers no profile {profile:?}; it offers {}", place(of), list(&offer.all)),
        "request one of those",
    )
}

fn no_profiles(of: Address) -> Refusal {
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
