//! Devices that are claimed for a pod and prepared for VFIO.

use api::client::segment;
use api::{Claim, ClaimPart, CreateClaim, Released, Wish};
use convert::devices::{Given, Wanted, given, wants};
use model::choose::Want;
use model::{Code, Refusal};

use super::{Machine, Pod, chosen, say};
use crate::door::Door;
use crate::output;

/// The owner of what is claimed for a machine's pod.
pub fn owner(machine: &Machine) -> String {
    format!("pod/{}/{}", machine.instance.namespace(), machine.instance.name())
}

/// Claims for each machine: all of them get theirs, or none.
pub fn claim(pod: &Pod, machines: &mut [Machine]) -> Result<(), Refusal> {
    let host = chosen::look(pod, machines)?;
    let mut wishes = Vec::new();
    for machine in machines.iter() {
        match wants(&machine.wanted, &host.scene()) {
            Ok(wants) => wishes.push(wants),
            Err(missing) => {
                // Of what has no name here nothing can be claimed, with --allow-missing too.
                let first = missing.into_iter().next();
                return Err(first.unwrap_or_else(|| internal("nothing can be claimed")));
            }
        }
    }
    let there = claims(&pod.door)?;
    let mut made: Vec<String> = Vec::new();
    for (machine, wants) in machines.iter_mut().zip(wishes) {
        if wants.is_empty() {
            continue;
        }
        let owner = owner(machine);
        let had = there.iter().any(|claim| claim.owner == owner);
        let claimed = one(pod, &owner, wants).and_then(|claim| {
            if !had {
                made.push(owner.clone());
            }
            Ok((name(&claim), prepared(&machine.wanted, claim)?))
        });
        match claimed {
            Ok((name, all)) => {
                machine.devices = given(&all);
                if pod.cdi {
                    machine.devices.ask_by(name.into_iter().collect());
                }
                say(&format!(
                    "claimed for {owner}; to take it back: handover pod --down {}",
                    shown(machine)
                ));
            }
            Err(refusal) => return Err(taken_back(pod, &made, refusal)),
        }
    }
    Ok(())
}

fn shown(machine: &Machine) -> String {
    format!("{}/{}", machine.instance.namespace(), machine.instance.name())
}

/// Makes a claim, or finds the same one of its owner.
fn one(pod: &Pod, owner: &str, wants: Vec<Want>) -> Result<Claim, Refusal> {
    let body = CreateClaim {
        owner: owner.to_owned(),
        wants: wants.into_iter().map(Wish::Spelt).collect(),
        reason: Some("handover pod".to_owned()),
        lease_seconds: None,
        prepare: Some(true),
        uid: Some(pod.uid),
        alone: false,
        define: false,
        at_boot: false,
        reset: false,
        evict: pod.evict,
    };
    let here = body.clone();
    pod.door.ask(
        async |client| client.post("/claims", Some(&body)).await,
        |engine| daemon::door::claim(engine, here).map(|(claim, _)| claim),
    )
}

fn claims(door: &Door) -> Result<Vec<Claim>, Refusal> {
    door.ask(async |client| client.get("/claims").await, daemon::door::claims)
}

/// Releases what is claimed for an owner.
pub fn release(door: &Door, owner: &str) -> Result<(), Refusal> {
    let path = format!("/claims/{}", segment(owner));
    let released = door.ask(
        async |client| Ok(client.delete_and_read::<Released>(&path).await?.unwrap_or_default()),
        |engine| daemon::door::release(engine, owner, None),
    )?;
    released.notes.iter().for_each(|note| output::warning(note));
    Ok(())
}

/// What was claimed now is released again.
fn taken_back(pod: &Pod, made: &[String], refusal: Refusal) -> Refusal {
    let mut message = refusal.message;
    for owner in made {
        match release(&pod.door, owner) {
            Ok(()) => {
                message.push_str(&format!("; what was claimed for {owner} is released again"))
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
