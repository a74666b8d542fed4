//! Users of the assembly's devices, and how to stop them.

use std::collections::BTreeSet;

use super::{Case, Finding, Severity, about, with_remedy};
use crate::doctor::{Purpose, purpose};
use crate::{Address, Holder, HolderKind};

/// Whether a program, a mount or a route uses a member of the assembly.
pub fn is_used(case: &Case<'_>) -> bool {
    let lost: BTreeSet<Address> = case.assembly.lost().map(|member| member.address).collect();
    case.patient.holders.iter().any(|holder| lost.contains(&holder.address))
}

/// Programs, mounts and routes that use members of the assembly: one finding per user.
pub fn in_use(case: &Case<'_>) -> Vec<Finding> {
    // A claim's own machine uses it as intended.
    if case.is_claimed() {
        return Vec::new();
    }
    let lost: BTreeSet<Address> = case.assembly.lost().map(|member| member.address).collect();
    let mut users: Vec<(&Holder, Vec<&str>)> = Vec::new();
    for holder in case.patient.holders.iter().filter(|holder| lost.contains(&holder.address)) {
        let same = |other: &Holder| other.address == holder.address && other.user == holder.user;
        match users.iter_mut().find(|(first, _)| same(first)) {
            Some((_, by)) => by.push(&holder.by),
            None => users.push((holder, vec![&holder.by])),
        }
    }
    if users.is_empty() {
        let meaning = "no program has to be stopped before the hand-over";
        return vec![case.finding(
            "holder",
            Severity::Good,
            "no program, mount or route uses it",
            meaning,
        )];
    }
    users.into_iter().map(|(holder, by)| finding_for(holder, &by)).collect()
}

fn finding_for(holder: &Holder, by: &[&str]) -> Finding {
    let is_process = holder.kind == HolderKind::Process;
    let check = match purpose(holder.name()).filter(|_| is_process) {
        Some(Purpose::Display) => "display-server",
        Some(Purpose::RemoteDesktop) => "remote-desktop",
        Some(Purpose::Persistence) => "nvidia-persistenced",
        Some(Purpose::Monitor) => "dcgm",
        Some(Purpose::Fabric | Purpose::VgpuManager) | None => "holder",
    };
    let all = Holder { by: super::listed(by), ..holder.clone() };
    let read = format!("{} {}", holder.address, all.predicate());
    let meaning = match check {
        "display-server" => "the desktop draws with it; without it, the session would end or hang",
        "remote-desktop" => "a remote desktop draws or encodes with it",
        "nvidia-persistenced" => "the daemon keeps the GPU open, so its driver cannot be unbound",
        "dcgm" => "a GPU monitor keeps the GPU open, so its driver cannot be unbound",
        _ if holder.kind == HolderKind::Network => {
            "the host would lose this part of its network; a claim refuses it while it is in use"
        }
        _ => "it cannot be handed over while it is in use",
    };
    let (words, commands) = remedy_for(check, holder);
    with_remedy(about(holder.address, check, Severity::Impossible, read, meaning), words, commands)
}

/// How to stop the user. If that would affect more than this device, the remedy has no command.
fn remedy_for(check: &str, holder: &Holder) -> (String, Vec<String>) {
    let address = holder.address;
    let service = holder.service();
    let stop = || service.map(|unit| format!("systemctl stop '{unit}'")).into_iter().collect();
    match check {
        "nvidia-persistenced" => (
            "make the daemon release this GPU only; the others keep their state".into(),
            vec![format!("nvidia-smi -i {address} -pm 0")],
        ),
        "dcgm" => (
            format!(
                "stop the monitor during the hand-over{}; it can run again afterwards, and then ignores the GPU",
                service.map_or_else(String::new, |unit| format!(": systemctl stop {unit}"))
            ),
            stop(),
        ),
        "display-server" => (
            format!(
                "claim it with `--take-display`, which ends the sessions and starts the display manager again afterwards; or end \
                 the sessions yourself (systemctl stop display-manager.service ends them all), or put the GPU on the boot list, so that the desktop never uses it: see native-driver in `handover doctor --for \
                 {address}`"
            ),
            Vec::new(),
        ),
        _ if holder.kind == HolderKind::Network => (
            format!(
                "{}; if the host can do without it: `handover claim {address} --force-network`",
                holder.how_to_end()
            ),
            Vec::new(),
        ),
        // No commands for what is not a program: unmounting the wrong disk can do great harm.
        _ => (holder.how_to_end(), stop()),
    }
}
