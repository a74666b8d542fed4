//! Single parts of a listing, read as the whole is read, for those who follow a host.

use std::sync::PoisonError;

use model::{Address, Function, Mdev, NumaNode, VfioSupport, VirtualFunctions};
use std::collections::BTreeMap;
use uuid::Uuid;

use super::{Catalogs, Scope, groups, mdevs, numa, vfio};
use crate::nodes;
use crate::root::Root;
use crate::sriov;

/// Reads a function; `None` where it is not there. What other objects tell of it is left out: its virtual functions, its
/// mediated devices, and the nodes of its driver but for NVIDIA's, which is in no class of sysfs.
pub fn function(root: &Root, catalogs: &Catalogs, address: Address) -> Option<Function> {
    let mut function = super::function(root, &address.to_string(), Scope::Listing)?;
    function.nodes.nvidia_minor = nodes::nvidia_minor(root, address);
    let mut modules = catalogs.modules.lock().unwrap_or_else(PoisonError::into_inner);
    modules.refresh(root);
    modules.choose_drivers(root, std::iter::once(&mut function));
    drop(modules);
    let mut names = catalogs.names.lock().unwrap_or_else(PoisonError::into_inner);
    names.name(root, std::iter::once(&mut function));
    Some(function)
}

/// The driver that a function has, or that is probing it.
pub fn driver(root: &Root, address: Address) -> Option<String> {
    root.link_name(&format!("{}/{address}/driver", crate::function_files::DEVICES)).ok()
}

/// The virtual functions of a physical function, to be changed as these tell it.
pub fn virtual_functions<'a>(root: &Root, function: &'a mut Function) -> &'a mut VirtualFunctions {
    let address = function.address;
    function.sriov.get_or_insert_with(|| VirtualFunctions {
        total: sriov::total_of(root, address),
        ..VirtualFunctions::default()
    })
}

/// The domain type of a group, as far as it is told; `None` where there is no such group, or nothing in it any more.
pub fn group_type(root: &Root, number: u32) -> Option<Option<String>> {
    groups::domain_type(root, number).filter(|_| groups::has_devices(root, number))
}

/// A mediated device with its parent; `None` where it is not there or its parent is no PCI function.
pub fn mdev(root: &Root, uuid: Uuid) -> Option<(Address, Mdev)> {
    mdevs::read_one(root, uuid)
}

/// Every NUMA node.
pub fn numa_nodes(root: &Root) -> BTreeMap<u32, NumaNode> {
    numa::read(root)
}

/// What the kernel offers.
pub fn vfio_support(root: &Root, catalogs: &Catalogs) -> VfioSupport {
    let mut modules = catalogs.modules.lock().unwrap_or_else(PoisonError::into_inner);
    modules.refresh(root);
    vfio::read(root, &mut modules)
}
