//! The journal: operations and their steps.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use model::{Address, Refusal, Step};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::{json, optional_text, run, text, to_json, word};
use crate::lock::lock;
use crate::{Action, JournalKept, Operation, OperationKind, OperationStep, Outcome, StepState};

/// An operation that is running, or was when the daemon died.
#[derive(Clone, Debug)]
pub struct OpenOperation {
    pub id: i64,
    pub kind: OperationKind,
    pub subject: Uuid,
    failed_writes: Arc<FailedWrites>,
    /// Steps that were performed since the last write: the next write records them too.
    performed: Arc<Mutex<Vec<PerformedStep>>>,
}

/// A step that was performed and is still recorded as intended.
#[derive(Clone, Debug)]
pub struct PerformedStep {
    pub seq: i64,
    pub action: Action,
}

/// Failed writes of an operation.
#[derive(Debug, Default)]
struct FailedWrites {
    /// Why the first one failed, after it was retried for the whole time that is allowed.
    first: Mutex<Option<Refusal>>,
    /// A record that must come before the operation's end is missing: recovery must repeat the operation.
    keep_open: AtomicBool,
}

/// A recorded step that changed something, or may have, and was not undone.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub action: Action,
}

/// Steps whose effect may be on the host: those of [`StepState::is_outstanding`].
const OUTSTANDING: &str = "state IN ('intended', 'done', 'failed') AND restoring = 0";

/// How many operations are removed in one write at most: it must not keep others waiting.
const AT_ONCE: u32 = 500;

impl OpenOperation {
    /// Opens an operation. An older one on the subject that is still open is closed as failed, because its end could
    /// not be recorded: the new one supersedes it, and recovery must not run it.
    pub fn open(
        to: &Connection,
        kind: OperationKind,
        subject: Uuid,
        boot: &str,
    ) -> rusqlite::Result<Self> {
        run(
            to,
            "UPDATE operations SET state = 'failed', ended_at = ?, error = 'its end could not be recorded'
             WHERE subject = ? AND state = 'open'",
            params![Timestamp::now().to_string(), subject.to_string()],
        )?;
        run(
            to,
            "INSERT INTO operations (kind, subject, state, boot_id, started_at) VALUES (?, ?, 'open', ?, ?)",
            params![kind.word(), subject.to_string(), boot, Timestamp::now().to_string()],
        )?;
        Ok(Self {
            id: to.last_insert_rowid(),
            kind,
            subject,
            failed_writes: Arc::default(),
            performed: Arc::default(),
        })
    }

    /// Why a write failed after all retries, if one did.
    pub fn failed_write(&self) -> Option<Refusal> {
        lock(&self.failed_writes.first).clone()
    }

    /// A write failed after all retries.
    pub fn write_failed(&self, why: &Refusal) {
        lock(&self.failed_writes.first).get_or_insert_with(|| why.clone());
    }

    pub fn must_stay_open(&self) -> bool {
        self.failed_writes.keep_open.load(Ordering::Relaxed)
    }

    pub fn keep_open(&self) {
        self.failed_writes.keep_open.store(true, Ordering::Relaxed);
    }

    /// Whether it is still recorded as open.
    pub fn is_open(&self, from: &Connection) -> rusqlite::Result<bool> {
        from.prepare_cached("SELECT state = 'open' FROM operations WHERE id = ?")?
            .query_row([self.id], |row| row.get(0))
            .optional()
            .map(Option::unwrap_or_default)
    }

    /// Records its end.
    pub fn close(
        &self,
        to: &Connection,
        outcome: Outcome,
        error: Option<&str>,
    ) -> rusqlite::Result<()> {
        // A restoring step that a crash interrupted was repeated by recovery.
        if outcome != Outcome::Failed {
            to.prepare_cached(
                "UPDATE steps SET state = 'done' WHERE operation = ? AND restoring = 1 AND state = 'intended'",
            )?
            .execute([self.id])?;
        }
        run(
            to,
            "UPDATE operations SET state = ?, ended_at = ?, error = ? WHERE id = ?",
            params![outcome.word(), Timestamp::now().to_string(), error, self.id],
        )
        .map(drop)
    }

    /// All open operations, oldest first.
    pub fn all(from: &Connection) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached("SELECT * FROM operations WHERE state = 'open' ORDER BY id")?
            .query_map([], |row| {
                Ok(Self {
                    id: row.get("id")?,
                    kind: word(row, "kind")?,
                    subject: text(row, "subject")?,
                    failed_writes: Arc::default(),
                    performed: Arc::default(),
                })
            })?
            .collect()
    }

    /// Records a step and returns its number in the operation.
    pub fn add_step(
        &self,
        to: &Connection,
        claim: Option<Uuid>,
        action: &Action,
        restoring: bool,
        state: StepState,
        boot: &str,
    ) -> rusqlite::Result<i64> {
        to.prepare_cached(
            "INSERT INTO steps (operation, seq, claim, restoring, action, state, boot_id, at)
             VALUES (?1, (SELECT COALESCE(MAX(seq), 0) + 1 FROM steps WHERE operation = ?1), ?2, ?3, ?4, ?5, ?6, ?7)
             RETURNING seq",
        )?
        .query_row(
            params![
                self.id,
                claim.map(|id| id.to_string()),
                restoring,
                to_json(action)?,
                state.word(),
                boot,
                Timestamp::now().to_string(),
            ],
            |row| row.get(0),
        )
    }

    /// Leaves a success to be recorded by the next write.
    pub fn record_later(&self, step: PerformedStep) {
        lock(&self.performed).push(step);
    }

    /// Takes the steps that the next write records. The caller gives them back if that fails.
    pub fn take_performed(&self) -> Vec<PerformedStep> {
        std::mem::take(&mut *lock(&self.performed))
    }

    pub fn give_back_performed(&self, steps: Vec<PerformedStep>) {
        lock(&self.performed).extend(steps);
    }

    /// Records that steps were performed, but not of those that were undone since.
    pub fn complete_steps(&self, to: &Connection, steps: &[PerformedStep]) -> rusqlite::Result<()> {
        let mut complete = to.prepare_cached(
            "UPDATE steps SET state = 'done' WHERE operation = ? AND seq = ? AND state = 'intended'",
        )?;
        steps.iter().try_for_each(|step| complete.execute(params![self.id, step.seq]).map(drop))
    }

    pub fn fail_step(&self, to: &Connection, seq: i64, error: &str) -> rusqlite::Result<()> {
        to.prepare_cached(
            "UPDATE steps SET state = 'failed', error = ? WHERE operation = ? AND seq = ?",
        )?
        .execute(params![error, self.id, seq])
        .map(drop)
    }

    /// Its steps of this boot in order, each with whether it did not succeed: it was interrupted, or it failed.
    pub fn steps(&self, from: &Connection, boot: &str) -> rusqlite::Result<Vec<(Recorded, bool)>> {
        from.prepare_cached(
            "SELECT action, state IN ('intended', 'failed') AS is_unfinished FROM steps
             WHERE operation = ? AND boot_id = ? ORDER BY seq",
        )?
        .query_map(params![self.id, boot], |row| {
            Ok((Recorded::read(row)?, row.get("is_unfinished")?))
        })?
        .collect()
    }

    /// The functions that its steps of this boot change.
    pub fn functions(&self, from: &Connection, boot: &str) -> rusqlite::Result<BTreeSet<Address>> {
        from.prepare_cached("SELECT action FROM steps WHERE operation = ? AND boot_id = ?")?
            .query_map(params![self.id, boot], Recorded::read)?
            .filter_map(|recorded| recorded.map(|recorded| recorded.step()?.address()).transpose())
            .collect()
    }

    /// The machine steps of this operation that may have had an effect.
    pub fn machine_steps(&self, from: &Connection) -> rusqlite::Result<Vec<Recorded>> {
        from.prepare_cached(
            "SELECT action, state FROM steps WHERE operation = ? AND claim IS NULL AND restoring = 0 ORDER BY seq",
        )?
        .query_and_then([self.id], Recorded::outstanding)?
        .filter_map(Result::transpose)
        .collect()
    }
}

impl Recorded {
    /// The outstanding steps of a claim in this boot: performed and not undone.
    pub fn of_claim(
        from: &Connection,
        claim: Uuid,
        operation: Option<i64>,
        boot: &str,
    ) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached(
            "SELECT action, state FROM steps WHERE claim = ?1 AND boot_id = ?2 AND (?3 IS NULL OR operation = ?3)
             AND restoring = 0 ORDER BY operation, seq",
        )?
        .query_and_then(params![claim.to_string(), boot, operation], Self::outstanding)?
        .filter_map(Result::transpose)
        .collect()
    }

    /// The outstanding steps in this boot of configuration changes that failed and could not be rolled back.
    pub fn of_failed(from: &Connection, subject: Uuid, boot: &str) -> rusqlite::Result<Vec<Self>> {
        from.prepare_cached(
            "SELECT action, state FROM steps WHERE claim = ?1 AND boot_id = ?2 AND restoring = 0
             AND operation IN (SELECT id FROM operations WHERE state = 'failed' AND subject = ?1)
             ORDER BY operation, seq",
        )?
        .query_and_then(params![subject.to_string(), boot], Self::outstanding)?
        .filter_map(Result::transpose)
        .collect()
    }

    /// The last step that tried to roll back such a change: it records the value that it found.
    pub fn last_retry(
        from: &Connection,
        subject: Uuid,
        boot: &str,
    ) -> rusqlite::Result<Option<Self>> {
        from.prepare_cached(
            "SELECT action FROM steps WHERE claim = ?1 AND boot_id = ?2 AND restoring = 1
             ORDER BY operation DESC, seq DESC LIMIT 1",
        )?
        .query_row(params![subject.to_string(), boot], Self::read)
        .optional()
    }

    /// Whether a step was performed that restores what the claim has changed last.
    pub fn has_begun_restoring(
        from: &Connection,
        claim: Uuid,
        boot: &str,
    ) -> rusqlite::Result<bool> {
        from.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM steps WHERE claim = ?1 AND boot_id = ?2 AND restoring = 1 AND operation >
             (SELECT max(operation) FROM steps WHERE claim = ?1 AND boot_id = ?2 AND restoring = 0))",
        )?
        .query_row(params![claim.to_string(), boot], |row| row.get(0))
    }

    /// Marks the outstanding steps of a claim as undone.
    pub fn mark_undone(
        to: &Connection,
        claim: Uuid,
        operation: Option<i64>,
    ) -> rusqlite::Result<()> {
        run(
            to,
            &format!(
                "UPDATE steps SET state = 'undone' WHERE claim = ?1 AND (?2 IS NULL OR operation = ?2) AND {OUTSTANDING}"
            ),
            params![claim.to_string(), operation],
        )
        .map(drop)
    }

    /// Marks the steps that [`of_failed`](Self::of_failed) returns as undone.
    pub fn mark_failed_undone(to: &Connection, subject: Uuid) -> rusqlite::Result<()> {
        run(
            to,
            &format!(
                "UPDATE steps SET state = 'undone' WHERE claim = ?1 AND {OUTSTANDING}
                 AND operation IN (SELECT id FROM operations WHERE state = 'failed' AND subject = ?1)"
            ),
            [subject.to_string()],
        )
        .map(drop)
    }

    /// Marks device steps of earlier boots as void: their effects ended with the boot. Machine steps are kept, and
    /// steps that outlast a boot are moved to this one, which has to undo them.
    pub fn void_other_boots(to: &Connection, boot: &str) -> rusqlite::Result<()> {
        let mut older = to.prepare(&format!(
            "SELECT operation, seq, action FROM steps WHERE boot_id <> ? AND claim IS NOT NULL AND {OUTSTANDING}"
        ))?;
        let older = older.query_map([boot], |row| {
            Ok((row.get::<_, i64>("operation")?, row.get::<_, i64>("seq")?, Self::read(row)?))
        })?;
        for (operation, seq, recorded) in older.collect::<rusqlite::Result<Vec<_>>>()? {
            if recorded.step().is_some_and(Step::outlasts_the_boot) {
                run(
                    to,
                    "UPDATE steps SET boot_id = ? WHERE operation = ? AND seq = ?",
                    params![boot, operation, seq],
                )?;
            }
        }
        run(
            to,
            &format!("UPDATE steps SET state = 'void' WHERE boot_id <> ? AND claim IS NOT NULL AND {OUTSTANDING}"),
            [boot],
        )
        .map(drop)
    }

    /// The device step, if it is one.
    pub fn step(&self) -> Option<&Step> {
        match &self.action {
            Action::Device(step) => Some(step),
            Action::Machine(_) => None,
        }
    }

    /// The step of a row, if its effect may be on the host. An unknown state is an error.
    fn outstanding(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let state: StepState = word(row, "state")?;
        state.is_outstanding().then(|| Self::read(row)).transpose()
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { action: json(row, "action")? })
    }
}

impl Operation {
    /// Removes operations that are too old or exceed the maximum number, a few hundred at a time; returns whether there may
    /// be more. Keeps operations that a claim, or a failed change of a VF count, still needs for its rollback.
    pub(crate) fn prune(from: &Connection, kept: JournalKept) -> rusqlite::Result<bool> {
        let age = SignedDuration::from_hours(24 * i64::from(kept.days));
        let oldest = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN);
        let removed = run(
            from,
            &format!(
                "DELETE FROM operations WHERE id IN (
                     SELECT id FROM operations AS old WHERE state <> 'open'
                     AND (ended_at < ?1
                          OR id <= (SELECT id FROM operations ORDER BY id DESC LIMIT 1 OFFSET ?2))
                     AND NOT EXISTS (
                         SELECT 1 FROM steps WHERE operation = old.id AND {OUTSTANDING}
                         AND (claim IN (SELECT id FROM claims)
                              OR (old.kind = 'vf-count' AND old.state = 'failed')))
                     AND NOT (old.kind = 'restore' AND EXISTS (
                         SELECT 1 FROM operations AS failed
                         WHERE failed.subject = old.subject AND failed.kind = 'vf-count' AND failed.state = 'failed'
                         AND EXISTS (SELECT 1 FROM steps WHERE operation = failed.id AND {OUTSTANDING})))
                     ORDER BY id LIMIT {AT_ONCE})"
            ),
            params![oldest.to_string(), kept.operations],
        )?;
        Ok(removed >= AT_ONCE as usize)
    }

    /// The latest operations with their steps, latest first.
    pub(crate) fn latest(from: &Connection, limit: u32) -> rusqlite::Result<Vec<Self>> {
        let mut operations: Vec<Self> = from
            .prepare_cached("SELECT * FROM operations ORDER BY id DESC LIMIT ?")?
            .query_map([limit], |row| {
                Ok(Self {
                    id: row.get("id")?,
                    kind: word(row, "kind")?,
                    subject: text(row, "subject")?,
                    state: word(row, "state")?,
                    started_at: text(row, "started_at")?,
                    ended_at: optional_text(row, "ended_at")?,
                    error: row.get("error")?,
                    steps: Vec::new(),
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        for operation in &mut operations {
            operation.steps = from
                .prepare_cached("SELECT * FROM steps WHERE operation = ? ORDER BY seq")?
                .query_map([operation.id], |row| {
                    Ok(OperationStep {
                        action: json(row, "action")?,
                        state: word(row, "state")?,
                        error: row.get("error")?,
                    })
                })?
                .collect::<rusqlite::Result<_>>()?;
        }
        Ok(operations)
    }
}
