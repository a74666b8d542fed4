//! Reading instances.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::choose::{Want, WantKind};
use model::{Code, DeviceAccess, Display, Refusal};
use uuid::Uuid;

use super::pause::runs;
use super::{Instances, wrong_state};
use crate::claims::choose::expect_few;
use crate::store::{StoredClaim, StoredInstance};
use crate::tags::has_tags;
use crate::{DeviceWish, Instance, InstanceDevice, InstanceState, registrations};

impl Instances {
    /// The instances with all these tags.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn all(&self, tags: &BTreeMap<String, String>) -> Result<Vec<Instance>, Refusal> {
        let rows = self.store.read(StoredInstance::all)?;
        let all = rows.into_iter().map(|row| row.instance);
        Ok(all.filter(|instance| has_tags(&instance.tags, tags)).collect())
    }

    /// An instance by id or name.
    ///
    /// # Errors
    /// `not_found`.
    pub fn find(&self, key: &str) -> Result<Instance, Refusal> {
        self.stored_instance(key).map(|row| row.instance)
    }

    /// What an instance asked for, one for each of its claims: a registered device by its id, or what was wanted.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn wishes(&self, instance: &Instance) -> Result<Vec<DeviceWish>, Refusal> {
        let claims = self.store.read(|from| StoredClaim::of_instance(from, instance.id))?;
        Ok(claims.iter().filter_map(wish_of).collect())
    }

    /// The same for a request: one wish for each claim that it makes.
    ///
    /// # Errors
    /// `not_found` for a device that is not registered; `insufficient_resources` for too many.
    pub fn each_wish(&self, wishes: &[DeviceWish]) -> Result<Vec<DeviceWish>, Refusal> {
        let mut each = Vec::new();
        for wish in wishes {
            match wish {
                DeviceWish::Registered(key) => {
                    let device = registrations::find(&self.store, key)?;
                    each.push(DeviceWish::Registered(device.id.to_string()));
                }
                DeviceWish::Wanted(want) => {
                    want.check()?;
                    expect_few(std::slice::from_ref(want))?;
                    let one = Want { count: 1, ..want.clone() };
                    each.extend((0..want.count).map(|_| DeviceWish::Wanted(one.clone())));
                }
            }
        }
        Ok(each)
    }

    /// The devices and partitions of all instances, in the order in which each guest sees its own.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn devices(&self) -> Result<Vec<InstanceDevice>, Refusal> {
        let claims = self.store.read(StoredClaim::all)?;
        Ok(claims.into_iter().filter_map(Self::as_devices).flatten().collect())
    }

    /// The devices of a claim, if it is an instance's.
    pub(super) fn as_devices(claim: StoredClaim) -> Option<Vec<InstanceDevice>> {
        let instance = claim.instance()?;
        let (device, profile) = (claim.device, claim.profile().map(str::to_owned));
        let one = |part| InstanceDevice { instance, device, profile: profile.clone(), part };
        Some(claim.claim.parts.into_iter().map(one).collect())
    }

    /// Waits until an instance is in `state`, or until the timeout; returns the instance either way.
    ///
    /// # Errors
    /// `not_found`, also if it is deleted meanwhile.
    pub fn wait(
        &self,
        key: &str,
        state: InstanceState,
        timeout: Duration,
    ) -> Result<Instance, Refusal> {
        let now = Instant::now();
        let until = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400));
        let mut seen = self.journal.wait_for_change(u64::MAX, Instant::now());
        loop {
            let instance = self.stored_instance(key)?.instance;
            if instance.state == state || Instant::now() >= until {
                return Ok(instance);
            }
            seen = self.journal.wait_for_change(seen, until);
        }
    }

    /// How machines of this hypervisor would open devices on this host; by groups if there is no such hypervisor.
    #[must_use]
    pub fn device_access(&self, hypervisor: &str) -> DeviceAccess {
        let launcher = self.launcher(hypervisor);
        launcher.map_or(DeviceAccess::Groups, |launcher| launcher.device_access(&[], None))
    }

    /// Whether machines of this hypervisor can be reached by vsock on this host.
    #[must_use]
    pub fn has_vsock(&self, hypervisor: &str) -> bool {
        self.launcher(hypervisor).is_ok_and(|launcher| launcher.has_vsock())
    }

    /// What the machine of an instance that runs has lost, in words: a program that served it has ended.
    #[must_use]
    pub fn lost(&self, instance: &Instance) -> Option<String> {
        let launcher = self.launcher(&instance.hypervisor).ok().filter(|_| runs(instance))?;
        launcher.lost(instance.id, &instance.options)
    }

    /// Path of the file with the output of an instance's serial console.
    ///
    /// # Errors
    /// `not_found`.
    pub fn console(&self, key: &str) -> Result<PathBuf, Refusal> {
        let instance = self.stored_instance(key)?.instance;
        Ok(self.launcher(&instance.hypervisor)?.console(instance.id))
    }

    /// The id of an instance that runs, so that it has a serial console.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it does not run.
    pub fn with_console(&self, key: &str) -> Result<Uuid, Refusal> {
        let row = self.stored_instance(key)?;
        let name = &row.instance.name;
        if !runs(&row.instance) {
            let start = format!("`handover instance start {name}` starts it");
            return Err(wrong_state(&row, "connected to", start));
        }
        Ok(row.instance.id)
    }

    /// The screen of an instance that runs.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it does not run, or has no screen.
    pub fn with_display(&self, key: &str) -> Result<Display, Refusal> {
        let row = self.stored_instance(key)?;
        let name = &row.instance.name;
        let Some(display) = row.instance.options.display else {
            return Err(Refusal::new(
                Code::InvalidState,
                format!("the instance {name:?} has no screen"),
                "create it with `--display vnc` or `--display spice`; `handover instance console` needs no screen",
            ));
        };
        if !runs(&row.instance) {
            let start = format!("`handover instance start {name}` starts it");
            return Err(wrong_state(&row, "looked at", start));
        }
        Ok(display)
    }

    /// Connects a viewer to the screen of an instance that runs. Each viewer has a connection of its own, SPICE's several.
    ///
    /// # Errors
    /// As [`with_display`](Self::with_display).
    pub fn open_display(&self, key: &str) -> Result<UnixStream, Refusal> {
        let display = self.with_display(key)?;
        let row = self.stored_instance(key)?;
        let name = &row.instance.name;
        let launcher = self.launcher(&row.instance.hypervisor)?;
        launcher.open_display(row.instance.id, display).map_err(|error| {
            let remedy = format!("`handover instance show {name}` tells whether it runs");
            Refusal::new(Code::InvalidState, format!("no screen of {name:?}: {error}"), remedy)
        })
    }

    /// Connects to the serial console of an instance that runs, for input and output. The VMM serves one connection at a
    /// time: another one gets no answer.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it does not run, or an earlier version started its machine.
    pub fn open_console(&self, key: &str) -> Result<UnixStream, Refusal> {
        self.with_console(key)?;
        let row = self.stored_instance(key)?;
        let name = &row.instance.name;
        let launcher = self.launcher(&row.instance.hypervisor)?;
        let stream = launcher.open_console(row.instance.id);
        let stream = stream.map_err(|error| {
            let remedy = format!("`handover instance show {name}` tells whether it runs");
            Refusal::new(Code::InvalidState, format!("no console of {name:?}: {error}"), remedy)
        })?;
        stream.ok_or_else(|| {
            Refusal::new(
                Code::InvalidState,
                format!("the machine of {name:?} was started by an earlier version, without a console for input"),
                format!("`handover instance logs {name}` shows its output; after a stop and a start it has a console"),
            )
        })
    }
}

/// What an instance's claim asked for.
pub(super) fn wish_of(claim: &StoredClaim) -> Option<DeviceWish> {
    let want = claim.wants.first()?.clone();
    Some(match (claim.device, &want.kind) {
        (Some(id), WantKind::Device(_)) if want.guest.is_none() => {
            DeviceWish::Registered(id.to_string())
        }
        _ => DeviceWish::Wanted(want),
    })
}
