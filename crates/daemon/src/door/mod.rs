//! Claims as the wire has them, over an engine: the same for REST and for a command line without a daemon.

mod pods;

use std::collections::BTreeSet;
use std::time::Duration;

use api::{
    Attach, ClaimMember, ClaimPart, CreateClaim, PlannedClaim, PrepareClaim, RecoverDevices,
    RecoveredDevice, Released, Report, VfConfiguration, Wish,
};
use engine::{Access, ClaimRequest, ClaimStep, Engine, Recovered, RecoveryReport};
use model::choose::Want;
use model::reserve::TAKES_EFFECT;
use model::{
    Address, Attachment, Claim, ClaimState, Code, Function, Inventory, Part, Partition, Refusal,
};

pub use pods::pods;

/// Makes a claim, or finds the same one of its owner. Whether it was made now.
///
/// # Errors
/// Why it cannot be had.
pub fn claim(engine: &Engine, body: CreateClaim) -> Result<(api::Claim, bool), Refusal> {
    let claimed = engine.claim(&request(body)?)?;
    Ok((tell_prepared(engine, &claimed.claim)?, claimed.new))
}

/// What a claim would be and do.
///
/// # Errors
/// Why it could not be had.
pub fn dry_run(engine: &Engine, body: CreateClaim) -> Result<PlannedClaim, Refusal> {
    let (claim, plan) = engine.dry_run(&request(body)?)?;
    let steps = plan.steps().map(model::Step::describe).collect();
    Ok(PlannedClaim { claim: tell(engine, &claim)?, steps })
}

/// All claims.
///
/// # Errors
/// Where the store or the host cannot be read.
pub fn claims(engine: &Engine) -> Result<Vec<api::Claim>, Refusal> {
    let claims = engine.claims()?;
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let inventory = engine.inventory()?;
    Ok(claims.iter().map(|claim| render(claim, &inventory)).collect())
}

/// One claim, by id or owner.
///
/// # Errors
/// `not_found`, `conflict`.
pub fn show(engine: &Engine, key: &str) -> Result<api::Claim, Refusal> {
    tell(engine, &engine.find_claim(key)?)
}

/// Prepares a claim.
///
/// # Errors
/// As [`claim`].
pub fn prepare(engine: &Engine, key: &str, body: PrepareClaim) -> Result<api::Claim, Refusal> {
    let uid = body.uid.unwrap_or(0);
    let access = Access { uid, device_nodes: uid != 0, reset: body.reset, evict: body.evict };
    tell_prepared(engine, &engine.prepare_claim(key, &access)?)
}

/// Gives the host back what a claim took, and keeps the reservation.
///
/// # Errors
/// `in_use`, `device_wedged`, `undo_failed`.
pub fn unprepare(engine: &Engine, key: &str) -> Result<api::Claim, Refusal> {
    let (claim, notes) = engine.unprepare_claim(key)?;
    Ok(api::Claim { notes, ..tell(engine, &claim)? })
}

/// Prolongs a claim.
///
/// # Errors
/// `not_found`.
pub fn renew(engine: &Engine, key: &str, seconds: Option<u64>) -> Result<api::Claim, Refusal> {
    tell(engine, &engine.renew_claim(key, seconds.map(Duration::from_secs))?)
}

/// Releases a claim; where its owner is given, only that owner's.
///
/// # Errors
/// As [`unprepare`]; `forbidden`.
pub fn release(engine: &Engine, key: &str, owner: Option<&str>) -> Result<Released, Refusal> {
    let owner = owner.map(str::parse).transpose()?;
    Ok(Released { notes: engine.release_claim(key, owner.as_ref())? })
}

/// How many virtual functions devices shall have.
///
/// # Errors
/// Where the store cannot be read.
pub fn vfs(engine: &Engine) -> Result<Vec<VfConfiguration>, Refusal> {
    let all = engine.vf_configurations()?;
    let show = |one: engine::VfConfiguration| VfConfiguration {
        pci_address: one.address.to_string(),
        count: one.count,
        autoprobe: one.autoprobe,
    };
    Ok(all.into_iter().map(show).collect())
}

/// Brings devices back to their own drivers.
///
/// # Errors
/// `invalid_pci_address`, `device_not_found`; where the host cannot be read.
pub fn recover(engine: &Engine, body: &RecoverDevices) -> Result<Vec<RecoveredDevice>, Refusal> {
    let read = |text: &String| text.parse::<Address>().map_err(no_address);
    let addresses: Vec<Address> = body.addresses.iter().map(read).collect::<Result<_, _>>()?;
    let all = engine.recover_devices(&addresses)?;
    let show = |one: engine::RecoveredDevice| RecoveredDevice {
        pci_address: one.address.to_string(),
        outcome: match one.outcome {
            Recovered::Well => "well",
            Recovered::Restored => "restored",
            Recovered::Left => "left",
        }
        .to_owned(),
        reason: one.reason,
        driver: one.driver,
    };
    Ok(all.into_iter().map(show).collect())
}

fn no_address(error: model::AddressError) -> Refusal {
    Refusal::new(
        Code::InvalidPciAddress,
        error.to_string(),
        "write it as in 0000:a2:00.0; `handover ls` shows the addresses",
    )
}

/// A report as the wire shows it.
#[must_use]
pub fn report(report: RecoveryReport) -> Report {
    Report {
        finished: report.finished,
        undone: report.undone,
        restored: report.restored,
        adopted: report.adopted.iter().map(ToString::to_string).collect(),
        notes: report.notes,
    }
}

fn request(body: CreateClaim) -> Result<ClaimRequest, Refusal> {
    let want = |wish: Wish| match wish {
        Wish::Words(text) => text.parse::<Want>(),
        Wish::Spelt(want) => Ok(want),
    };
    let wants = body.wants.into_iter().map(want).collect::<Result<_, _>>()?;
    let step = if body.prepare.unwrap_or(true) { ClaimStep::Prepare } else { ClaimStep::Reserve };
    Ok(ClaimRequest {
        reason: body.reason,
        lease: body.lease_seconds.map(Duration::from_secs),
        step,
        uid: body.uid,
        alone: body.alone,
        define: body.define,
        at_boot: body.at_boot,
        reset: body.reset,
        evict: body.evict,
        ..ClaimRequest::new(body.owner.parse()?, wants)
    })
}

/// A claim that may have been prepared just now, with what its owner should know.
fn tell_prepared(engine: &Engine, claim: &Claim) -> Result<api::Claim, Refusal> {
    let listed = claim.is_at_boot() && claim.state == ClaimState::Prepared;
    let notes = if listed { vec![TAKES_EFFECT.to_owned()] } else { Vec::new() };
    Ok(api::Claim { notes, ..tell(engine, claim)? })
}

fn tell(engine: &Engine, claim: &Claim) -> Result<api::Claim, Refusal> {
    let members = claim.members().map(|member| member.address);
    let parents = claim.parts.iter().map(|part| part.head);
    let functions: Vec<Address> = members.chain(parents).collect();
    Ok(render(claim, &engine.functions(&functions)?))
}

fn render(claim: &Claim, inventory: &Inventory) -> api::Claim {
    api::Claim {
        id: claim.id.to_string(),
        owner: claim.owner.to_string(),
        reason: claim.reason.clone(),
        state: claim.state.as_str().to_owned(),
        expires: claim.expires,
        parts: claim.parts.iter().map(|part| render_part(part, inventory)).collect(),
        attach: (claim.state == ClaimState::Prepared).then(|| attach(claim, inventory)),
        notes: Vec::new(),
    }
}

fn render_part(part: &Part, inventory: &Inventory) -> ClaimPart {
    let member = |member: &model::ClaimedMember| {
        let nodes = inventory.function(member.address).map(|function| &function.nodes);
        ClaimMember {
            address: member.address.to_string(),
            role: member.role.as_str().to_owned(),
            vfio_group: nodes.and_then(|nodes| nodes.vfio_group.clone()),
            vfio_device: nodes.and_then(|nodes| nodes.vfio_device.clone()),
        }
    };
    ClaimPart {
        head: part.head.to_string(),
        partition: part.partition.as_ref().map(Partition::describe),
        mdev: part.partition.as_ref().and_then(Partition::mdev).map(|uuid| uuid.to_string()),
        members: part.members.iter().map(member).collect(),
    }
}

fn attach(claim: &Claim, inventory: &Inventory) -> Attach {
    let mut groups: BTreeSet<String> = BTreeSet::new();
    let mut devices = Vec::new();
    for part in &claim.parts {
        let functions: Vec<&Function> =
            part.taken().filter_map(|address| inventory.function(address)).collect();
        groups.extend(functions.iter().filter_map(|function| function.nodes.vfio_group.clone()));
        devices.extend(functions.iter().filter_map(|function| function.nodes.vfio_device.clone()));
        let uuid = part.partition.as_ref().and_then(Partition::mdev);
        let mdevs = inventory.function(part.head).map(|parent| parent.mdevs.as_slice());
        let mdev = mdevs.unwrap_or_default().iter().find(|mdev| Some(mdev.uuid) == uuid);
        groups.extend(mdev.and_then(|mdev| Some(format!("/dev/vfio/{}", mdev.iommu_group?))));
    }
    let Attachment { qemu, cloud_hypervisor, libvirt, cdi } = Attachment::of(claim);
    Attach { groups: groups.into_iter().collect(), devices, qemu, cloud_hypervisor, libvirt, cdi }
}
