//! Keeps a CDI spec for each prepared claim. The store is authoritative; the spec files follow it, and are compared
//! with it at each start.

use std::sync::{Arc, OnceLock};

use convert::cdi::{CLAIM, Spec};
use engine::{Engine, JournalEvent, Observer, OperationKind, WeakEngine};
use model::{ClaimState, Code, Owner, Refusal};

use super::folder::Folder;
use super::spec::spec;
use crate::claims;

/// The operations that take a claim's devices away from its users.
const ENDING: [OperationKind; 2] = [OperationKind::Unprepare, OperationKind::Release];

/// The operations that can change whether a claim is prepared.
const CHANGING: [OperationKind; 5] = [
    OperationKind::Claim,
    OperationKind::Prepare,
    OperationKind::Unprepare,
    OperationKind::Release,
    OperationKind::Restore,
];

/// Keeps the spec files of claims current. It observes the journal in the working thread: a claim's spec exists before
/// the request is answered, and is removed before the devices are returned.
pub struct Keeper {
    folder: Option<Folder>,
    engine: OnceLock<WeakEngine>,
    next: Arc<dyn Observer>,
    warn: fn(&str),
}

impl Keeper {
    /// Keeps the specs in `folder`; `None` keeps none. `next` observes the journal afterwards. A spec that cannot be
    /// written is passed to `warn`; it does not fail the claim.
    #[must_use]
    pub fn new(folder: Option<Folder>, next: Arc<dyn Observer>, warn: fn(&str)) -> Self {
        Self { folder, engine: OnceLock::new(), next, warn }
    }

    /// Starts to keep the specs of this engine's claims.
    pub fn begin(&self, engine: &Engine) {
        // Only the first engine counts.
        let _ = self.engine.set(engine.downgrade());
    }

    /// Writes the specs of all prepared claims and removes the others, after a crash or a boot.
    pub fn compare(&self) {
        if let Some((folder, engine)) = self.parts()
            && let Err(refusal) = compare(folder, &engine)
        {
            self.warn_incomplete(&refusal);
        }
    }

    fn parts(&self) -> Option<(&Folder, Engine)> {
        Some((self.folder.as_ref()?, self.engine.get()?.upgrade()?))
    }

    fn warn_incomplete(&self, refusal: &Refusal) {
        (self.warn)(&format!("CDI specs of claims are incomplete: {}", refusal.message));
    }
}

impl Observer for Keeper {
    fn reached(&self, event: &JournalEvent) {
        let done = match (event, self.parts()) {
            (JournalEvent::Opened { subject, operation }, Some((folder, _)))
                if ENDING.contains(operation) =>
            {
                forget(folder, &subject.to_string())
            }
            (JournalEvent::Closed { subject, operation, .. }, Some((folder, engine)))
                if CHANGING.contains(operation) =>
            {
                follow(folder, &engine, &subject.to_string())
            }
            _ => Ok(()),
        };
        if let Err(refusal) = done {
            self.warn_incomplete(&refusal);
        }
        self.next.reached(event);
    }
}

/// Writes or removes the spec of one claim.
fn follow(folder: &Folder, engine: &Engine, id: &str) -> Result<(), Refusal> {
    match prepared(engine, id)? {
        Some(spec) => folder.write(&spec).map(drop),
        None => forget(folder, id),
    }
}

/// The spec of a prepared claim; `None` for a claim of an instance, whose devices belong to its machine.
fn prepared(engine: &Engine, id: &str) -> Result<Option<Spec>, Refusal> {
    match engine.claims().find(id) {
        Ok(claim) if claim.owner.kind == Owner::INSTANCE => Ok(None),
        Ok(claim) if claim.state != ClaimState::Prepared => Ok(None),
        Ok(_) => claims::show(engine, id).map(|claim| spec(&claim)),
        Err(refusal) if refusal.code == Code::NotFound => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn forget(folder: &Folder, id: &str) -> Result<(), Refusal> {
    let spec = Spec::of(CLAIM, id, Vec::new(), Vec::new());
    Folder::remove(&folder.path().join(spec.file_name()))
}

fn compare(folder: &Folder, engine: &Engine) -> Result<(), Refusal> {
    let mut names = Vec::new();
    for claim in engine.claims().all()? {
        if let Some(spec) = prepared(engine, &claim.id.to_string())? {
            folder.write(&spec)?;
            names.push(spec.file_name());
        }
    }
    for file in folder.ours()? {
        let is_claim = file.spec.as_ref().is_ok_and(|spec| spec.kind == CLAIM);
        let name = file.path.file_name().and_then(|name| name.to_str());
        if is_claim && !name.is_some_and(|name| names.iter().any(|own| own == name)) {
            Folder::remove(&file.path)?;
        }
    }
    Ok(())
}
