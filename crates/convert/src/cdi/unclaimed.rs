//! Specifications of devices as they are found: on VFIO, or a GPU on its own driver.

use model::{Address, Assembly, Code, Function, Inventory, Mdev, MigInstance, Refusal};
use uuid::Uuid;

use super::claimed::told;
use super::{DEVICE, Spec};
use crate::devices::{opened, own_nodes};

/// What is known of the host.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Its hardware.
    pub inventory: &'a Inventory,
    /// Nodes of `/dev` that are not of one function, such as `/dev/kfd`; those that are there.
    pub present: &'a [String],
}

/// The specification of the device at an address, by that address or another name: its whole assembly where it is on VFIO, or
/// the nodes that a GPU's own driver made.
///
/// # Errors
/// `device_not_found`, `invalid_state`.
pub fn device(host: &Host<'_>, address: Address, name: &str) -> Result<Spec, Refusal> {
    let function =
        host.inventory.function(address).ok_or_else(|| model::no_such_function(address))?;
    let (env, nodes) = if function.on_vfio() {
        (told(DEVICE, &[address.to_string()], &[]), vfio_nodes(host, address))
    } else {
        (Vec::new(), own_nodes(function, host.present))
    };
    if nodes.is_empty() {
        return Err(without(function));
    }
    Ok(Spec::of(DEVICE, name, env, nodes))
}

/// The specification of a mediated device.
///
/// # Errors
/// `device_not_found`, `invalid_state`.
pub fn mediated(host: &Host<'_>, uuid: Uuid) -> Result<Spec, Refusal> {
    let all = host.inventory.functions.values().flat_map(|parent| &parent.mdevs);
    let Some(mdev) = all.into_iter().find(|mdev| mdev.uuid == uuid) else {
        return Err(Refusal::new(
            Code::DeviceNotFound,
            format!("there is no mediated device and no claim {uuid}"),
            "`handover claims` shows the claims; ls /sys/bus/mdev/devices shows mediated devices",
        ));
    };
    of_mediated(mdev).ok_or_else(|| {
        Refusal::new(
            Code::InvalidState,
            format!("the mediated device {uuid} is in no IOMMU group, so it has no node"),
            "look at `dmesg` for why its driver gave it none",
        )
    })
}

/// The specification of a part of a GPU in MIG mode, by a name such as `0000:41:00.0:gi1:ci0`.
///
/// # Errors
/// `device_not_found`.
pub fn instance(host: &Host<'_>, name: &str) -> Result<Spec, Refusal> {
    let mut all = host.inventory.functions.values().flat_map(|one| instances(host, one));
    all.find(|spec| spec.devices.iter().any(|device| device.name == name)).ok_or_else(|| {
        Refusal::new(
            Code::DeviceNotFound,
            format!("there is no MIG instance {name}"),
            "nvidia-smi mig -lci shows the instances that are there",
        )
    })
}

/// The specifications of all devices that a container could use now.
#[must_use]
pub fn all(host: &Host<'_>) -> Vec<Spec> {
    let assemblies = Assembly::all(host.inventory);
    let heads = assemblies.iter().filter_map(|assembly| host.inventory.function(assembly.head));
    let of_head = |head: &Function| {
        let whole = device(host, head.address, &head.address.to_string()).ok();
        whole.into_iter().chain(instances(host, head)).collect::<Vec<_>>()
    };
    let devices = heads.flat_map(of_head);
    let mdevs = host.inventory.functions.values().flat_map(|parent| &parent.mdevs);
    devices.chain(mdevs.filter_map(of_mediated)).collect()
}

/// The specifications of a GPU's compute instances: its nodes, without the rights to other instances.
fn instances(host: &Host<'_>, function: &Function) -> Vec<Spec> {
    let all = function.detail.as_ref().map_or(&[][..], |detail| &detail.mig);
    let spec = |own: &MigInstance| {
        let gpu_instance = own.gpu_instance;
        let is_other = |other: &&MigInstance| {
            let within = other.gpu_instance == gpu_instance && other.compute_instance.is_none();
            *other != own && !within
        };
        let others: Vec<String> = all.iter().filter(is_other).map(MigInstance::path).collect();
        let mut nodes = own_nodes(function, host.present);
        nodes.retain(|path| !others.contains(path));
        let compute_instance = own.compute_instance?;
        let name = format!("{}:gi{gpu_instance}:ci{compute_instance}", function.address);
        Some(Spec::of(DEVICE, &name, Vec::new(), nodes))
    };
    all.iter().filter_map(spec).collect()
}

/// The nodes of all functions that go together with one.
fn vfio_nodes(host: &Host<'_>, address: Address) -> Vec<String> {
    let (mut groups, mut devices) = (Vec::new(), Vec::new());
    let assembly = Assembly::of(host.inventory, address);
    for member in assembly.iter().flat_map(Assembly::taken) {
        let Some(function) = host.inventory.function(member.address) else { continue };
        groups.extend(function.nodes.vfio_group.clone());
        devices.extend(function.nodes.vfio_device.clone());
    }
    groups.sort_unstable();
    groups.dedup();
    opened(&groups, &devices)
}

fn of_mediated(mdev: &Mdev) -> Option<Spec> {
    let group = format!("/dev/vfio/{}", mdev.iommu_group?);
    let uuid = mdev.uuid.to_string();
    let env = told(DEVICE, &[], std::slice::from_ref(&uuid));
    Some(Spec::of(DEVICE, &uuid, env, opened(&[group], &[])))
}

fn without(function: &Function) -> Refusal {
    let address = function.address;
    let driver = function.driver.as_deref().unwrap_or("no driver");
    Refusal::new(
        Code::InvalidState,
        format!(
            "{address} ({}) is on {driver}, which made no nodes by which a container would use it",
            function.title()
        ),
        format!("prepare it for VFIO: handover claim {address}; its claim has a specification"),
    )
}
