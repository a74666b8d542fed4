//! Refusals that several parts of the engine give, and how errors of the ports become them.

use model::{Address, Code, Holder, HostError, LaunchError, Refusal};

use crate::HealthState;
use crate::store::Health;

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

/// It cannot be told who uses these functions. No device is to blame for a process that does not answer.
pub fn users_unknown(functions: &[Address], error: &HostError) -> Refusal {
    let HostError::Deadline { .. } = error else { return unreadable(error) };
    let functions: Vec<String> = functions.iter().map(ToString::to_string).collect();
    Refusal::new(
        Code::StepFailed,
        format!("it could not be found out in time who uses {}: {error}", functions.join(", ")),
        "a process keeps the kernel from looking at it: see `ps -eo pid,stat,wchan,args | grep ' D'`, \
         end it, and try again",
    )
}

/// A step on the host failed.
pub fn step_failed(error: &HostError) -> Refusal {
    match error {
        HostError::Deadline { .. } | HostError::Locked { .. } => wedged(&error.to_string()),
        _ => Refusal::new(
            Code::StepFailed,
            error.to_string(),
            "see `dmesg` for the kernel's words; what had been done was undone",
        ),
    }
}

/// A function waits for a person.
pub fn unwell(health: &Health) -> Refusal {
    let Health { address, reason, .. } = health;
    let what = format!("{address} waits for a person: {reason}");
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

/// What one refusal says, with what then could not be undone.
pub fn with_failed_undo(cause: &Refusal, undo: &Refusal) -> Refusal {
    Refusal::new(
        undo.code,
        format!("{}; and undoing it failed: {}", cause.message, undo.message),
        undo.remedy.clone(),
    )
}
