//! Refusals shared by several parts of the engine, and the conversion of port errors to refusals.

use model::{
    Address, Claim, ClaimState, Code, Holder, HostError, HostLockError, LaunchError, Mark, Refusal,
};

use crate::consent::{Consent, Named};
use crate::store::{Health, OpenOperation, StoredClaim, StoredInstance};
use crate::{HealthState, OperationKind};

/// No registration, image, claim or instance with this key exists; `listing` is the command that lists them.
pub fn no_such(what: &str, key: &str, listing: &str) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("there is no {what} {key:?}"),
        format!("`{listing}` lists what exists"),
    )
}

/// The host's state could not be read.
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

/// The settings of a virtual function cannot be read, so they cannot be changed either.
pub fn no_vf_settings(address: Address, parent: Address, error: &HostError) -> Refusal {
    match error {
        HostError::File { .. } => Refusal::new(
            Code::InvalidState,
            format!("{address} cannot get settings: {error}"),
            format!(
                "bind {parent} to its network driver, with its interface in the host's network namespace (`handover show \
                 {parent}` shows both), or claim without settings: `handover claim {address}`"
            ),
        ),
        _ => unreadable(error),
    }
}

/// The host's lock could not be taken.
pub fn host_not_locked(error: &HostLockError) -> Refusal {
    match error {
        HostLockError::Held(_) => Refusal::new(
            Code::StateLocked,
            error.to_string(),
            "if it is a command, wait until it has ended; if it is a daemon, use its socket, or stop it: `systemctl stop handover` on the \
             host, or stop its container",
        ),
        HostLockError::Host(error) => unreadable(error),
    }
}

/// The users of these functions could not be found. A timeout here is a process's fault, so no device is marked as
/// wedged.
pub fn users_unknown(functions: &[Address], error: &HostError) -> Refusal {
    let HostError::Deadline { .. } = error else { return unreadable(error) };
    let functions: Vec<String> = functions.iter().map(ToString::to_string).collect();
    Refusal::new(
        Code::StepFailed,
        format!("timed out while looking for users of {}: {error}", functions.join(", ")),
        "a process is stuck in the kernel: `ps -eo pid,stat,wchan,args | grep ' D'` shows it; end it, then retry",
    )
}

/// A step on the host failed.
pub fn step_failed(error: &HostError) -> Refusal {
    match error {
        HostError::Deadline { .. } | HostError::Locked { .. } => wedged(&error.to_string()),
        // Not the kernel's refusal.
        HostError::File { errno: None, .. } => Refusal::new(
            Code::StepFailed,
            error.to_string(),
            "fix the cause, then retry; changes rolled back",
        ),
        _ => Refusal::new(
            Code::StepFailed,
            error.to_string(),
            "see `dmesg` for the kernel's messages; changes rolled back",
        ),
    }
}

/// A function could not be restored. The refusal of the step says that changes were rolled back, which is not so here.
pub fn not_restored(address: Address, refusal: Refusal) -> Refusal {
    match refusal.code {
        Code::StepFailed => Refusal::new(
            Code::UndoFailed,
            refusal.message,
            format!(
                "see `dmesg` for the kernel's messages and fix the cause; then `handover device clear {address}` retries \
                 the rollback"
            ),
        ),
        Code::DeviceWedged => wedged_at(address, &refusal.message),
        _ => refusal,
    }
}

/// A function needs manual attention.
pub fn unhealthy(health: &Health) -> Refusal {
    let Health { address, reason, .. } = health;
    let word = health.state.as_str();
    let what = match reason.strip_prefix(&address.to_string()) {
        Some(rest) => format!("{address} needs manual attention ({word}): it{rest}"),
        None => format!("{address} needs manual attention ({word}): {reason}"),
    };
    match health.state {
        HealthState::Wedged => wedged_at(*address, &what),
        HealthState::Quarantined => silent(*address, &what),
    }
}

/// A message that begins with its subject, unless it names the subject already.
pub fn naming(subject: &str, message: &str) -> String {
    if message.contains(subject) { message.to_owned() } else { format!("{subject}: {message}") }
}

/// This device no longer responds; `reason` says so. A reboot often does not help it.
pub fn silent(address: Address, reason: &str) -> Refusal {
    Refusal::new(
        Code::DeviceWedged,
        reason,
        format!("{}; then run `handover device clear {address}`", model::power_cycle(address)),
    )
}

/// A function is in use.
pub fn used(holder: &Holder, consent: Consent, named: &Named) -> Refusal {
    let mut remedy = holder.how_to_end();
    if let Some(way) = consent.way_out(holder, named) {
        remedy = format!("{remedy}; {way}");
    }
    Refusal::new(Code::InUse, format!("{} {}", holder.address, holder.predicate()), remedy)
}

/// A function is in use by these. If the first one draws on it, all that do are named: the whole desktop ends with it.
pub fn used_by(all: &[&Holder], consent: Consent, named: &Named) -> Option<Refusal> {
    let (first, others) = all.split_first()?;
    let refusal = used(first, consent, named);
    let mut named_already = vec![&first.user];
    let mut more = String::new();
    for other in others.iter().filter(|other| first.draws() && other.draws()) {
        if !named_already.contains(&&other.user) {
            named_already.push(&other.user);
            more = format!("{more}, {} ({})", other.user, other.by);
        }
    }
    Some(Refusal { message: refusal.message + &more, ..refusal })
}

/// `ETIMEDOUT`: the process is still there long after SIGTERM.
const DEAF: i32 = 110;

/// A function is in use by a process that Handover could not end.
pub fn not_ended(holder: &Holder, error: &HostError) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!(
            "{} {}, and Handover could not end that: {error}; changes rolled back",
            holder.address,
            holder.predicate()
        ),
        match (error, holder.pid) {
            (HostError::File { errno: Some(DEAF), .. }, Some(pid)) => format!(
                "quit {} by its own means; or, if what it does may be lost: `kill -9 {pid}`",
                holder.name()
            ),
            _ => holder.how_to_end(),
        },
    )
}

/// A function has the mark of another store's claim.
pub fn marked_by_another(address: Address, mark: &Mark) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!("{address} is claimed by another Handover: {}", mark.describe()),
        format!(
            "release it there: `handover release {}`; if that Handover is gone for good: `handover device clear {address}`",
            mark.claim
        ),
    )
}

/// A function has the mark of a claim of this store that is not recorded.
pub fn marked_by_nothing(address: Address, mark: &Mark) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!("{address} has the mark of claim {}, which is not recorded", mark.claim),
        format!("run `handover return {address}`"),
    )
}

/// A device does not answer, or a step on it timed out; which one is not known here.
pub fn wedged(reason: &str) -> Refusal {
    wedged_device("ADDRESS", reason)
}

/// This device does not answer, or a step on it timed out.
pub fn wedged_at(address: Address, reason: &str) -> Refusal {
    wedged_device(&address.to_string(), reason)
}

fn wedged_device(device: &str, reason: &str) -> Refusal {
    Refusal::new(
        Code::DeviceWedged,
        reason,
        format!(
            "stop what uses the device, or reboot the host; then run `handover device clear {device}`"
        ),
    )
}

/// An earlier claim of these devices could not be restored. `health` are the functions that need manual attention.
pub fn not_restored_earlier(claim: &Claim, health: &[Health], reason: &str) -> Refusal {
    let silent_one = health
        .iter()
        .find(|one| one.state == HealthState::Quarantined && claim.covers(one.address));
    if let Some(one) = silent_one {
        return silent(one.address, reason);
    }
    claim.head().map_or_else(|| wedged(reason), |head| wedged_at(head, reason))
}

/// The way to take a device from an instance, which keeps the instance.
pub fn detach_first(name: &str, claim: &Claim) -> String {
    // Several virtual functions or vGPUs can be of one device: an id tells them apart.
    let is_whole = claim.parts.iter().all(|part| part.partition.is_none());
    let device = claim.head().filter(|_| is_whole);
    let device = device.map_or_else(|| claim.id.to_string(), |head| head.to_string());
    format!("take it from the instance first: `handover instance detach {name} {device}`")
}

/// The refusal for others that want the devices of this claim. The message has no subject (see [`ExistingClaim`](model::choose::ExistingClaim)).
pub fn claimed(claim: &StoredClaim, instances: &[StoredInstance], health: &[Health]) -> Refusal {
    if claim.claim.state == ClaimState::Wedged {
        let reason = format!(
            "needs manual attention (wedged): the claim of {} could not be restored earlier",
            claim.claim.owner
        );
        return not_restored_earlier(&claim.claim, health, &reason);
    }
    let owner = claim.instance();
    let owner = instances.iter().find(|row| Some(row.instance.id) == owner);
    if let Some(row) = owner {
        let name = &row.instance.name;
        return Refusal::new(
            Code::InUse,
            format!("is attached to the instance {name:?}"),
            detach_first(name, &claim.claim),
        );
    }
    let owner = &claim.claim.owner;
    Refusal::new(
        Code::InUse,
        format!("is claimed by {owner}"),
        format!(
            "`handover claims` lists all claims; `handover release {}` releases this one",
            claim.claim.id
        ),
    )
}

/// The remedy for a hypervisor that cannot be used; `command` installs it, or is empty if unknown.
pub fn install(command: &str) -> String {
    match command {
        "" => "install it, or fix what the message names".into(),
        command => format!("install it, or fix what the message names: {command}"),
    }
}

/// A launcher failed.
pub fn launch_failed(error: &LaunchError) -> Refusal {
    match error {
        LaunchError::Unavailable { reason, remedy } => {
            Refusal::new(Code::HypervisorMissing, reason, install(remedy))
        }
        LaunchError::Port { .. } => Refusal::new(
            Code::PortInUse,
            error.to_string(),
            "choose another port of the host, 1024 or above, or end what listens on it: `ss -ltnup` shows it",
        ),
        LaunchError::NoPort { reason, remedy } => {
            Refusal::new(Code::InsufficientResources, reason, remedy)
        }
        LaunchError::AddressSpace { .. } => Refusal::new(
            Code::InsufficientResources,
            error.to_string(),
            "give the machine fewer devices or less memory; the firmware of some hosts has a setting for address bits",
        ),
        LaunchError::Plug { .. } => Refusal::new(
            Code::StepFailed,
            error.to_string(),
            "the message is the hypervisor's; for VFIO errors see also `dmesg`",
        ),
        LaunchError::Gone => Refusal::new(
            Code::InvalidState,
            error.to_string(),
            "it has ended meanwhile: `handover instance list` shows its state, and `handover instance start` starts it",
        ),
        LaunchError::Deadline { .. } | LaunchError::Monitor { .. } => Refusal::new(
            Code::LaunchFailed,
            error.to_string(),
            "if it runs and does not answer, `handover instance stop` ends it; for VFIO errors see also `dmesg`",
        ),
        LaunchError::Address { .. } => Refusal::new(
            Code::NetworkUnavailable,
            error.to_string(),
            "use an address that `ip address` shows, or 0.0.0.0 (IPv6: [::]) for all of them",
        ),
        LaunchError::Network { remedy, .. } => {
            Refusal::new(Code::NetworkUnavailable, error.to_string(), remedy)
        }
        _ => Refusal::new(
            Code::LaunchFailed,
            error.to_string(),
            "the message has the hypervisor's last output; for VFIO errors see also `dmesg`",
        ),
    }
}

/// An operation ended on the host, but its end could not be recorded.
pub fn end_not_recorded(operation: &OpenOperation, error: &Refusal) -> Refusal {
    Refusal::new(
        error.code,
        format!("cannot record the end of \"{}\": {}", operation.kind, error.message),
        format!(
            "{}; Handover completes the record as soon as the journal can be written",
            error.remedy
        ),
    )
}

/// A part of an operation could not be recorded, so its end must not be recorded either.
pub fn journal_behind() -> Refusal {
    Refusal::new(
        Code::StateUnusable,
        "an earlier write to the journal failed",
        "see the daemon's log for the cause, and fix it",
    )
}

/// An operation was rolled back on the host, but that could not be recorded.
pub fn rolled_back_not_recorded(error: Refusal) -> Refusal {
    Refusal { message: format!("changes rolled back, but {}", error.message), ..error }
}

/// An operation could not be rolled back yet, because the journal cannot be read.
pub fn not_rolled_back_yet(operation: &OpenOperation, error: Refusal) -> Refusal {
    Refusal {
        message: format!("\"{}\" is not rolled back yet: {}", operation.kind, error.message),
        remedy: format!("{}; Handover rolls back as soon as the journal can be read", error.remedy),
        ..error
    }
}

/// A failure together with the failure of its rollback. An error of the journal does not mean that the rollback failed:
/// devices are returned even if the journal cannot be written.
pub fn with_failed_undo(cause: &Refusal, undo: &Refusal) -> Refusal {
    match (cause.code, undo.code) {
        // Both have the same cause: the journal cannot be written.
        (Code::StateUnusable, Code::StateUnusable) => return undo.clone(),
        (_, Code::StateUnusable) => {
            let message = format!("{}; {}", cause.message, undo.message);
            return Refusal::new(undo.code, message, undo.remedy.clone());
        }
        _ => {}
    }
    Refusal::new(
        undo.code,
        format!("{}; rollback failed: {}", cause.message, undo.message),
        undo.remedy.clone(),
    )
}

/// Another device is now at the address of a known one.
pub fn fingerprint_changed(address: Address) -> Refusal {
    Refusal::new(
        Code::FingerprintChanged,
        format!("the device at {address} is not the one that was registered there"),
        format!(
            "if it was replaced on purpose, delete its registration and register {address} again"
        ),
    )
}

/// The cause of a rollback if the daemon died or could not write the journal during the operation.
pub fn interrupted(kind: OperationKind) -> Refusal {
    Refusal::new(
        Code::StepFailed,
        format!("{kind} was interrupted; changes rolled back"),
        "try again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A physical function without its driver, or with its interface in a container: no internal error.
    #[test]
    fn settings_without_an_interface_are_refused_with_the_way_to_one() {
        let [vf, parent]: [Address; 2] =
            ["0000:01:10.0", "0000:01:00.0"].map(|text| text.parse().unwrap());
        let error = HostError::File {
            action: "find an interface in".into(),
            path: "/sys/bus/pci/devices/0000:01:00.0/net".into(),
            reason: "the physical function has no network interface here".into(),
            errno: Some(19),
        };
        let refusal = no_vf_settings(vf, parent, &error);
        assert_eq!(refusal.code, Code::InvalidState);
        assert!(refusal.message.contains("no network interface here"), "{refusal:?}");
        assert!(refusal.remedy.contains("bind 0000:01:00.0 to its network driver"), "{refusal:?}");
        let stuck = HostError::Deadline { step: "read".into(), seconds: 10 };
        assert_eq!(no_vf_settings(vf, parent, &stuck).code, Code::DeviceWedged);
    }
}
