//! CDI specs of unclaimed devices: on VFIO, or GPUs on their native drivers.

use model::{Address, Assembly, Code, Function, Inventory, Mdev, MigInstance, Refusal};
use uuid::Uuid;

use super::claimed::launcher_variables;
use super::{DEVICE, Spec};
use crate::devices::{opened, own_nodes};

/// The state of the host.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Its hardware.
    pub inventory: &'a Inventory,
    /// Existing nodes in `/dev` that several functions share, such as `/dev/kfd`.
    pub present: &'a [String],
}

/// The spec of the device at an address, with this or another name: its assembly if it is on VFIO, or the nodes of a
/// GPU's native driver.
///
/// # Errors
/// `device_not_found`, `invalid_state`.
pub fn device(host: &Host<'_>, address: Address, name: &str) -> Result<Spec, Refusal> {
    let function =
        host.inventory.function(address).ok_or_else(|| model::no_such_function(address))?;
    let (env, nodes) = if function.on_vfio() {
        (launcher_variables(DEVICE, &[address.to_string()], &[]), vfio_nodes(host, address))
    } else {
        (Vec::new(), own_nodes(function, host.present))
    };
    if nodes.is_empty() {
        return Err(without(function));
    }
    Ok(Spec::of(DEVICE, name, env, nodes))
}

/// The spec of a mediated device.
///
/// # Errors
/// `device_not_found`, `invalid_state`.
pub fn mediated(host: &Host<'_>, uuid: Uuid) -> Result<Spec, Refusal> {
    let all = host.inventory.functions.values().flat_map(|parent| &parent.mdevs);
    let Some(mdev) = all.into_iter().find(|mdev| mdev.uuid == uuid) else {
        return Err(Refusal::new(
            Code::DeviceNotFound,
            format!("no mediated device or claim {uuid}"),
            "run `handover claims` to list claims, and `ls /sys/bus/mdev/devices` to list mediated devices",
        ));
    };
    of_mediated(mdev).ok_or_else(|| {
        Refusal::new(
            Code::InvalidState,
            format!("mediated device {uuid} has no IOMMU group, and so no node"),
            "check `dmesg` for errors of its driver",
        )
    })
}

/// The spec of a MIG instance, by a name such as `0000:41:00.0:gi1:ci0`.
///
/// # Errors
/// `device_not_found`.
pub fn instance(host: &Host<'_>, name: &str) -> Result<Spec, Refusal> {
    let mut all = host.inventory.functions.values().flat_map(|one| instances(host, one));
    all.find(|spec| spec.devices.iter().any(|device| device.name == name)).ok_or_else(|| {
        Refusal::new(
            Code::DeviceNotFound,
            format!("no MIG instance {name}"),
            "run `nvidia-smi mig -lci` to list the instances",
        )
    })
}

/// The specs of all devices that a container can use now.
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

/// The specs of a GPU's compute instances: its nodes, without access to other instances.
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

/// The nodes of a function's assembly.
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
    let env = launcher_variables(DEVICE, &[], std::slice::from_ref(&uuid));
    Some(Spec::of(DEVICE, &uuid, env, opened(&[group], &[])))
}

fn without(function: &Function) -> Refusal {
    let address = function.address;
    let driver = function.driver.as_deref().unwrap_or("no driver");
    Refusal::new(
        Code::InvalidState,
        format!(
            "{address} ({}) is on {driver}, which created no nodes that a container could use",
            function.title()
        ),
        format!(
            "prepare it for VFIO with `handover claim {address}`, and use the spec of the claim"
        ),
    )
}
