//! Prints claims.

use api::{Claim, ClaimPart, PlannedClaim};

use crate::connection::Connection;
use crate::failure::Done;
use crate::names::Names;
use crate::{listing, output};

/// Prints all claims, one per line.
pub fn all(connection: &Connection, claims: &[Claim], instances: &Names) -> Done {
    let headings = ["CLAIM", "OWNER", "STATE", "WHAT", "ENDS", "REASON"];
    listing::print(connection.json(), claims, "no claims", headings, |claim| {
        let what: Vec<&str> = claim.parts.iter().map(name).collect();
        let ends = claim.expires.map(when).unwrap_or_default();
        let reason = claim.reason.clone().unwrap_or_default();
        let [id, state] = [&claim.id, &claim.state].map(Clone::clone);
        [id, instances.owner(&claim.owner), state, what.join(" "), ends, reason]
    })
}

/// Prints one claim, and how to use it.
pub fn claim(claim: &Claim) -> Done {
    output::fields(&[
        ("claim", claim.id.clone()),
        ("owner", claim.owner.clone()),
        ("state", claim.state.clone()),
        ("reason", claim.reason.clone().unwrap_or_default()),
        ("ends", claim.expires.map(when).unwrap_or_default()),
    ])?;
    for part in &claim.parts {
        let kind = part.partition.clone().unwrap_or_else(|| "device".to_owned());
        output::line("")?;
        output::line(&kind)?;
        for member in &part.members {
            output::line(&format!("  {}  {}", member.address, member.role))?;
        }
        if let Some(mdev) = &part.mdev {
            output::line(&format!("  {mdev}"))?;
        }
    }
    let Some(attach) = &claim.attach else { return Ok(()) };
    list("nodes", &[&attach.groups[..], &attach.devices[..]].concat())?;
    let qemu: Vec<String> = attach.qemu.iter().map(|json| format!("-device '{json}'")).collect();
    list("QEMU", &qemu)?;
    list("Cloud Hypervisor (vm.add-device)", &attach.cloud_hypervisor)?;
    list("libvirt", &attach.libvirt)?;
    list("Container Device Interface", std::slice::from_ref(&attach.cdi))
}

/// Prints what a dry run would claim and do.
pub fn planned(connection: &Connection, planned: &PlannedClaim) -> Done {
    if connection.json() {
        return output::json(planned);
    }
    output::line("Dry run: nothing was changed, and nothing is reserved.")?;
    output::line("")?;
    output::line("would claim")?;
    for part in &planned.claim.parts {
        let kind = part.partition.clone().unwrap_or_else(|| "device".to_owned());
        let members: Vec<String> = part
            .members
            .iter()
            .map(|member| format!("{} ({})", member.address, member.role))
            .collect();
        output::line(&format!("  {} {kind}: {}", part.head, members.join(", ")))?;
    }
    list("would perform, in this order", &planned.steps)
}

fn list(title: &str, lines: &[String]) -> Done {
    if lines.is_empty() {
        return Ok(());
    }
    output::line("")?;
    output::line(title)?;
    lines.iter().try_for_each(|line| output::line(&format!("  {line}")))
}

fn name(part: &ClaimPart) -> &str {
    part.mdev.as_deref().unwrap_or(&part.head)
}

/// Formats a time in seconds since 1970.
fn when(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    time.map_or_else(|| format!("@{seconds}"), |time| time.to_string())
}
