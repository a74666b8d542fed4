//! Reads a [`model::Inventory`] at listing depth: nothing here wakes a device or waits for its lock.
//!
//! Not read for that reason: `config` (wakes), `sriov_numvfs` and `driver_override` (device lock), and `uevent`, which
//! takes the device lock on the stable kernels that have "drivers: core: synchronize really_probe() and dev_uevent()"
//! (6.10 and backports, reverted in 6.15). A driver that hangs in `remove` holds that lock for ever.
//!
//! What cannot be read or parsed becomes a note of its function; no single attribute makes a listing fail.

mod bars;
pub(crate) mod builtin;
mod function;
mod groups;
mod mdevs;
mod modalias;
mod modules;
mod names;
mod numa;
pub(crate) mod one;
mod vfio;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use model::{Address, Function, HostError, Inventory, Kind, VirtualFunctions};
use rustix::io::Errno;

use crate::bus_path::BusPath;
use crate::function_files::DEVICES;
use crate::nodes::{self, Nodes};
use crate::parallel;
use crate::problem::{self, words};
use crate::root::{Dir, Root};
use crate::sriov;

pub(crate) use function::{note as sriov_note, unreadable};
pub(crate) use mdevs::{MDEVS, of as mdevs_of};
pub(crate) use modalias::Modalias;
pub(crate) use modules::{matches, module_present};

/// How much of a listing is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only what assemblies and their state need: identity, names, driver, group, NUMA node, virtual functions, BARs.
    Rows,
    /// What choosing and planning need: everything except power, nodes, the types of groups and the memory of NUMA
    /// nodes.
    Choosing,
    /// Everything.
    Listing,
}

/// Data from large files of the distribution, cached until these change.
#[derive(Debug, Default)]
pub struct Catalogs {
    pub(crate) modules: Mutex<modules::Catalog>,
    names: Mutex<names::Catalog>,
}

impl Catalogs {
    /// Takes names from another root, if the root that is read has no file of names.
    pub fn names_or_from(&self, root: Root) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).or_from(root);
    }
}

/// Reads the inventory.
///
/// # Errors
/// If the list of functions cannot be read.
pub fn read(root: &Root, catalogs: &Catalogs, scope: Scope) -> Result<Inventory, HostError> {
    let refused = |errno| problem::file(root, "list", DEVICES, errno);
    let bus = root.dir(DEVICES).map_err(refused)?;
    let listed = bus.names(".").map_err(refused)?;
    let found = parallel::map(&listed, |name| on_bus(root, &bus, name, scope));
    let mut functions: BTreeMap<Address, Function> =
        found.into_iter().flatten().map(|function| (function.address, function)).collect();
    virtual_functions(root, &mut functions);
    numa::place(root, functions.values_mut());
    let groups = match scope {
        Scope::Rows | Scope::Choosing => groups::with_firmware_memory(root, &functions),
        Scope::Listing => groups::read(root, &functions),
    };
    for (parent, mdevs) in mdevs::read(root) {
        functions.entry(parent).and_modify(|function| function.mdevs = mdevs);
    }
    if scope == Scope::Listing {
        add_nodes(&mut functions, &nodes::read(root));
    }
    let mut modules = catalogs.modules.lock().unwrap_or_else(PoisonError::into_inner);
    modules.refresh(root);
    if scope != Scope::Rows {
        modules.choose_drivers(root, functions.values_mut());
    }
    let vfio = vfio::read(root, &mut modules);
    drop(modules);
    let mut names = catalogs.names.lock().unwrap_or_else(PoisonError::into_inner);
    names.name(root, functions.values_mut());
    drop(names);
    let numa_nodes = if scope == Scope::Choosing { BTreeMap::new() } else { numa::read(root) };
    Ok(Inventory { functions, groups, numa_nodes, vfio })
}

/// Adds the power state of these functions, for a scope without it.
pub fn add_power(root: &Root, inventory: &mut Inventory, addresses: &[Address]) {
    for address in addresses {
        let Some(function) = inventory.functions.get_mut(address) else { continue };
        // Skipped if the function is gone by now.
        if let Ok(dir) = root.dir(&format!("{DEVICES}/{address}")) {
            function::add_power(function, &dir);
        }
    }
}

/// Only these functions, their groups without other members, and their VFIO nodes.
pub fn read_some(root: &Root, catalogs: &Catalogs, addresses: &[Address]) -> Inventory {
    let read = |address: &Address| function(root, &address.to_string(), Scope::Listing);
    let mut functions: BTreeMap<Address, Function> =
        addresses.iter().filter_map(read).map(|function| (function.address, function)).collect();
    numa::place(root, functions.values_mut());
    for (parent, mdevs) in mdevs::of(root, addresses) {
        functions.entry(parent).and_modify(|function| function.mdevs = mdevs);
    }
    let groups: Vec<u32> = functions.values().filter_map(|f| f.iommu_group).collect();
    add_nodes(&mut functions, &nodes::read_vfio(root, addresses, &groups));
    let mut modules = catalogs.modules.lock().unwrap_or_else(PoisonError::into_inner);
    modules.refresh(root);
    modules.choose_drivers(root, functions.values_mut());
    let vfio = vfio::read(root, &mut modules);
    drop(modules);
    let mut names = catalogs.names.lock().unwrap_or_else(PoisonError::into_inner);
    names.name(root, functions.values_mut());
    drop(names);
    let groups = groups::of(&functions);
    Inventory { functions, groups, vfio, ..Inventory::default() }
}

/// Reads one function's own attributes, like [`on_bus`].
fn function(root: &Root, name: &str, scope: Scope) -> Option<Function> {
    on_bus(root, &root.dir(DEVICES).ok()?, name, scope)
}

/// Reads one function's own attributes; `None` if it does not exist, or was removed during the read.
fn on_bus(root: &Root, bus: &Dir, name: &str, scope: Scope) -> Option<Function> {
    let address = name.parse::<Address>().ok()?;
    let is_gone = |link: &Result<String, Errno>| link.as_ref().err() == Some(&Errno::NOENT);
    let link = (scope != Scope::Rows).then(|| bus.link(name));
    if link.as_ref().is_some_and(is_gone) {
        return None;
    }
    let mut function = match root.dir(&format!("{DEVICES}/{name}")) {
        Ok(dir) => function::read(address, &dir, scope),
        Err(Errno::NOENT) if is_gone(&bus.link(name)) => return None,
        Err(errno) => {
            let mut function = Function::unknown(address);
            function.notes.push(format!("cannot read its directory: {}", words(errno)));
            function
        }
    };
    if !function.notes.is_empty() && is_gone(&bus.link(name)) {
        return None;
    }
    let link = link.or_else(|| needs_path(&function).then(|| bus.link(name)));
    match link {
        None => {}
        Some(Ok(link)) => {
            let path = BusPath::of_link(&link);
            function.path = path.bridges;
            function.behind = path.behind;
        }
        // In a copy of a tree, the function's directory can be in the place of the link to it.
        Some(Err(errno)) => {
            function.notes.push(format!("cannot read the bridges above it: {}", words(errno)));
        }
    }
    Some(function)
}

/// Whether the members of an assembly depend on the position of a function: a card with a switch of its own, and functions
/// in the PCI domain of a VMD controller, whose number has more than four digits (`vmd_enable_domain` in
/// drivers/pci/controller/vmd.c).
const fn needs_path(function: &Function) -> bool {
    matches!(function.kind(), Kind::Gpu | Kind::Audio) || function.address.domain() > 0xffff
}

/// Adds virtual functions to their physical functions. The order of their addresses is that of their numbers (PCI
/// Express Base Specification, 9.3.3.9: VF stride).
fn virtual_functions(root: &Root, functions: &mut BTreeMap<Address, Function>) {
    let pairs: Vec<(Address, Address)> = functions
        .values()
        .filter_map(|function| Some((function.physical_function?, function.address)))
        .collect();
    for (physical, address) in pairs {
        let Some(function) = functions.get_mut(&physical) else { continue };
        let sriov = function.sriov.get_or_insert_with(|| VirtualFunctions {
            total: sriov::total_of(root, physical),
            ..VirtualFunctions::default()
        });
        sriov.present.push(address);
    }
}

/// Adds the nodes and interfaces that drivers created.
fn add_nodes(functions: &mut BTreeMap<Address, Function>, nodes: &Nodes) {
    for node in &nodes.characters {
        let Some(function) = functions.get_mut(&node.address) else { continue };
        let known = &mut function.nodes;
        match node.dir {
            "dri/" => known.drm.push(node.name.clone()),
            _ if node.is_vfio() => known.vfio_device = Some(node.path()),
            _ if node.is_nvidia() => known.nvidia_minor = Some(node.number.1),
            _ => {}
        }
    }
    for disk in nodes.disks.iter().filter(|disk| !disk.partition) {
        let Some(function) = functions.get_mut(&disk.address) else { continue };
        function.nodes.block_devices.push(disk.name.clone());
    }
    for interface in &nodes.interfaces {
        let Some(function) = functions.get_mut(&interface.address) else { continue };
        function.nodes.interfaces.push(interface.name.clone());
    }
    for function in functions.values_mut() {
        let group = function.iommu_group.filter(|group| nodes.vfio_groups.contains_key(group));
        function.nodes.vfio_group = group.map(|group| format!("/dev/vfio/{group}"));
        function.nodes.drm.sort_unstable();
        function.nodes.block_devices.sort_unstable();
    }
}
