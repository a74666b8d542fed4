//! What Handover's own state says of a host's devices: whose they are, and which need manual attention.

use std::collections::BTreeMap;

use crate::{Address, Assembly, Claim, ClaimState, Part, Refusal};

/// The state of Handover itself, for tables and checks of the host; empty where none is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnState {
    /// All claims.
    pub claims: Vec<ExistingClaim>,
    /// Functions that need manual attention.
    pub unhealthy: BTreeMap<Address, Unhealthy>,
    /// The names of registered devices.
    pub names: BTreeMap<Address, String>,
}

/// A function that is not chosen until it is cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhealthy {
    /// `wedged` or `quarantined`.
    pub word: &'static str,
    /// Why, and what to do.
    pub why: Refusal,
}

/// How a claim concerns an assembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The claim takes a function of it.
    Whole,
    /// The claim has partitions of it: this many.
    Partitions(usize),
}

impl OwnState {
    /// The function that is registered by this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Address> {
        self.names.iter().find(|(_, known)| *known == name).map(|(address, _)| *address)
    }

    /// Why an assembly needs manual attention: one of its functions does, or a claim of it could not be restored.
    #[must_use]
    pub fn attention(&self, assembly: &Assembly) -> Option<Unhealthy> {
        let mut functions = assembly.taken().map(|member| member.address);
        let itself = functions.find_map(|address| self.unhealthy.get(&address)).cloned();
        itself.or_else(|| {
            let mut claims = self.claims_of(assembly);
            let (existing, share) = claims.find(|(existing, _)| existing.is_wedged())?;
            let why = existing.refusal_of(assembly, share);
            Some(Unhealthy { word: ClaimState::Wedged.as_str(), why })
        })
    }

    /// The claims that have an assembly or a partition of it, in the order of the store.
    pub fn claims_of<'a>(
        &'a self,
        assembly: &'a Assembly,
    ) -> impl Iterator<Item = (&'a ExistingClaim, Share)> {
        self.claims
            .iter()
            .filter_map(|existing| Some((existing, share(&existing.claim, assembly)?)))
    }

    /// The state of an assembly in words: `claimed: job/7 (reserved)`, `wedged`; `None` if this state says nothing of it.
    #[must_use]
    pub fn words(&self, assembly: &Assembly) -> Option<String> {
        if let Some(unhealthy) = self.attention(assembly) {
            return Some(unhealthy.word.to_owned());
        }
        let owners: Vec<String> =
            self.claims_of(assembly).map(|(existing, share)| existing.words(share)).collect();
        (!owners.is_empty()).then(|| format!("claimed: {}", owners.join("; ")))
    }

    /// The claim that has changed this function, and so what its driver and `driver_override` are now.
    #[must_use]
    pub fn changed_by(&self, address: Address) -> Option<&ExistingClaim> {
        let changed = |one: &&ExistingClaim| {
            one.claim.state != ClaimState::Reserved && one.claim.holds(address)
        };
        self.claims.iter().find(changed)
    }

    /// Why an assembly cannot be claimed: it needs manual attention, or it or a partition of it is claimed.
    #[must_use]
    pub fn refusal(&self, assembly: &Assembly) -> Option<Refusal> {
        if let Some(unhealthy) = self.attention(assembly) {
            return Some(unhealthy.why);
        }
        let (existing, share) = self.claims_of(assembly).next()?;
        Some(existing.refusal_of(assembly, share))
    }
}

/// An existing claim, and the refusal for others who request the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingClaim {
    /// The claim.
    pub claim: Claim,
    /// Its owner in words: `job/7`, `the instance "web"`.
    pub owner: String,
    /// Why its parts are not available, and what to do. The message has no subject: `is claimed by pod/a`.
    pub why: Refusal,
}

impl ExistingClaim {
    /// The refusal of a part that the claim excludes; `None` if it does not. The message begins with the requested
    /// function, and names the claimed one if that is another.
    #[must_use]
    pub fn refuse(&self, part: &Part) -> Option<Refusal> {
        let conflict = self.claim.conflict(part)?;
        let Refusal { message: why, .. } = &self.why;
        let head = part.head;
        let shared = part.taken().find(|address| self.claim.holds(*address));
        let message = if self.claim.holds(head) {
            format!("{head} {why}")
        } else if let Some(other) = shared {
            format!("{head} must be handed over with {other}, which {why}")
        } else if self.claim.holds(conflict) {
            format!("{head} is part of {conflict}, which {why}")
        } else if self.claim.pins(conflict) {
            format!("a part of {conflict} {why}")
        } else {
            match self.claim.taken().next() {
                Some(other) => format!("{head} shares an IOMMU group with {other}, which {why}"),
                None => format!("{head} {why}"),
            }
        };
        Some(Refusal { message, ..self.why.clone() })
    }
}

impl ExistingClaim {
    /// The refusal of an assembly that it has, or has partitions of.
    fn refusal_of(&self, assembly: &Assembly, share: Share) -> Refusal {
        let subject = match share {
            Share::Whole => assembly.head.to_string(),
            Share::Partitions(_) => format!("a partition of {}", assembly.head),
        };
        let message = format!("{subject} {}", self.why.message);
        Refusal { message, ..self.why.clone() }
    }

    /// Whether its devices could not be restored, and need manual attention.
    #[must_use]
    pub fn is_wedged(&self) -> bool {
        self.claim.state == ClaimState::Wedged
    }

    /// The owner, and what it has: `job/7 (reserved)`, `2 partitions by job/7`. A prepared claim is the usual one.
    #[must_use]
    pub fn words(&self, share: Share) -> String {
        let state = match self.claim.state {
            ClaimState::Prepared => String::new(),
            state => format!(" ({})", state.as_str()),
        };
        match share {
            Share::Whole => format!("{}{state}", self.owner),
            Share::Partitions(1) => format!("1 partition by {}{state}", self.owner),
            Share::Partitions(count) => format!("{count} partitions by {}{state}", self.owner),
        }
    }
}

fn share(claim: &Claim, assembly: &Assembly) -> Option<Share> {
    // What a claim leaves alone is not claimed: a bridge in the group.
    if claim.covers(assembly.head) && !claim.holds(assembly.head) {
        return None;
    }
    let mut taken = assembly.taken().map(|member| member.address);
    if taken.any(|address| claim.holds(address)) {
        return Some(Share::Whole);
    }
    let pinned =
        |address: Address| claim.parts.iter().filter(|part| part.pins() == Some(address)).count();
    let partitions: usize = assembly.taken().map(|member| pinned(member.address)).sum();
    (partitions > 0).then_some(Share::Partitions(partitions))
}
