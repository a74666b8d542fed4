//! The marks of claims on functions. Functions claimed by another Handover are refused; marks without a claim are
//! reported.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use model::{Address, Claim, Mark, Refusal, Step};
use uuid::Uuid;

use crate::hardware::Hardware;
use crate::journal::Journal;
use crate::refusals;
use crate::store::{Store, StoredClaim};
use crate::{OperationKind, Outcome};

/// Which claim a mark belongs to.
pub enum Marked {
    /// A claim of this store.
    Claim,
    /// No claim: the mark names this store, which has no such claim.
    Nothing,
    /// A claim of another store.
    Another,
}

/// Reads and clears the marks on functions.
pub struct Marks {
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    /// The absolute state directory, as written in marks.
    state_dir: String,
}

impl Marks {
    pub fn new(
        store: Arc<Store>,
        journal: Arc<Journal>,
        hardware: Arc<Hardware>,
        state_dir: &Path,
    ) -> Self {
        let dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        Self { store, journal, hardware, state_dir: dir.to_string_lossy().into_owned() }
    }

    /// The mark for a claim of this store.
    pub fn mark_of(&self, claim: Uuid) -> Mark {
        Mark { store: self.store.id(), claim, state_dir: self.state_dir.clone() }
    }

    /// The marks on these functions.
    pub fn marks(&self, functions: &[Address]) -> Result<BTreeMap<Address, Mark>, Refusal> {
        self.hardware.host.marks(functions).map_err(|error| refusals::unreadable(&error))
    }

    /// Which claim a mark that was just read belongs to.
    pub fn whose(&self, address: Address, mark: &Mark) -> Result<Marked, Refusal> {
        if mark.store != self.store.id() {
            return Ok(Marked::Another);
        }
        if self.store.read(|from| StoredClaim::by_id(from, mark.claim))?.is_some() {
            return Ok(Marked::Claim);
        }
        // A claim is deleted after its marks. If it was released since the mark was read, the mark is gone too.
        let still = self.marks(&[address])?.get(&address) == Some(mark);
        Ok(if still { Marked::Nothing } else { Marked::Claim })
    }

    /// The functions that a mark makes unavailable, each with its refusal. Claims of this store are not considered:
    /// other checks refuse those.
    pub fn marked(&self, functions: &[Address]) -> Result<BTreeMap<Address, Refusal>, Refusal> {
        let mut marked = BTreeMap::new();
        for (address, mark) in self.marks(functions)? {
            let why = match self.whose(address, &mark)? {
                Marked::Claim => continue,
                Marked::Nothing => refusals::marked_by_nothing(address, &mark),
                Marked::Another => refusals::marked_by_another(address, &mark),
            };
            marked.insert(address, why);
        }
        Ok(marked)
    }

    /// The functions with a mark of this store for a claim that is not recorded: an older backup of the store was
    /// restored.
    pub fn marked_by_nothing(
        &self,
        functions: &[Address],
    ) -> Result<BTreeMap<Address, Mark>, Refusal> {
        let mut marks = BTreeMap::new();
        for (address, mark) in self.marks(functions)? {
            if let Marked::Nothing = self.whose(address, &mark)? {
                marks.insert(address, mark);
            }
        }
        Ok(marks)
    }

    /// Refuses a function that a claim of another store has.
    pub fn expect_no_other_store(&self, address: Address) -> Result<(), Refusal> {
        match self.marks(&[address])?.get(&address) {
            Some(mark) if mark.store != self.store.id() => {
                Err(refusals::marked_by_another(address, mark))
            }
            _ => Ok(()),
        }
    }

    /// Removes these functions' marks of other stores and of claims that are not recorded; a person asked for it. The
    /// other Handover is not running, because this one has the host's lock. Returns a note for each mark.
    pub fn clear_marks(&self, functions: &[Address]) -> Result<Vec<String>, Refusal> {
        let mut unneeded = Vec::new();
        for (address, mark) in self.marks(functions)? {
            match self.whose(address, &mark)? {
                Marked::Claim => {}
                Marked::Nothing => unneeded.push((address, mark)),
                Marked::Another => {
                    // Its machine may still run without that Handover.
                    self.hardware.expect_no_other_than_network(&[address])?;
                    unneeded.push((address, mark));
                }
            }
        }
        if unneeded.is_empty() {
            return Ok(Vec::new());
        }
        // Not repeated after a crash: the person sees that the mark is still there, and asks again.
        let subject = Uuid::new_v4();
        let _turn = self.journal.turns.take(subject);
        let operation = self.journal.open_operation(OperationKind::Restore, subject, |_| Ok(()))?;
        let mut notes = Vec::new();
        let mut result = Ok(());
        for (address, mark) in unneeded {
            let note = self.cleared(address, &mark);
            let step = Step::Unmark { address, mark };
            match self.journal.restore(&operation, subject, &step) {
                Ok(()) => notes.push(note),
                Err(error) => result = result.and(Err(Refusal::from(error))),
            }
        }
        let error = result.as_ref().err().map(|refusal| refusal.message.clone());
        let ended = if error.is_none() { Outcome::Done } else { Outcome::Failed };
        self.journal.close_operation(&operation, ended, error.as_deref(), |_| Ok(()))?;
        notes.iter().for_each(|note| tracing::warn!("{note}"));
        result.map(|()| notes)
    }

    fn cleared(&self, address: Address, mark: &Mark) -> String {
        if mark.store == self.store.id() {
            return format!(
                "{address}: removed the mark of claim {}, which is not recorded",
                mark.claim
            );
        }
        format!(
            "{address}: removed the mark of a claim of another Handover, which is not running: {}; that claim no longer has this device",
            mark.describe()
        )
    }

    /// Refuses a claim if one of its functions now has a foreign mark.
    pub fn expect_not_marked(&self, claim: &Claim) -> Result<(), Refusal> {
        let taken: Vec<Address> = claim.taken().collect();
        self.marked(&taken)?.into_values().next().map_or(Ok(()), Err)
    }
}
