//! Single parts of a listing, read like the whole, for updating an inventory.

use std::sync::PoisonError;

use model::{Address, Function, Group, Mdev, NumaNode, VfioSupport, VirtualFunctions};
use std::collections::BTreeMap;
use uuid::Uuid;

use super::{Catalogs, Scope, groups, mdevs, numa, vfio};
use crate::nodes;
use crate::root::Root;
use crate::sriov;

/// Reads a function; `None` if it does not exist. Data from other objects is left out: its virtual functions, its
/// mediated devices, and the nodes of its driver except NVIDIA's, which is not in sysfs.
pub fn function(root: &Root, catalogs: &Catalogs, address: Address) -> Option<Function> {
    let mut function = super::function(root, &address.to_string(), Scope::Listing)?;
    numa::place(root, std::iter::once(&mut function));
    function.nodes.nvidia_minor = nodes::nvidia_minor(root, address);
    let mut modules = catalogs.modules.lock().unwrap_or_else(PoisonError::into_inner);
    modules.refresh(root);
    modules.choose_drivers(root, std::iter::once(&mut function));
    drop(modules);
    let mut names = catalogs.names.lock().unwrap_or_else(PoisonError::into_inner);
    names.name(root, std::iter::once(&mut function));
    Some(function)
}

/// The driver that a function is bound to, or that is probing it.
pub fn driver(root: &Root, address: Address) -> Option<String> {
    root.link_name(&format!("{}/{address}/driver", crate::function_files::DEVICES)).ok()
}

/// The virtual functions of a physical function, for updating.
pub fn virtual_functions<'a>(root: &Root, function: &'a mut Function) -> &'a mut VirtualFunctions {
    let address = function.address;
    function.sriov.get_or_insert_with(|| VirtualFunctions {
        total: sriov::total_of(root, address),
        ..VirtualFunctions::default()
    })
}

/// The domain type of a group, if the kernel reports it; `None` if the group does not exist or is empty.
pub fn group_type(root: &Root, number: u32) -> Option<Option<String>> {
    groups::domain_type(root, number).filter(|_| groups::has_devices(root, number))
}

/// Reads again what a group itself has; its domain type is known.
pub fn refresh_group(root: &Root, number: u32, kind: Option<String>, group: &mut Group) {
    groups::refresh(root, number, kind, group);
}

/// A mediated device with its parent; `None` if it does not exist or its parent is not a PCI function.
pub fn mdev(root: &Root, uuid: Uuid) -> Option<(Address, Mdev)> {
    mdevs::read_one(root, uuid)
}

/// Every NUMA node.
pub fn numa_nodes(root: &Root) -> BTreeMap<u32, NumaNode> {
    numa::read(root)
}

/// The kernel's passthrough support.
pub fn vfio_support(root: &Root, catalogs: &Catalogs) -> VfioSupport {
    let mut modules = catalogs.modules.lock().unwrap_or_else(PoisonError::into_inner);
    modules.refresh(root);
    vfio::read(root, &mut modules)
}
