//! Volumes that are being made from something: they can be cancelled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use image::Cancel;
use model::{Code, Refusal};
use uuid::Uuid;

use crate::lock::lock;

/// The volumes that are being made, before they are recorded.
#[derive(Default)]
pub struct Making {
    all: Mutex<Vec<One>>,
    ended: Condvar,
    is_stopping: AtomicBool,
}

struct One {
    id: Uuid,
    name: String,
    cancel: Cancel,
}

/// A volume that is being made, until this is dropped.
pub struct Made<'a> {
    id: Uuid,
    making: &'a Making,
}

impl Making {
    /// Begins to make a volume, which `cancel` ends.
    ///
    /// # Errors
    /// `already_exists` if another request makes one of this name or id; `invalid_state` if the daemon is stopping.
    pub fn begin(&self, id: Uuid, name: &str, cancel: &Cancel) -> Result<Made<'_>, Refusal> {
        let mut all = lock(&self.all);
        if all.iter().any(|one| one.id == id || one.name == name) {
            return Err(Refusal::new(
                Code::AlreadyExists,
                format!("another request is making the volume {name:?}"),
                format!("wait for it, or cancel it: `handover volume rm {name}`"),
            ));
        }
        if self.is_stopping.load(Ordering::SeqCst) {
            return Err(image::ImageError::Cancelled.into());
        }
        all.push(One { id, name: name.to_owned(), cancel: cancel.clone() });
        Ok(Made { id, making: self })
    }

    /// Cancels the making of a volume, by its id or name, and waits until it has ended. Returns whether there was one.
    pub fn cancel(&self, key: &str, patience: Duration) -> bool {
        let id: Option<Uuid> = key.parse().ok();
        let mut all = lock(&self.all);
        let Some(one) = all.iter_mut().find(|one| Some(one.id) == id || one.name == key) else {
            return false;
        };
        one.cancel.set();
        let id = one.id;
        let is_there = |all: &mut Vec<One>| all.iter().any(|one| one.id == id);
        let waited = self.ended.wait_timeout_while(all, patience, is_there);
        let (mut all, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if is_there(&mut all) {
            tracing::warn!(volume = key, "the disk is slow: what was made is removed later");
        }
        true
    }

    /// Cancels all, also those that are asked for later: the daemon is stopping.
    pub fn cancel_all(&self) {
        let all = lock(&self.all);
        self.is_stopping.store(true, Ordering::SeqCst);
        all.iter().for_each(|one| one.cancel.set());
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        lock(&self.making.all).retain(|one| one.id != self.id);
        self.making.ended.notify_all();
    }
}
