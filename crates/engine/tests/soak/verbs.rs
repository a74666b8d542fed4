//! The verbs of a history. Any refusal is fine, except for an unusable store.

use std::time::Duration;

use engine::{Access, ClaimRequest, ClaimStep, Consent, CreateInstance, DeviceWish, Engine};
use model::{Address, Claim, ClaimState, Code, Owner, Refusal};
use uuid::Uuid;

use crate::history::{How, Meanwhile, Verb};
use crate::truth::{Ours, count_of};
use crate::world::{World, broken, lock};

/// The first half of the subject ids of operations on VF counts (`src/vf_counts/mod.rs`).
const CONFIGURATIONS: u64 = 0x6861_6e64_6f76_8001;

fn owner(id: &str) -> Owner {
    Owner { kind: "job".into(), id: id.into() }
}

fn lease(over: bool) -> Option<Duration> {
    over.then_some(Duration::ZERO)
}

fn access(how: How) -> Access {
    let uid = if how.user { 1000 } else { 0 };
    Access {
        uid,
        defers_groups: false,
        device_nodes: how.user,
        reset: how.reset,
        consent: Consent::options(how.evict, how.force_network).with_display(how.take_display),
    }
}

fn request(id: &str, wants: &[String], how: How) -> ClaimRequest {
    ClaimRequest {
        lease: lease(how.over),
        step: if how.reserve { ClaimStep::Reserve } else { ClaimStep::Prepare },
        uid: how.user.then_some(1000),
        alone: how.alone,
        // Only mediated devices have definitions.
        define: how.define && wants.iter().any(|want| want.contains("profile=")),
        // Partitions do not exist yet when a host boots.
        at_boot: how.at_boot
            && wants.iter().any(|want| !want.contains("profile=") && !want.contains("vf")),
        reset: how.reset,
        evict: how.evict,
        force_network: how.force_network,
        take_display: how.take_display,
        ..ClaimRequest::new(owner(id), wants.iter().map(|want| want.parse().unwrap()).collect())
    }
}

/// An owner's claims.
fn claims_of(engine: &Engine, id: &str) -> Vec<Claim> {
    let all = engine.claims().all().unwrap();
    all.into_iter().filter(|claim| claim.owner == owner(id)).collect()
}

/// Whether `subject` is the claim itself, or the instance that owns it.
fn is_about(claim: &Claim, subject: Uuid) -> bool {
    claim.id == subject || claim.owner == Owner::instance(subject)
}

impl World {
    /// Performs an event while an operation on `subject` is running.
    pub fn meanwhile(&self, engine: &Engine, subject: Uuid, what: Meanwhile) {
        match what {
            Meanwhile::Verb(verb) => {
                if !self.would_wait(engine, &verb, subject) {
                    self.act(engine, &verb);
                }
            }
            Meanwhile::Outside(outside) => self.outside(engine, &outside, true),
            Meanwhile::Unwritable { boundaries } => self.lock_store(boundaries),
            Meanwhile::GiveUp => {
                *lock(&self.gave_up) = true;
                engine.cancel_all();
            }
        }
    }

    /// Whether a verb would wait for the running operation: in one thread that is a deadlock.
    fn would_wait(&self, engine: &Engine, verb: &Verb, subject: Uuid) -> bool {
        let claims = || engine.claims().all().unwrap().into_iter();
        match verb {
            Verb::Claim { owner: id, .. }
            | Verb::Prepare { owner: id, .. }
            | Verb::Unprepare { owner: id, .. }
            | Verb::Release { owner: id, .. }
            | Verb::Renew { owner: id, .. } => {
                claims().any(|claim| claim.owner == owner(id) && is_about(&claim, subject))
            }
            Verb::Sriov { .. } => subject.as_u64_pair().0 == CONFIGURATIONS,
            Verb::Create { name, .. }
            | Verb::Start { name }
            | Verb::Stop { name }
            | Verb::Delete { name } => {
                engine.instances().find(name).is_ok_and(|instance| instance.id == subject)
            }
            Verb::RecoverDevices { .. } | Verb::Reconcile | Verb::Clear { .. } => {
                subject.as_u64_pair().0 == CONFIGURATIONS
                    || claims()
                        .any(|claim| claim.state == ClaimState::Wedged && is_about(&claim, subject))
            }
            Verb::Expire => claims().any(|c| c.expires.is_some() && is_about(&c, subject)),
            Verb::LookAfter => false,
        }
    }

    /// Performs a verb.
    pub fn act(&self, engine: &Engine, verb: &Verb) {
        let result = match verb {
            Verb::Sriov { address, count, autoprobe } => {
                self.set_vf_count(engine, address, *count, *autoprobe)
            }
            Verb::RecoverDevices { address } => self.recover_devices(engine, address.as_deref()),
            Verb::Create { .. } | Verb::Start { .. } | Verb::Stop { .. } | Verb::Delete { .. } => {
                self.manage(engine, verb)
            }
            Verb::Reconcile => engine.reconcile().map(drop),
            Verb::Expire => {
                for claim in engine.claims().all().unwrap().iter().filter(|c| c.expires.is_some()) {
                    self.touch(&claim.owner);
                }
                engine.claims().release_expired().map(drop)
            }
            Verb::LookAfter => engine.check_claims().map(drop),
            Verb::Clear { address } => engine.devices().clear(address).map(drop),
            _ => self.handle(engine, verb),
        };
        if let Err(refusal) = result
            && refusal.code == Code::StateUnusable
            && !*lock(&self.unwritable)
        {
            broken(format!("{verb:?}: {refusal}"));
        }
    }

    fn touch(&self, owner: &Owner) {
        lock(&self.touched).insert(owner.to_string());
    }

    /// Performs a verb on a claim.
    fn handle(&self, engine: &Engine, verb: &Verb) -> Result<(), Refusal> {
        let (Verb::Claim { owner: id, .. }
        | Verb::Prepare { owner: id, .. }
        | Verb::Unprepare { owner: id, .. }
        | Verb::Release { owner: id, .. }
        | Verb::Renew { owner: id, .. }) = verb
        else {
            return Ok(());
        };
        self.touch(&owner(id));
        if let Verb::Claim { wants, how, .. } = verb {
            let claim = engine.claims().claim(&request(id, wants, *how))?.claim;
            self.expect_state(engine, &claim.id, !how.reserve, "claimed");
            return Ok(());
        }
        let (Verb::Prepare { nth, .. }
        | Verb::Unprepare { nth, .. }
        | Verb::Release { nth, .. }
        | Verb::Renew { nth, .. }) = verb
        else {
            return Ok(());
        };
        let claims = claims_of(engine, id);
        let Some(claim) = claims.get(usize::from(*nth) % claims.len().max(1)) else {
            return Ok(());
        };
        let key = claim.id.to_string();
        match verb {
            Verb::Prepare { how, .. } => {
                engine.claims().prepare(&key, &access(*how))?;
                self.expect_state(engine, &claim.id, true, "prepared");
            }
            Verb::Unprepare { .. } => drop(engine.claims().unprepare(&key)?),
            Verb::Release { .. } => {
                engine.claims().release(&key, None)?;
                if engine.claims().find(&key).is_ok() {
                    broken(format!("{key} was released but still exists"));
                }
            }
            Verb::Renew { over, .. } => drop(engine.claims().renew(&key, lease(*over))?),
            _ => {}
        }
        Ok(())
    }

    /// Checks that the claim has the acknowledged state.
    fn expect_state(&self, engine: &Engine, id: &Uuid, prepared: bool, what: &str) {
        match engine.claims().find(&id.to_string()) {
            Ok(claim) if !prepared || claim.state == ClaimState::Prepared => {}
            other => broken(format!("{id} was acknowledged as {what}, but is not: {other:?}")),
        }
    }

    /// Performs a verb on an instance.
    fn manage(&self, engine: &Engine, verb: &Verb) -> Result<(), Refusal> {
        match verb {
            Verb::Create { name, devices, profile, take_display } => {
                let registered = devices.iter().cloned().map(DeviceWish::Registered);
                let vgpu = profile.iter().map(|profile| {
                    DeviceWish::Wanted(format!("profile={profile}").parse().unwrap())
                });
                let request = CreateInstance {
                    name: name.clone(),
                    image: Some("debian".into()),
                    devices: registered.chain(vgpu).collect(),
                    seat: model::Seat { take_display: *take_display, ..model::Seat::default() },
                    ..CreateInstance::default()
                };
                engine.instances().create(request).map(drop)
            }
            Verb::Start { name } | Verb::Stop { name } | Verb::Delete { name } => {
                if let Ok(instance) = engine.instances().find(name) {
                    self.touch(&Owner::instance(instance.id));
                }
                match verb {
                    Verb::Start { .. } => engine.instances().start(name).map(drop),
                    Verb::Stop { .. } => engine.instances().stop(name).map(drop),
                    _ => engine.instances().delete(name),
                }
            }
            _ => Ok(()),
        }
    }

    fn set_vf_count(
        &self,
        engine: &Engine,
        address: &str,
        count: u16,
        autoprobe: bool,
    ) -> Result<(), Refusal> {
        let parent: Address = address.parse().unwrap();
        // Without virtual functions, the kernel's default holds.
        let autoprobe = autoprobe || count == 0;
        let at = {
            let mut configured = lock(&self.configured);
            configured.push((parent, count, autoprobe, false));
            configured.len() - 1
        };
        engine.vf_counts().set(address, count, autoprobe)?;
        lock(&self.configured)[at].3 = true;
        let now = self.host.snapshot();
        // A device that was unplugged meanwhile has none.
        let there = now.functions.contains_key(&parent);
        // Another tool may have changed it afterwards.
        let theirs = lock(&self.counted).contains(&parent);
        if there && !theirs && count_of(&now, parent) != (count, Some(autoprobe)) {
            broken(format!(
                "{parent}: {count} virtual functions were acknowledged, but do not exist"
            ));
        }
        let mut truth = lock(&self.truth);
        truth.see(&engine.inventory().unwrap());
        truth.vfs_renewed(parent, &now, &Ours::of(&engine.claims().all().unwrap(), true));
        Ok(())
    }

    /// Returns devices; for unclaimed functions that are returned, the expected state is no longer what others left.
    fn recover_devices(&self, engine: &Engine, address: Option<&str>) -> Result<(), Refusal> {
        let asked: Vec<Address> = address.map(|text| text.parse().unwrap()).into_iter().collect();
        let now = self.host.snapshot();
        let vfio = |driver: &Option<String>| driver.as_deref() == Some("vfio-pci");
        let displaced = now.functions.iter().filter(|(address, state)| {
            asked.contains(address) || asked.is_empty() && vfio(&state.driver)
        });
        let claims = engine.claims().all().unwrap();
        for (address, _) in displaced {
            if !claims.iter().any(|claim| claim.covers(*address)) {
                lock(&self.truth).loosen(*address);
            }
        }
        engine.devices().return_unclaimed(&asked).map(drop)
    }
}
