//! Prints claims.

use api::{Claim, ClaimPart, PlannedClaim};
use model::{Kind, short_titles};

use crate::connection::Connection;
use crate::failure::Done;
use crate::listing::MODEL;
use crate::names::Names;
use crate::table::Table;
use crate::{output, terminal};

/// No value, and no dash.
const BLANK: &str = " ";

/// Prints all claims, a line for each part.
pub fn all(connection: &Connection, claims: &[Claim], instances: &Names) -> Done {
    if connection.json() {
        return output::json(&claims);
    }
    if claims.is_empty() {
        output::note("no claims");
        return Ok(());
    }
    output::text(&table(claims, instances).render_within(terminal::width()))
}

/// The claims by owner. Ids are shown only if an owner has several claims, which only their ids tell apart.
fn table(claims: &[Claim], instances: &Names) -> Table {
    let several = |claim: &Claim| claims.iter().filter(|one| one.owner == claim.owner).count() > 1;
    let with_ids = claims.iter().any(several);
    let mut headings = vec!["OWNER", "STATE", "ADDRESS", MODEL, "ENDS", "ID", "REASON"];
    headings.retain(|heading| with_ids || *heading != "ID");
    let mut table = Table::with_names(&headings, MODEL);
    for claim in claims {
        let id = if several(claim) { claim.id.clone() } else { String::new() };
        let ends = claim.expires.map(when).unwrap_or_default();
        let own = [ends, id, claim.reason.clone().unwrap_or_default()];
        let (mut start, mut end) = ([instances.owner(&claim.owner), claim.state.clone()], own);
        // A claim of another version of the daemon could have none.
        let heads = claim.parts.iter().map(|part| (part.head.clone(), names(part)));
        let mut parts: Vec<(String, Vec<String>)> = heads.collect();
        if parts.is_empty() {
            parts.push((String::new(), Vec::new()));
        }
        for (head, names) in parts {
            let [ends, id, reason] = end;
            let name = names.first().cloned().unwrap_or_default();
            let cells = start.into_iter().chain([head, name, ends]);
            table.row_of(cells.chain(with_ids.then_some(id)).chain([reason]), names);
            start = [BLANK; 2].map(str::to_owned);
            end = [BLANK; 3].map(str::to_owned);
        }
    }
    table
}

/// The name of a part, and shorter forms of it: the model of a device, the profile of a vGPU and the model of its GPU.
fn names(part: &ClaimPart) -> Vec<String> {
    let kind = part.kind.as_deref().and_then(|kind| kind.parse().ok()).unwrap_or(Kind::Other);
    let models = part.title.as_deref().map(|title| short_titles(kind, title)).unwrap_or_default();
    let Some(profile) = &part.profile else { return models };
    let of = models.iter().map(|model| format!("{profile} of {model}"));
    of.chain([profile.clone()]).collect()
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
        output::line(&format!("  {}", planned_part(part)))?;
    }
    list("would perform, in this order", &planned.steps)
}

/// What would be claimed, in one line: address, kind of partition, model, and members with their roles.
fn planned_part(part: &ClaimPart) -> String {
    let member = |member: &api::ClaimMember| format!("{} ({})", member.address, member.role);
    let members: Vec<String> = part.members.iter().map(member).collect();
    let words = [part.partition.as_deref(), part.title.as_deref()];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let named = format!("{}  {}", part.head, words.join(", "));
    // A mediated device has no function of its own.
    if members.is_empty() { named } else { format!("{named}: {}", members.join(", ")) }
}

fn list(title: &str, lines: &[String]) -> Done {
    if lines.is_empty() {
        return Ok(());
    }
    output::line("")?;
    output::line(title)?;
    lines.iter().try_for_each(|line| output::line(&format!("  {line}")))
}

/// Formats a time in seconds since 1970.
fn when(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    time.map_or_else(|| format!("@{seconds}"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(head: &str, title: &str, profile: Option<&str>) -> ClaimPart {
        ClaimPart {
            head: head.into(),
            kind: Some("gpu".into()),
            title: Some(title.into()),
            profile: profile.map(str::to_owned),
            partition: None,
            mdev: Some("6a4a7ad8-0c6d-4c2f-9d40-1b9f9f6f0a01".into()).filter(|_| profile.is_some()),
            members: Vec::new(),
        }
    }

    fn claim(id: &str, owner: &str, parts: Vec<ClaimPart>) -> Claim {
        Claim {
            id: id.into(),
            owner: owner.into(),
            reason: Some("nightly run".into()),
            state: "prepared".into(),
            expires: None,
            parts,
            attach: None,
            notes: Vec::new(),
        }
    }

    fn shown(claims: &[Claim], width: Option<usize>) -> String {
        let text = table(claims, &Names::default()).render_within(width);
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn what_would_be_claimed_is_named() {
        let vgpu = ClaimPart {
            partition: Some("mediated device (a new UUID) (nvidia-222) of 0000:03:00.0".into()),
            ..part("0000:03:00.0", "NVIDIA Corporation TU104GL [Tesla T4]", Some("nvidia-222"))
        };
        assert_eq!(
            planned_part(&vgpu),
            "0000:03:00.0  mediated device (a new UUID) (nvidia-222) of 0000:03:00.0, NVIDIA Corporation TU104GL [Tesla T4]"
        );
        let member = api::ClaimMember {
            address: "0000:01:00.0".into(),
            role: "guest".into(),
            vfio_group: None,
            vfio_device: None,
        };
        let gpu = ClaimPart {
            members: vec![member],
            ..part("0000:01:00.0", "NVIDIA Corporation GA102 [GeForce RTX 3090]", None)
        };
        assert_eq!(
            planned_part(&gpu),
            "0000:01:00.0  NVIDIA Corporation GA102 [GeForce RTX 3090]: 0000:01:00.0 (guest)"
        );
    }

    #[test]
    fn claims_are_shown_by_owner_and_model_and_ids_only_where_they_are_needed() {
        let gpu = "NVIDIA Corporation GA102 [GeForce RTX 3090]";
        let two = vec![part("0000:01:00.0", gpu, None), part("0000:02:00.0", gpu, None)];
        let vgpu =
            vec![part("0000:03:00.0", "NVIDIA Corporation TU104GL [Tesla T4]", Some("nvidia-222"))];
        let mut claims = vec![claim("id-1", "job/7", two), claim("id-2", "pod/web", vgpu)];
        assert_eq!(
            shown(&claims, None),
            "OWNER    STATE     ADDRESS       MODEL                                                ENDS  REASON\n\
             job/7    prepared  0000:01:00.0  NVIDIA Corporation GA102 [GeForce RTX 3090]          -     nightly run\n                   \
                                0000:02:00.0  NVIDIA Corporation GA102 [GeForce RTX 3090]\n\
             pod/web  prepared  0000:03:00.0  nvidia-222 of NVIDIA Corporation TU104GL [Tesla T4]  -     nightly run\n"
        );
        for width in [60, 80] {
            let text = shown(&claims, Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            assert!(text.contains("GeForce RTX 3090") && text.contains("nightly run"), "{text}");
        }
        claims.push(claim("id-3", "job/7", vec![part("0000:04:00.0", gpu, None)]));
        let text = shown(&claims, None);
        assert!(text.contains("id-1") && text.contains("id-3") && !text.contains("id-2"), "{text}");
    }
}
