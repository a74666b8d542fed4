//! Renders a claim in the types of the API.

use std::collections::BTreeSet;

use api::{Attach, ClaimMember, ClaimPart};
use model::{Attachment, Claim, ClaimState, Function, Inventory, Part, Partition};

/// The claim, with the device nodes of its functions in the inventory.
#[must_use]
pub fn render(claim: &Claim, inventory: &Inventory) -> api::Claim {
    api::Claim {
        id: claim.id.to_string(),
        owner: claim.owner.to_string(),
        reason: claim.reason.clone(),
        state: claim.state.as_str().to_owned(),
        expires: claim.expires,
        parts: claim.parts.iter().map(|part| render_part(part, inventory)).collect(),
        attach: (claim.state == ClaimState::Prepared).then(|| attach(claim, inventory)),
        notes: Vec::new(),
    }
}

fn render_part(part: &Part, inventory: &Inventory) -> ClaimPart {
    let member = |member: &model::ClaimedMember| {
        let nodes = inventory.function(member.address).map(|function| &function.nodes);
        ClaimMember {
            address: member.address.to_string(),
            role: member.role.as_str().to_owned(),
            vfio_group: nodes.and_then(|nodes| nodes.vfio_group.clone()),
            vfio_device: nodes.and_then(|nodes| nodes.vfio_device.clone()),
        }
    };
    let head = inventory.function(part.head);
    ClaimPart {
        head: part.head.to_string(),
        kind: head.map(|function| function.kind().as_str().to_owned()),
        title: head.map(Function::title),
        profile: part.partition.as_ref().and_then(Partition::profile),
        partition: part.partition.as_ref().map(Partition::describe),
        mdev: part.partition.as_ref().and_then(Partition::mdev).map(|uuid| uuid.to_string()),
        members: part.members.iter().map(member).collect(),
    }
}

fn attach(claim: &Claim, inventory: &Inventory) -> Attach {
    let mut groups: BTreeSet<String> = BTreeSet::new();
    let mut devices = Vec::new();
    for part in &claim.parts {
        let functions: Vec<&Function> =
            part.taken().filter_map(|address| inventory.function(address)).collect();
        groups.extend(functions.iter().filter_map(|function| function.nodes.vfio_group.clone()));
        devices.extend(functions.iter().filter_map(|function| function.nodes.vfio_device.clone()));
        let uuid = part.partition.as_ref().and_then(Partition::mdev);
        let mdevs = inventory.function(part.head).map(|parent| parent.mdevs.as_slice());
        let mdev = mdevs.unwrap_or_default().iter().find(|mdev| Some(mdev.uuid) == uuid);
        groups.extend(mdev.and_then(|mdev| Some(format!("/dev/vfio/{}", mdev.iommu_group?))));
    }
    let Attachment { qemu, cloud_hypervisor, libvirt, cdi } = Attachment::of(claim);
    Attach { groups: groups.into_iter().collect(), devices, qemu, cloud_hypervisor, libvirt, cdi }
}
