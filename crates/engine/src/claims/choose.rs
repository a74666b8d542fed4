//! Chooses the assemblies and partitions for a request, or returns why there are none. Read-only.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::choose::{Chosen, ExistingClaim, Options, Scene, Want, WantKind, choose, needs_detail};
use model::{
    Address, Claim, ClaimState, ClaimedMember, Code, Function, Holder, HostError, Inventory, Owner,
    Part, Refusal,
};
use rusqlite::Connection;
use uuid::Uuid;

use super::Claims;
use super::fabric::{self, Fabric};
use super::unknown::expect_known;
use crate::consent::{Consent, Named};
use crate::hardware::users;
use crate::store::{Health, StoredClaim, StoredDevice, StoredInstance};
use crate::{owners, refusals};

/// The terms of a new claim, without its devices.
pub struct Terms {
    pub owner: Owner,
    pub reason: Option<String>,
    pub expires: Option<u64>,
    pub wants: Vec<Want>,
    pub alone: bool,
}

/// The host's state that a choice was based on. Preparing can reuse it if it follows at once.
#[derive(Debug)]
pub struct HostState {
    pub inventory: Inventory,
    /// Users of the chosen functions; the request consents to the end of each use.
    pub holders: Vec<Holder>,
}

/// The claims that the one who asks has already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own<'a> {
    /// The instance that asks.
    pub instance: Option<Uuid>,
    /// Those of its claims that it will have no longer.
    pub leaving: &'a [Uuid],
}

impl Own<'_> {
    /// The whole devices that the instance has and keeps; `claims` are those that stay.
    fn kept(&self, claims: &[ExistingClaim]) -> BTreeSet<Address> {
        let Some(owner) = self.instance.map(Owner::instance) else { return BTreeSet::new() };
        let own = claims.iter().map(|claim| &claim.claim).filter(|claim| claim.owner == owner);
        fabric::heads(own).collect()
    }

    /// Takes those that are leaving from all claims; those that stay are said to be its own.
    fn leave(&self, claims: &mut Vec<ExistingClaim>) {
        claims.retain(|claim| !self.leaving.contains(&claim.claim.id));
        let Some(owner) = self.instance.map(Owner::instance) else { return };
        for claim in claims.iter_mut().filter(|claim| claim.claim.owner == owner) {
            claim.why = Refusal::new(
                Code::InUse,
                "is a device of this instance already",
                "name each device once, or request fewer; `handover ls` lists what this host has",
            );
        }
    }
}

impl Claims {
    /// New claims of an instance: one per device or partition, in the order of `wants`. Those of registered devices name
    /// the registration. With the hardware that the choice was based on. The instance's claims that are `leaving` do not count.
    pub(crate) fn choose_for_instance(
        &self,
        instance: Uuid,
        wants: &[Want],
        leaving: &[Uuid],
        take_display: bool,
    ) -> Result<(Vec<StoredClaim>, Inventory), Refusal> {
        if wants.is_empty() {
            return Ok((Vec::new(), Inventory::default()));
        }
        expect_few(wants)?;
        let id = Uuid::new_v4();
        let options = Options { by_name_only: true, ..Options::default() };
        let (chosen, HostState { inventory, .. }) = self.choose(
            id,
            wants,
            options,
            Consent::NONE.with_display(take_display),
            Own { instance: Some(instance), leaving },
        )?;
        let registered = self.store.read(StoredDevice::all)?;
        // The chosen devices of each want follow one another.
        let each = wants.iter().flat_map(|want| (0..want.count).map(move |_| want));
        let mut claims = Vec::new();
        for ((position, chosen), want) in (0u32..).zip(chosen).zip(each) {
            let whole = chosen.partition.is_none();
            let device = registered.iter().find(|device| device.address == chosen.head);
            let device = device.filter(|_| whole || matches!(want.kind, WantKind::Device(_)));
            let terms = Terms {
                owner: Owner::instance(instance),
                reason: None,
                expires: None,
                wants: vec![Want { count: 1, ..want.clone() }],
                alone: false,
            };
            let mut claim = self.claim_of(Uuid::new_v4(), terms, vec![chosen], &inventory)?;
            claim.device = device.map(|device| device.id);
            claim.position = position;
            claims.push(claim);
        }
        Ok((claims, inventory))
    }

    /// Chooses what `wants` asks for among devices that are not claimed, marked or in use. Users that the
    /// request consents to do not count, nor do claims of its own that are leaving.
    pub(crate) fn choose(
        &self,
        id: Uuid,
        wants: &[Want],
        options: Options,
        consent: Consent,
        own: Own<'_>,
    ) -> Result<(Vec<Chosen>, HostState), Refusal> {
        let names = self.registered()?;
        let catalog = self.catalog();
        expect_known(wants, &names, &catalog)?;
        let mut inventory = self.hardware.sketch()?;
        let resources = catalog.claimable(&inventory);
        let named = wants.iter().any(|want| matches!(want.kind, WantKind::Mdev(_)));
        let definitions = if named { self.hardware.host.mdev_definitions() } else { Vec::new() };
        let mut detailed = needs_detail(&inventory, wants, &names);
        let wanted = |uuid: Uuid| wants.iter().any(|want| want.kind == WantKind::Mdev(uuid));
        detailed.extend(definitions.iter().filter(|one| wanted(one.uuid)).map(|one| one.parent));
        if !detailed.is_empty() {
            self.hardware.host.offers(&mut inventory, &detailed);
        }
        let mut claims = self.existing_claims()?;
        own.leave(&mut claims);
        let mut barred = self.under_blocks()?;
        barred.extend(self.unhealthy()?);
        barred.extend(self.in_other_modes(wants, &mut inventory)?);
        let mut fabric = Fabric::new(self, own.kept(&claims));
        let mut examined = BTreeSet::new();
        // Marks and users are read only for the functions that would be taken: finding users scans all processes.
        loop {
            let scene = Scene {
                inventory: &inventory,
                claims: &claims,
                barred: &barred,
                definitions: &definitions,
                resources: &resources,
                names: &names,
                id,
                options,
            };
            let chosen = fabric.fit(&scene, wants, choose(&scene, wants)?)?;
            if named {
                self.expect_mdevs_unused(&chosen)?;
            }
            let taken: Vec<Address> = chosen.iter().flat_map(Chosen::taken).collect();
            if self.examine(&mut inventory, &taken, &mut examined) {
                continue;
            }
            let lost: Vec<Address> = chosen.iter().flat_map(Chosen::lost).collect();
            let marked = self.marks.marked(&taken)?;
            if !marked.is_empty() {
                bar(&mut barred, marked)?;
                continue;
            }
            let holders = self.hardware.holders(&lost)?;
            let named_devices = Named::of(wants, chosen.iter().map(Chosen::lost));
            let used = users(&holders, consent, &named_devices);
            if used.is_empty() {
                return Ok((chosen, HostState { inventory, holders }));
            }
            bar(&mut barred, used)?;
        }
    }

    /// The addresses of registered devices, by name and by id.
    fn registered(&self) -> Result<BTreeMap<String, Address>, Refusal> {
        let devices = self.store.read(StoredDevice::all)?.into_iter();
        let keys = devices.flat_map(|d| [(d.name, d.address), (d.id.to_string(), d.address)]);
        Ok(keys.collect())
    }

    /// Reads whether the functions that would be taken respond, those that are new. Whether the choice can change by that.
    fn examine(
        &self,
        inventory: &mut Inventory,
        taken: &[Address],
        examined: &mut BTreeSet<Address>,
    ) -> bool {
        let new = taken.iter().copied().filter(|address| examined.insert(*address));
        // On vfio no driver tells what a function is and offers.
        let (idle, driven): (Vec<Address>, Vec<Address>) =
            new.partition(|address| inventory.function(*address).is_some_and(Function::on_vfio));
        if !idle.is_empty() {
            self.hardware.host.complete(inventory, &idle);
        }
        if !driven.is_empty() {
            self.hardware.host.answers(inventory, &driven);
        }
        let silent = |address: &Address| {
            let detail = inventory.function(*address).and_then(|one| one.detail.as_deref());
            detail.is_some_and(|detail| detail.silent)
        };
        !idle.is_empty() || driven.iter().any(silent)
    }

    /// All claims, each with the refusal for others that want the same devices.
    pub(super) fn existing_claims(&self) -> Result<Vec<ExistingClaim>, Refusal> {
        self.store.read(existing_claims)
    }

    /// The functions that need manual attention, each with its refusal.
    pub(super) fn unhealthy(&self) -> Result<BTreeMap<Address, Refusal>, Refusal> {
        let health = self.store.read(Health::all)?;
        Ok(health
            .into_iter()
            .map(|health| (health.address, refusals::unhealthy(&health)))
            .collect())
    }

    /// Refuses existing mediated devices that are in use.
    fn expect_mdevs_unused(&self, chosen: &[Chosen]) -> Result<(), Refusal> {
        let partitions = chosen.iter().filter_map(|chosen| chosen.partition.as_ref());
        let (parents, mdevs): (Vec<Address>, Vec<Uuid>) =
            partitions.filter_map(|part| Some((part.parent, part.mdev()?))).unzip();
        let holders = self.hardware.holders(&parents)?;
        let user = holders.iter().find(|h| h.mdev.is_some_and(|uuid| mdevs.contains(&uuid)));
        user.map_or(Ok(()), |holder| Err(refusals::used(holder, Consent::NONE, &Named::default())))
    }

    /// A claim of the chosen devices, with their fingerprints.
    pub(crate) fn claim_of(
        &self,
        id: Uuid,
        terms: Terms,
        chosen: Vec<Chosen>,
        inventory: &Inventory,
    ) -> Result<StoredClaim, Refusal> {
        let parts = chosen
            .into_iter()
            .map(|chosen| self.part(chosen, inventory))
            .collect::<Result<_, _>>()?;
        Ok(StoredClaim {
            device: None,
            position: 0,
            wants: terms.wants,
            alone: terms.alone,
            uid: None,
            created_at: Timestamp::now(),
            claim: Claim {
                id,
                owner: terms.owner,
                reason: terms.reason,
                expires: terms.expires,
                parts,
                state: ClaimState::Reserved,
                boot_id: None,
            },
        })
    }

    fn part(&self, chosen: Chosen, inventory: &Inventory) -> Result<Part, Refusal> {
        let addresses: Vec<Address> = chosen.members.iter().map(|(address, _)| *address).collect();
        let unreadable = |error: HostError| refusals::unreadable(&error);
        let found = self.hardware.host.as_found(&addresses).map_err(unreadable)?;
        let registered = self.store.read(StoredDevice::all)?;
        for found in &found {
            let same = registered.iter().find(|device| device.address == found.address);
            if same.is_some_and(|device| !device.fingerprint.matches(&found.fingerprint)) {
                return Err(refusals::fingerprint_changed(found.address));
            }
        }
        if inventory.function(chosen.head).is_none() {
            return Err(model::no_such_function(chosen.head));
        }
        let member = |((address, role), found): ((Address, model::Role), model::AsFound)| {
            ClaimedMember { address, role, fingerprint: found.fingerprint, as_found: None }
        };
        Ok(Part {
            head: chosen.head,
            partition: chosen.partition,
            members: chosen.members.into_iter().zip(found).map(member).collect(),
            at_boot: false,
        })
    }
}

/// Bars functions from being chosen again. Fails if they were barred already: choosing would never end.
fn bar(
    barred: &mut BTreeMap<Address, Refusal>,
    more: BTreeMap<Address, Refusal>,
) -> Result<(), Refusal> {
    let known = barred.len();
    let first = more.values().next().cloned();
    barred.extend(more);
    match first {
        Some(refusal) if barred.len() == known => Err(refusal),
        _ => Ok(()),
    }
}

/// All claims of a store, each with its owner in words and the refusal for others.
pub fn existing_claims(from: &Connection) -> rusqlite::Result<Vec<ExistingClaim>> {
    let (claims, instances) = (StoredClaim::all(from)?, StoredInstance::all(from)?);
    let health = Health::all(from)?;
    let existing = claims.into_iter().map(|claim| ExistingClaim {
        why: refusals::claimed(&claim, &instances, &health),
        owner: owners::described_among(&instances, &claim.claim.owner),
        claim: claim.claim,
    });
    Ok(existing.collect())
}

/// The most devices and partitions in a request: more is a mistake, and would take long to choose.
const MAX_COUNT: u64 = 1024;

/// Refuses requests for too many devices.
pub fn expect_few(wants: &[Want]) -> Result<(), Refusal> {
    let count: u64 = wants.iter().map(|want| u64::from(want.count)).sum();
    if count <= MAX_COUNT {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InsufficientResources,
        format!("the request asks for {count} devices at once"),
        format!("ask for at most {MAX_COUNT}"),
    ))
}

/// The want for a vGPU of this profile.
pub fn profile(name: &str) -> Want {
    let kind = WantKind::Profile { profile: name.into(), of: None, attributes: Vec::new() };
    Want::one(kind)
}
