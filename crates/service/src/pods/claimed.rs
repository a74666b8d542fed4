//! Devices that are claimed for pods and prepared for VFIO.

use api::{Claim, ClaimPart, CreateClaim, Wish};
use convert::devices::{Given, Wanted, given, wants};
use model::choose::Want;
use model::{Code, Refusal};

use super::known_host::KnownHost;
use super::machine::Machine;
use crate::claims::ClaimService;

/// How devices are claimed for pods.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// The user who may open what is prepared.
    pub uid: u32,
    /// Whether processes that use a function are asked to end.
    pub evict: bool,
    /// Whether pods ask for their devices by name (Container Device Interface).
    pub by_name: bool,
}

/// Told while devices are claimed and released.
pub trait ClaimedFor {
    /// A machine has its claim.
    fn claimed(&self, machine: &Machine);
    /// The owner of a claim that was released should know something.
    fn note(&self, note: &str);
}

/// Claims for each machine: all of them get theirs, or none.
///
/// # Errors
/// Why one of them cannot have what it asks for; what was claimed for others is released again.
pub fn claim(
    machines: &mut [Machine],
    host: &KnownHost,
    service: &impl ClaimService,
    wishes: Wishes,
    told: &impl ClaimedFor,
) -> Result<(), Refusal> {
    let mut all = Vec::new();
    for machine in machines.iter() {
        match wants(&machine.wanted, &host.scene()) {
            Ok(wants) => all.push(wants),
            Err(missing) => {
                // Of what has no name here nothing can be claimed, with --allow-missing too.
                let first = missing.into_iter().next();
                return Err(first.unwrap_or_else(|| internal("nothing can be claimed")));
            }
        }
    }
    let there = service.list()?;
    let mut made: Vec<String> = Vec::new();
    for (machine, wants) in machines.iter_mut().zip(all) {
        if wants.is_empty() {
            continue;
        }
        let owner = machine.owner();
        let had = there.iter().any(|claim| claim.owner == owner);
        let claimed = service.claim(request(&owner, wants, wishes)).and_then(|claim| {
            if !had {
                made.push(owner.clone());
            }
            Ok((name(&claim), prepared(&machine.wanted, claim)?))
        });
        match claimed {
            Ok((name, all)) => {
                machine.devices = given(&all);
                if wishes.by_name {
                    machine.devices.ask_by(name.into_iter().collect());
                }
                told.claimed(machine);
            }
            Err(refusal) => return Err(taken_back(&made, service, told, refusal)),
        }
    }
    Ok(())
}

fn request(owner: &str, wants: Vec<Want>, wishes: Wishes) -> CreateClaim {
    CreateClaim {
        owner: owner.to_owned(),
        wants: wants.into_iter().map(Wish::Spelt).collect(),
        reason: Some("handover pod".to_owned()),
        lease_seconds: None,
        prepare: Some(true),
        uid: Some(wishes.uid),
        alone: false,
        define: false,
        at_boot: false,
        reset: false,
        evict: wishes.evict,
    }
}

/// Releases what is claimed for an owner.
///
/// # Errors
/// As [`ClaimService::release`].
pub fn release(
    owner: &str,
    service: &impl ClaimService,
    told: &impl ClaimedFor,
) -> Result<(), Refusal> {
    service.release(owner, None)?.notes.iter().for_each(|note| told.note(note));
    Ok(())
}

/// What was claimed now is released again.
fn taken_back(
    made: &[String],
    service: &impl ClaimService,
    told: &impl ClaimedFor,
    refusal: Refusal,
) -> Refusal {
    let mut message = refusal.message;
    for owner in made {
        match release(owner, service, told) {
            Ok(()) => {
                message.push_str(&format!("; what was claimed for {owner} is released again"));
            }
            Err(why) => message.push_str(&format!("; {owner} keeps its claim: {}", why.message)),
        }
    }
    Refusal { message, ..refusal }
}

/// The name by which container tools know a claim.
fn name(claim: &Claim) -> Option<String> {
    claim.attach.as_ref().map(|attach| attach.cdi.clone())
}

/// The devices of a claim: its parts are in the order of its wishes.
fn prepared(wanted: &[Wanted], claim: Claim) -> Result<Vec<(Wanted, Given)>, Refusal> {
    let Some(attach) = claim.attach.filter(|_| claim.parts.len() == wanted.len()) else {
        return Err(internal("the claim does not have what was asked for"));
    };
    let part = |one| part(one, &attach.groups);
    Ok(wanted.iter().cloned().zip(claim.parts.into_iter().map(part)).collect())
}

/// One part of a claim that has the nodes of these groups.
fn part(part: ClaimPart, all: &[String]) -> Given {
    let members = || part.members.iter().filter(|member| member.role != "bystander");
    let mut groups: Vec<String> = members().filter_map(|one| one.vfio_group.clone()).collect();
    groups.dedup();
    if part.mdev.is_some() {
        // A mediated device's group is no function's, and is told of the claim as a whole only.
        groups.extend(all.iter().cloned());
    }
    let devices = members().filter_map(|one| one.vfio_device.clone()).collect();
    let kind = part.partition.as_deref().map(|kind| format!(", {kind}")).unwrap_or_default();
    Given {
        id: part.mdev.clone().unwrap_or_else(|| part.head.clone()),
        mediated: part.mdev.is_some(),
        shown: format!("{}{kind}", part.head),
        groups,
        devices,
    }
}

fn internal(message: &str) -> Refusal {
    let remedy = "look at `handover claims`; `handover release` releases what is not wanted";
    Refusal::new(Code::Internal, message, remedy)
}
