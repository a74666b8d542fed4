//! Claims in the types of the API, over an engine.

mod planned;
mod render;

use std::time::Duration;

use api::{CreateClaim, PlannedClaim, PrepareClaim, Released, Wish};
use engine::{Access, ClaimRequest, ClaimStep, Consent, Engine};
use model::boot_list::TAKES_EFFECT;
use model::choose::Want;
use model::{Address, Claim, ClaimState, Refusal};

pub use render::render;

use crate::refusals::invalid;

/// Creates a claim, or returns the existing one of the same owner and request; `true` if it was created.
///
/// # Errors
/// Why it cannot be claimed.
pub fn claim(engine: &Engine, body: CreateClaim) -> Result<(api::Claim, bool), Refusal> {
    let claimed = engine.claims().claim(&request(body)?)?;
    Ok((render_prepared(engine, &claimed.claim)?, claimed.new))
}

/// The claim that a request would create, and its steps.
///
/// # Errors
/// Why it could not be claimed.
pub fn dry_run(engine: &Engine, body: CreateClaim) -> Result<PlannedClaim, Refusal> {
    let (claim, plan) = engine.claims().dry_run(&request(body)?)?;
    let mut steps = planned::steps(&plan);
    let mut rendered = render_claim(engine, &claim)?;
    for (part, rendered) in claim.parts.iter().zip(&mut rendered.parts) {
        // Each run would choose another one.
        if let Some(uuid) = planned::new_uuid(&claim, part) {
            rendered.mdev = None;
            for words in steps.iter_mut().chain(&mut rendered.partition) {
                *words = words.replace(&uuid.to_string(), "(a new UUID)");
            }
        }
    }
    Ok(PlannedClaim { claim: rendered, steps })
}

/// All claims.
///
/// # Errors
/// The store or the host cannot be read.
pub fn list(engine: &Engine) -> Result<Vec<api::Claim>, Refusal> {
    let claims = engine.claims().all()?;
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
    render_claim(engine, &engine.claims().find(key)?)
}

/// Prepares a claim.
///
/// # Errors
/// As [`claim`].
pub fn prepare(engine: &Engine, key: &str, body: PrepareClaim) -> Result<api::Claim, Refusal> {
    let uid = user(body.uid)?.unwrap_or(0);
    let access = Access {
        uid,
        defers_groups: false,
        device_nodes: uid != 0,
        reset: body.reset,
        consent: Consent::options(body.evict, body.force_network).with_display(body.take_display),
    };
    render_prepared(engine, &engine.claims().prepare(key, &access)?)
}

/// Returns a claim's devices to the host, and keeps the reservation.
///
/// # Errors
/// `in_use`, `device_wedged`, `undo_failed`.
pub fn unprepare(engine: &Engine, key: &str) -> Result<api::Claim, Refusal> {
    let (claim, notes) = engine.claims().unprepare(key)?;
    Ok(api::Claim { notes, ..render_claim(engine, &claim)? })
}

/// Renews the lease of a claim.
///
/// # Errors
/// `not_found`.
pub fn renew(engine: &Engine, key: &str, seconds: Option<u64>) -> Result<api::Claim, Refusal> {
    render_claim(engine, &engine.claims().renew(key, lease(seconds)?)?)
}

/// Releases a claim; with `owner`, only if the claim has this owner.
///
/// # Errors
/// As [`unprepare`]; `forbidden`.
pub fn release(engine: &Engine, key: &str, owner: Option<&str>) -> Result<Released, Refusal> {
    let owner = owner.map(str::parse).transpose()?;
    Ok(Released { notes: engine.claims().release(key, owner.as_ref())? })
}

/// Operations on claims, over an engine or over a daemon.
pub trait ClaimService {
    /// All claims.
    ///
    /// # Errors
    /// The store or the host cannot be read, or the daemon does not answer.
    fn list(&self) -> Result<Vec<api::Claim>, Refusal>;

    /// Creates a claim, or returns the existing one of the same owner and request.
    ///
    /// # Errors
    /// Why it cannot be claimed.
    fn claim(&self, body: CreateClaim) -> Result<api::Claim, Refusal>;

    /// Releases a claim; with `owner`, only if the claim has this owner.
    ///
    /// # Errors
    /// `not_found`, `in_use`, `device_wedged`, `undo_failed`, `forbidden`.
    fn release(&self, key: &str, owner: Option<&str>) -> Result<Released, Refusal>;
}

impl ClaimService for Engine {
    fn list(&self) -> Result<Vec<api::Claim>, Refusal> {
        list(self)
    }

    fn claim(&self, body: CreateClaim) -> Result<api::Claim, Refusal> {
        claim(self, body).map(|(claim, _)| claim)
    }

    fn release(&self, key: &str, owner: Option<&str>) -> Result<Released, Refusal> {
        release(self, key, owner)
    }
}

/// Parses a want of a request.
///
/// # Errors
/// The text cannot be parsed.
pub fn want(wish: Wish) -> Result<Want, Refusal> {
    match wish {
        Wish::Words(text) => text.parse(),
        Wish::Spelt(want) => want.check().map(|()| want),
    }
}

/// The longest lease, in seconds: 10 years.
const LONGEST_LEASE: u64 = 10 * 365 * 86_400;

fn lease(seconds: Option<u64>) -> Result<Option<Duration>, Refusal> {
    match seconds {
        Some(seconds) if !(1..=LONGEST_LEASE).contains(&seconds) => Err(invalid(
            format!("a lease cannot last {seconds} seconds"),
            format!("use 1 to {LONGEST_LEASE} seconds (10 years), or omit it for no lease"),
        )),
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// The user of prepared devices; chown(2) reads the highest number as "unchanged".
pub(crate) fn user(uid: Option<u32>) -> Result<Option<u32>, Refusal> {
    match uid {
        Some(u32::MAX) => Err(invalid(
            format!("{} is not a user id", u32::MAX),
            "use the id of the user who runs the machine; `id -u NAME` prints it",
        )),
        uid => Ok(uid),
    }
}

fn request(body: CreateClaim) -> Result<ClaimRequest, Refusal> {
    let wants: Vec<Want> = body.wants.into_iter().map(want).collect::<Result<_, _>>()?;
    if let Some(want) = wants.iter().find(|want| want.guest.is_some()) {
        return Err(invalid(
            format!(
                "an address in the guest is asked for {}, and a claim is no machine's",
                want.kind
            ),
            "leave `guest` out; `handover instance create --device` takes it",
        ));
    }
    let step = if body.prepare.unwrap_or(true) { ClaimStep::Prepare } else { ClaimStep::Reserve };
    Ok(ClaimRequest {
        reason: body.reason,
        lease: lease(body.lease_seconds)?,
        step,
        uid: user(body.uid)?,
        alone: body.alone,
        mixed: body.mixed,
        any_display: body.any_display,
        define: body.define,
        at_boot: body.at_boot,
        reset: body.reset,
        evict: body.evict,
        force_network: body.force_network,
        take_display: body.take_display,
        ..ClaimRequest::new(body.owner.parse()?, wants)
    })
}

/// Renders a claim that may just have been prepared, with notes for its owner.
fn render_prepared(engine: &Engine, claim: &Claim) -> Result<api::Claim, Refusal> {
    let listed = claim.is_at_boot() && claim.state == ClaimState::Prepared;
    let notes = if listed { vec![TAKES_EFFECT.to_owned()] } else { Vec::new() };
    Ok(api::Claim { notes, ..render_claim(engine, claim)? })
}

pub(crate) fn render_claim(engine: &Engine, claim: &Claim) -> Result<api::Claim, Refusal> {
    let members = claim.members().map(|member| member.address);
    let parents = claim.parts.iter().map(|part| part.head);
    let functions: Vec<Address> = members.chain(parents).collect();
    Ok(render(claim, &engine.functions(&functions)?))
}
