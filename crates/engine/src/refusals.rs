//! Refusals that several parts of the engine give, and how errors of the ports become them.

use model::{Address, Code, Holder, HostError, HostLockError, LaunchError, Mark, Refusal};

use crate::store::{Health, OpenOperation};
use crate::{HealthState, OperationKind};

/// There is no such thing of ours.
pub fn no_such(what: &str, key: &str, listing: &str) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("there is no {what} {key:?}"),
        format!("`{listing}` shows what there is"),
    )
}

/// The host could not be looked at.
pub fn unreadable(error: &HostError) -> Refusal {
    match error {
        HostError::Gone { address } => model::no_such_function(*address),
        HostError::Deadline { .. } | HostError::Locked { .. } => wedged(&error.to_string()),
        _ => Refusal::new(
            Code::Internal,
            error.to_string(),
            "run as root, and see the daemon's log and `dmesg`",
        ),
    }
}

/// The host's lock cannot be had.
pub fn host_not_locked(error: &HostLockError) -> Refusal {
    match error {
        HostLockError::Held(_) => Refusal::new(
            Code::StateLocked,
            error.to_string(),
            "go through that one's socket, or stop it: systemctl stop handover on the host, or its container",
        ),
        HostLockError::Host(error) => unreadable(error),
    }
}

/// The users of these functions could not be found. No device is to blame for a process that does not answer.
pub fn users_unknown(functions: &[Address], error: &HostError) -> Refusal {
    let HostError::Deadline { .. } = error else { return unreadable(error) };
    let functions: Vec<String> = functions.iter().map(ToString::to_string).collect();
    Refusal::new(
        Code::StepFailed,
        format!("timed out while looking for users of {}: {error}", functions.join(", ")),
        "a process blocks the kernel: `ps -eo pid,stat,wchan,args | grep ' D'` shows it; end it, then try again",
    )
}

/// A step on the host failed.
pub fn step_failed(error: &HostError) -> Refusal {
    match error {
        HostError::Deadline { .. } | HostError::Locked { .. } => wedged(&error.to_string()),
        _ => Refusal::new(
            Code::StepFailed,
            error.to_string(),
            "`dmesg` has the kernel's messages; changes rolled back",
        ),
    }
}

/// A function needs manual attention.
pub fn unwell(health: &Health) -> Refusal {
    let Health { address, reason, .. } = health;
    let what = format!("{address} needs manual attention: {reason}");
    match health.state {
        HealthState::Wedged => wedged(&what),
        HealthState::Quarantined => Refusal::new(
            Code::DeviceWedged,
            what,
            format!(
                "cut the machine's power and see whether it comes back (`lspci -s {address}`); then \
                 `handover device clear {address}`"
            ),
        ),
    }
}

/// Somebody uses a function.
pub fn used(holder: &Holder) -> Refusal {
    let remedy = match holder.pid {
        Some(_) => "stop it first, or let Handover ask it to end with --evict",
        None => "stop it first, and try again",
    };
    Refusal::new(
        Code::InUse,
        format!("{} is used by {} ({})", holder.address, holder.user, holder.by),
        remedy,
    )
}

/// A function has the mark of another store's claim.
pub fn marked_by_another(address: Address, mark: &Mark) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!("{address} is claimed by another Handover: {}", mark.describe()),
        format!(
            "release it there: handover release {}; where that Handover is gone for good: handover device clear {address}",
            mark.claim
        ),
    )
}

/// A function has the mark of a claim of ours that is not there any more.
pub fn marked_by_nothing(address: Address, mark: &Mark) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!("{address} is marked as the claim {}'s, of which nothing is recorded", mark.claim),
        format!("handover recover {address}"),
    )
}

/// A device does not answer.
pub fn wedged(reason: &str) -> Refusal {
    Refusal::new(
        Code::DeviceWedged,
        reason,
        "end what uses the device, or restart the host; then `handover device clear ADDRESS`",
    )
}

/// What to do where a hypervisor cannot be used; `command` installs it, where that is known.
pub fn install(command: &str) -> String {
    match command {
        "" => "install it, or correct what the message names".into(),
        command => format!("install it, or correct what the message names: {command}"),
    }
}

/// A launcher failed.
pub fn launch_failed(error: &LaunchError) -> Refusal {
    match error {
        LaunchError::Unavailable { reason, remedy } => {
            Refusal::new(Code::HypervisorMissing, reason, install(remedy))
        }
        _ => Refusal::new(
            Code::LaunchFailed,
            error.to_string(),
            "the message has the hypervisor's last words; of vfio, `dmesg` tells more",
        ),
    }
}

/// An operation came to its end on the host, and the journal could not be told.
pub fn end_not_recorded(operation: &OpenOperation, error: &Refusal) -> Refusal {
    Refusal::new(
        error.code,
        format!("the end of \"{}\" could not be recorded: {}", operation.kind, error.message),
        format!("{}; Handover completes the record as soon as it can write", error.remedy),
    )
}

/// A part of an operation could not be recorded, and so its end must not be.
pub fn journal_behind() -> Refusal {
    Refusal::new(
        Code::StateUnusable,
        "the journal could not be written a moment ago",
        "see the daemon's log for the reason, and mend it",
    )
}

/// An operation was undone on the host, and the journal could not be told.
pub fn rolled_back_not_recorded(error: Refusal) -> Refusal {
    Refusal { message: format!("changes rolled back, but {}", error.message), ..error }
}

/// An operation could not be undone yet, for the journal cannot be read.
pub fn not_rolled_back_yet(operation: &OpenOperation, error: Refusal) -> Refusal {
    Refusal {
        message: format!("\"{}\" is not rolled back yet: {}", operation.kind, error.message),
        remedy: format!("{}; Handover rolls back as soon as it can read it", error.remedy),
        ..error
    }
}

/// What one refusal says, with what then could not be undone. A journal that cannot be written keeps nothing from being
/// undone.
pub fn with_failed_undo(cause: &Refusal, undo: &Refusal) -> Refusal {
    match (cause.code, undo.code) {
        // One journal that cannot be written is the cause of both.
        (Code::StateUnusable, Code::StateUnusable) => return undo.clone(),
        (_, Code::StateUnusable) => {
            let message = format!("{}; {}", cause.message, undo.message);
            return Refusal::new(undo.code, message, undo.remedy.clone());
        }
        _ => {}
    }
    Refusal::new(
        undo.code,
        format!("{}; and undoing it failed: {}", cause.message, undo.message),
        undo.remedy.clone(),
    )
}

/// Another device is at a known address.
pub fn fingerprint_changed(address: Address) -> Refusal {
    Refusal::new(
        Code::FingerprintChanged,
        format!("the device at {address} is not the one that was registered there"),
        format!(
            "if it was replaced on purpose, delete its registration and register {address} again"
        ),
    )
}

/// The cause of an undo where the daemon died, or could not write the journal, during the operation.
pub fn interrupted(kind: OperationKind) -> Refusal {
    Refusal::new(
        Code::StepFailed,
        format!("{kind} was interrupted; changes rolled back"),
        "try again",
    )
}
