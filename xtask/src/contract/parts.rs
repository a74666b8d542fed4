//! The contract for partitions: virtual functions, mediated devices, vGPUs.

use anyhow::{Context, Result, ensure};
use model::{
    Address, Function, Host, HostError, Inventory, NodeAccess, Observed, Step, VfSettings,
    VfioNode, VgpuTypes,
};
use uuid::Uuid;

use super::{STRANGER, perform};

/// Checks that the kernel refuses a step: EINVAL, EBUSY, EEXIST, ENOSPC or similar.
fn refused(host: &dyn Host, step: &Step) -> Result<HostError> {
    let words = step.describe();
    host.perform(step).err().with_context(|| format!("\"{words}\" is not refused"))
}

fn function(inventory: &Inventory, address: Address) -> Result<&Function> {
    inventory.function(address).with_context(|| format!("{address} is not there"))
}

/// Virtual functions of a device without any: they are created without drivers, configured if the device is a network
/// card, change their number through 0, and are removed.
pub fn vfs(host: &dyn Host, parent: Address) -> Result<()> {
    let before = host.inventory()?;
    let sriov = function(&before, parent)?.sriov.clone().context("it has no SR-IOV")?;
    ensure!(sriov.present.is_empty() && sriov.total >= 3, "it must have none yet: {sriov:?}");
    let autoprobe = sriov.autoprobe.context("it has no sriov_drivers_autoprobe")?;
    let count = |from, to| Step::SetVfCount { address: parent, from, to };
    let too_many = count(0, sriov.total + 1);
    refused(host, &too_many)?;
    ensure!(host.observe(&count(0, 2))? == Observed::Before, "a refused count shows");
    if autoprobe {
        perform(host, &Step::SetAutoprobe { address: parent, from: true, to: false })?;
    }
    perform(host, &count(0, 2))?;
    ensure!(matches!(host.observe(&count(1, 3))?, Observed::Other(_)), "2 is neither 1 nor 3");
    perform(host, &count(2, 3))?;
    let now = host.inventory()?;
    let vfs = function(&now, parent)?.virtual_functions().to_vec();
    ensure!(vfs.len() == 3, "three were requested: {vfs:?}");
    for (vf, index) in vfs.iter().zip(0u16..) {
        let vf = function(&now, *vf)?;
        ensure!(vf.driver.is_none() && vf.physical_function == Some(parent), "{vf:?}");
        if function(&now, parent)?.nodes.interfaces.is_empty() {
            continue;
        }
        let found = host.vf_settings(parent, index)?;
        let to = VfSettings { vlan: Some(7), qos: Some(0), ..VfSettings::default() };
        let from = found.only(&to);
        let told = Step::SetVf { address: vf.address, parent, index, from, to };
        perform(host, &told)?;
        ensure!(host.vf_settings(parent, index)?.vlan == Some(7), "the VLAN is not there");
        perform(host, &told.inverse().context("it has no inverse")?)?;
        ensure!(host.vf_settings(parent, index)? == found, "not as it was found: {found}");
    }
    perform(host, &count(3, 0))?;
    if autoprobe {
        perform(host, &Step::SetAutoprobe { address: parent, from: false, to: true })?;
    }
    ensure!(host.inventory()? == before, "the inventory changed");
    Ok(())
}

/// Mediated devices of a parent: created up to the limit, granted to a user, and removed.
pub fn mdevs(host: &dyn Host, parent: Address) -> Result<()> {
    let before = host.detail(&[parent])?;
    let types = |inventory: &Inventory| {
        let detail = inventory.function(parent).and_then(|function| function.detail.clone());
        detail.map(|detail| detail.mdev_types).unwrap_or_default()
    };
    let kinds = types(&before);
    let kind = kinds.iter().find(|kind| kind.available.is_some_and(|n| n >= 2));
    let kind = kind.context("it offers no type of which two can be created")?;
    let type_id = kind.id.clone();
    let uuid = Uuid::from_u128(0x6861_6e64_6f76_4000_8000_0000_0000_0001);
    let make =
        |uuid, type_id: &str| Step::CreateMdev { address: parent, uuid, type_id: type_id.into() };
    refused(host, &make(uuid, "no-such-type"))?;
    perform(host, &make(uuid, &type_id))?;
    let now = host.detail(&[parent])?;
    let there = &function(&now, parent)?.mdevs;
    ensure!(there.iter().any(|mdev| mdev.uuid == uuid), "it is not listed: {there:?}");
    let left = types(&now).iter().find(|now| now.id == type_id).and_then(|now| now.available);
    ensure!(
        left < kind.available,
        "one was created, but the available number is the same: {left:?}"
    );
    let to = NodeAccess { uid: STRANGER, gid: 0, mode: 0o600 };
    let (from, node) = (NodeAccess::KERNEL_DEFAULT, VfioNode::MdevGroup(uuid));
    perform(host, &Step::GrantNode { address: parent, node, from, to })?;
    let attributes = vec![("labgpu/params".to_owned(), "a=1".to_owned())];
    let define = Step::DefineMdev { address: parent, uuid, type_id: type_id.clone(), attributes };
    perform(host, &define)?;
    let written = define.definition();
    let found = host.mdev_definitions().into_iter().find(|one| one.uuid == uuid);
    ensure!(found == written, "it is defined as {found:?}");
    perform(host, &define.inverse().context("it has no inverse")?)?;
    // All that are available, and one more.
    let mut made = vec![uuid];
    for number in 2..200u128 {
        let next = Uuid::from_u128(uuid.as_u128() - 1 + number);
        if host.perform(&make(next, &type_id)).is_err() {
            break;
        }
        made.push(next);
    }
    ensure!(made.len() < 199, "its types are never used up");
    for uuid in made {
        perform(host, &Step::RemoveMdev { address: parent, uuid, type_id: type_id.clone() })?;
    }
    ensure!(types(&host.detail(&[parent])?) == kinds, "the available number is not as before");
    Ok(())
}

/// vGPUs on virtual functions with NVIDIA's vendor-specific VFIO: creating one shrinks the lists of the others, a
/// function is one vGPU at a time, a card can be full, and freeing restores the lists.
pub fn vgpus(host: &dyn Host, parent: Address) -> Result<()> {
    let before = vgpu_lists(host, parent)?;
    let (first, others) = before.split_first().context("it has no virtual functions")?;
    let least = first.1.creatable.first().context("nothing can be created")?.id;
    let largest = first.1.creatable.last().context("nothing can be created")?.id;
    let first = first.0;
    refused(host, &vgpu(first, 0, 999_999))?;
    perform(host, &vgpu(first, 0, largest))?;
    let now = vgpu_lists(host, parent)?;
    ensure!(now.first().and_then(|(_, list)| list.current) == Some(largest), "another type shows");
    let pairs = now.iter().zip(&before).skip(1);
    let shrunk =
        pairs.into_iter().all(|((_, now), (_, then))| now.creatable.len() < then.creatable.len());
    ensure!(others.is_empty() || shrunk, "the other lists did not shrink: {now:?}");
    ensure!(
        matches!(host.observe(&vgpu(first, 0, 999_999))?, Observed::Other(_)),
        "a foreign type is treated as ours"
    );
    ensure!(least == largest || host.perform(&vgpu(first, 0, least)).is_err(), "one becomes two");
    ensure!(host.observe(&vgpu(first, 0, largest))? == Observed::After, "it became another");
    perform(host, &vgpu(first, largest, 0))?;
    ensure!(vgpu_lists(host, parent)? == before, "the lists are not as they were");
    let functions: Vec<Address> = before.iter().map(|(address, _)| *address).collect();
    for kind in [largest, least] {
        fill_with_vgpus(host, &functions, kind)?;
        ensure!(vgpu_lists(host, parent)? == before, "the lists are not as they were");
    }
    Ok(())
}

const fn vgpu(address: Address, from: u32, to: u32) -> Step {
    Step::SetVgpu { address, from, to }
}

/// The current and creatable types of each virtual function.
fn vgpu_lists(host: &dyn Host, parent: Address) -> Result<Vec<(Address, VgpuTypes)>> {
    let vfs = function(&host.inventory()?, parent)?.virtual_functions().to_vec();
    let now = host.detail(&vfs)?;
    vfs.into_iter()
        .map(|vf| {
            let detail = function(&now, vf)?.detail.clone().context("no detail of a VF")?;
            let list = detail.vgpu.with_context(|| format!("{vf} is no vendor VFIO"))?;
            Ok((vf, list))
        })
        .collect()
}

/// Creates as many vGPUs of one type as fit; others are refused and stay free. Then frees all.
fn fill_with_vgpus(host: &dyn Host, functions: &[Address], kind: u32) -> Result<()> {
    let mut made = Vec::new();
    for address in functions.iter().copied() {
        if host.perform(&vgpu(address, 0, kind)).is_err() {
            let free = host.observe(&vgpu(address, 0, kind))?;
            ensure!(free == Observed::Before, "the refused vGPU at {address} is visible: {free:?}");
            continue;
        }
        let there = host.observe(&vgpu(address, 0, kind))?;
        ensure!(there == Observed::After, "{address} is not a vGPU of type {kind}: {there:?}");
        made.push(address);
    }
    ensure!(!made.is_empty(), "no vGPU of type {kind} could be created");
    for address in made {
        perform(host, &vgpu(address, kind, 0))?;
    }
    Ok(())
}
