//! Claims devices for pods and prepares them for VFIO.

use api::{Claim, ClaimPart, CreateClaim, Wish};
use convert::devices::{Given, Wanted, given, wants};
use model::choose::Want;
use model::{Code, Refusal};

use super::known_host::KnownHost;
use super::machine::Machine;
use crate::claims::ClaimService;

/// Options of claims for pods.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// The user id that may open the prepared devices.
    pub uid: u32,
    /// Whether to ask processes that use a function to terminate.
    pub evict: bool,
    /// Whether to take devices that the host's network uses and that a resource names by address.
    pub force_network: bool,
    /// Whether pods request their devices by CDI name.
    pub by_name: bool,
}

/// Receives the progress of claiming and releasing.
pub trait ClaimedFor {
    /// A machine's devices have been claimed.
    fn claimed(&self, machine: &Machine);
    /// A note of a released claim.
    fn note(&self, note: &str);
}

/// Claims devices for all machines, or for none.
///
/// # Errors
/// Why the devices of one machine cannot be claimed; the claims for others are released again.
pub fn claim(
    machines: &mut [Machine],
    host: &KnownHost,
    service: &impl ClaimService,
    wishes: Wishes,
    progress: &impl ClaimedFor,
) -> Result<(), Refusal> {
    let mut all = Vec::new();
    for machine in machines.iter() {
        match wants(&machine.wanted, &host.scene()) {
            Ok(wants) => all.push(wants),
            Err(missing) => {
                // Unknown resources cannot be claimed, even with --allow-missing.
                let first = missing.into_iter().next();
                return Err(first.unwrap_or_else(|| internal("no device can be claimed")));
            }
        }
    }
    let there = service.list()?;
    let mut claimed_so_far: Vec<String> = Vec::new();
    for (machine, wants) in machines.iter_mut().zip(all) {
        if wants.is_empty() {
            continue;
        }
        let owner = machine.owner();
        let had = there.iter().any(|claim| claim.owner == owner);
        let claimed = service.claim(request(&owner, wants, wishes)).and_then(|claim| {
            if !had {
                claimed_so_far.push(owner.clone());
            }
            Ok((name(&claim), prepared(&machine.wanted, claim)?))
        });
        match claimed {
            Ok((name, all)) => {
                machine.devices = given(&all);
                if wishes.by_name {
                    machine.devices.ask_by(name.into_iter().collect());
                }
                progress.claimed(machine);
            }
            Err(refusal) => return Err(roll_back(&claimed_so_far, service, progress, refusal)),
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
        mixed: false,
        any_display: false,
        define: false,
        at_boot: false,
        reset: false,
        evict: wishes.evict,
        force_network: wishes.force_network,
        take_display: false,
    }
}

/// Releases the claims of an owner.
///
/// # Errors
/// As [`ClaimService::release`].
pub fn release(
    owner: &str,
    service: &impl ClaimService,
    progress: &impl ClaimedFor,
) -> Result<(), Refusal> {
    service.release(owner, None)?.notes.iter().for_each(|note| progress.note(note));
    Ok(())
}

/// Releases the claims made so far, and adds that to the message of the refusal.
fn roll_back(
    claimed_so_far: &[String],
    service: &impl ClaimService,
    progress: &impl ClaimedFor,
    refusal: Refusal,
) -> Refusal {
    let mut message = refusal.message;
    for owner in claimed_so_far {
        match release(owner, service, progress) {
            Ok(()) => {
                message.push_str(&format!("; the claim of {owner} is released again"));
            }
            Err(why) => message.push_str(&format!("; {owner} keeps its claim: {}", why.message)),
        }
    }
    Refusal { message, ..refusal }
}

/// The CDI name of a claim.
fn name(claim: &Claim) -> Option<String> {
    claim.attach.as_ref().map(|attach| attach.cdi.clone())
}

/// The devices of a claim: its parts are in the order of the request.
fn prepared(wanted: &[Wanted], claim: Claim) -> Result<Vec<(Wanted, Given)>, Refusal> {
    let Some(attach) = claim.attach.filter(|_| claim.parts.len() == wanted.len()) else {
        return Err(internal("the claim does not match the request"));
    };
    let part = |one| part(one, &attach.groups);
    Ok(wanted.iter().cloned().zip(claim.parts.into_iter().map(part)).collect())
}

/// The device of one part of a claim.
fn part(part: ClaimPart, all: &[String]) -> Given {
    let members = || part.members.iter().filter(|member| member.role != "bystander");
    let mut groups: Vec<String> = members().filter_map(|one| one.vfio_group.clone()).collect();
    groups.dedup();
    if part.mdev.is_some() {
        // The group of a mediated device is listed for the whole claim only.
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
    let remedy = "check `handover claims`, and release unwanted claims with `handover release`";
    Refusal::new(Code::Internal, message, remedy)
}
