//! The known state of a host, and its updates.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use model::{Address, Change, ChangeKind, Function, Group, Inventory, Node};
use uuid::Uuid;

use super::owners::Owners;
use super::subject::{FunctionEvent, Subject};
use crate::inventory::{Catalogs, one};
use crate::nodes;
use crate::root::Root;
use crate::uevent::Uevent;

/// After this time a driver is assumed to have finished probing, even without a uevent.
const LONGEST_PROBE: Duration = Duration::from_secs(120);

/// The known state of a host.
#[derive(Debug)]
pub struct State {
    inventory: Inventory,
    owners: Owners,
    /// The groups with a node below `/dev/vfio`.
    vfio_groups: BTreeSet<u32>,
    /// Functions with a driver that may be probing, and since when. The kernel creates the link to the driver before
    /// the probe, and removes it without a uevent if the probe fails (`really_probe` in drivers/base/dd.c).
    probing: BTreeMap<Address, Instant>,
    /// Groups without known members that the kernel still showed as not empty: a removed function loses the link to its
    /// group before the group loses its own link (`__iommu_group_free_device` in drivers/iommu/iommu.c), and the uevent
    /// of the removal comes after both.
    emptied: BTreeSet<u32>,
    /// The current snapshot, as long as a caller keeps it.
    shared: Weak<Inventory>,
}

impl State {
    pub fn new(inventory: Inventory) -> Self {
        let owners = Owners::of(&inventory);
        let with_node = |f: &Function| f.nodes.vfio_group.as_ref().and(f.iommu_group);
        let vfio_groups = inventory.functions.values().filter_map(with_node).collect();
        Self {
            inventory,
            owners,
            vfio_groups,
            probing: BTreeMap::new(),
            emptied: BTreeSet::new(),
            shared: Weak::new(),
        }
    }

    /// Whether a change without a uevent is possible.
    pub fn is_probing(&self) -> bool {
        !self.probing.is_empty()
    }

    pub fn snapshot(&mut self) -> Arc<Inventory> {
        self.shared.upgrade().unwrap_or_else(|| {
            let copy = Arc::new(self.inventory.clone());
            self.shared = Arc::downgrade(&copy);
            copy
        })
    }

    /// Replaces the inventory, and returns the changes.
    pub fn replace(&mut self, inventory: Inventory) -> Vec<Change> {
        let old = mem::replace(self, Self::new(inventory)).inventory.functions;
        let new = &self.inventory.functions;
        let addresses: BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
        let driver = |f: Option<&Function>| f.and_then(|f| f.driver.clone());
        let other_driver = |at: &&Address| {
            let new = driver(new.get(at));
            new.is_some() && new != driver(old.get(at))
        };
        let now = Instant::now();
        self.probing = addresses.iter().filter(other_driver).map(|at| (*at, now)).collect();
        let changes = addresses.iter().map(|at| Change::between(old.get(at), new.get(at)));
        changes.flatten().collect()
    }

    /// Reads the objects of these uevents again, and returns the changes.
    pub fn apply(&mut self, root: &Root, catalogs: &Catalogs, events: &[Uevent]) -> Vec<Change> {
        let mut update = Update {
            root,
            catalogs,
            state: self,
            changes: Vec::new(),
            parents: BTreeMap::new(),
            numa: false,
            support: false,
        };
        for event in events {
            for subject in Subject::of(event) {
                update.read(subject);
            }
            update.report_error(event);
        }
        update.check_probes();
        update.finish()
    }
}

/// An update of some parts of a host.
struct Update<'a> {
    root: &'a Root,
    catalogs: &'a Catalogs,
    state: &'a mut State,
    changes: Vec<Change>,
    /// Physical functions whose virtual functions were added or removed, in their previous state.
    parents: BTreeMap<Address, Function>,
    numa: bool,
    support: bool,
}

impl Update<'_> {
    /// Reads an object again. Its links exist before its `add`, and are gone before its `remove` (`device_add` and
    /// `device_del` in drivers/base/core.c).
    fn read(&mut self, subject: Subject) {
        self.state.shared = Weak::new();
        match subject {
            Subject::Function { address, event } => {
                if event != FunctionEvent::Other {
                    self.state.probing.remove(&address);
                }
                if event == FunctionEvent::Removed {
                    self.put(address, None);
                }
                let driver = self.read_function(address);
                if event != FunctionEvent::Settled && driver.is_some() {
                    self.state.probing.insert(address, Instant::now());
                }
            }
            Subject::Node { node, name, link } => {
                let target = self.target(&link, &name);
                let owner = target.and_then(|target| Some(nodes::below(&target)?.0));
                self.set_owners(node, &name, owner.as_slice());
            }
            Subject::Namespace { name, link } => {
                let exists = self.target(&link, &name).is_some();
                let owners = if exists { nodes::paths(self.root, &name) } else { Vec::new() };
                self.set_owners(Node::BlockDevice, &name, &owners);
            }
            Subject::Mdev(uuid) => self.mdev(uuid),
            Subject::VfioGroup { group, link } => self.vfio_group(group, &link),
            Subject::Numa => self.numa = true,
            Subject::Support => self.support = true,
        }
    }

    /// Reports a PCIe error, which changes nothing that is read.
    fn report_error(&mut self, event: &Uevent) {
        let error = event.error.filter(|_| event.subsystem == "pci");
        let Some((stage, address)) = error.zip(event.name().parse().ok()) else { return };
        let function = self.state.inventory.function(address);
        self.changes.extend(function.map(|f| Change::of(f, ChangeKind::Error { stage })));
    }

    /// Reads a function again; returns its driver if that has changed.
    fn read_function(&mut self, address: Address) -> Option<String> {
        let driver = |f: Option<&Function>| f.and_then(|f| f.driver.clone());
        let before = driver(self.state.inventory.function(address));
        let found = one::function(self.root, self.catalogs, address);
        let after = driver(found.as_ref()).filter(|after| Some(after) != before.as_ref());
        self.put(address, found);
        after
    }

    /// Checks whether functions that may be probed are still bound to the driver.
    fn check_probes(&mut self) {
        self.state.probing.retain(|_, since| since.elapsed() < LONGEST_PROBE);
        for address in self.state.probing.keys().copied().collect::<Vec<_>>() {
            let known = self.state.inventory.function(address).and_then(|f| f.driver.as_ref());
            if known != one::driver(self.root, address).as_ref() {
                self.state.shared = Weak::new();
                self.state.probing.remove(&address);
                self.read_function(address);
            }
        }
    }

    /// Reads what is read once for many uevents, and returns the changes.
    fn finish(mut self) -> Vec<Change> {
        let inventory = &mut self.state.inventory;
        for (address, before) in mem::take(&mut self.parents) {
            let after = inventory.functions.get(&address);
            self.changes
                .extend(after.into_iter().flat_map(|f| Change::between(Some(&before), Some(f))));
        }
        for number in mem::take(&mut self.state.emptied) {
            let empty = |group: &Group| group.members.is_empty();
            if !inventory.groups.get(&number).is_some_and(empty) {
                continue;
            }
            if one::group_type(self.root, number).is_some() {
                self.state.emptied.insert(number);
            } else {
                inventory.groups.remove(&number);
            }
        }
        if self.numa {
            inventory.numa_nodes = one::numa_nodes(self.root);
        }
        if self.support {
            inventory.vfio = one::vfio_support(self.root, self.catalogs);
        }
        self.changes
    }

    /// Stores a function that was just read, or removes it.
    fn put(&mut self, address: Address, found: Option<Function>) {
        let old = self.state.inventory.functions.remove(&address);
        let new = found.map(|mut new| {
            self.complete(&mut new, old.as_ref());
            new
        });
        self.changes.extend(Change::between(old.as_ref(), new.as_ref()));
        if let (Some(old), None) = (&old, &new) {
            self.state.owners.forget(old);
        }
        let parent = |f: &Option<Function>| f.as_ref().and_then(|f| f.physical_function);
        let group = |f: &Option<Function>| f.as_ref().and_then(|f| f.iommu_group);
        let (parents, groups) = ([parent(&old), parent(&new)], [group(&old), group(&new)]);
        let mdevs = old.into_iter().flat_map(|old| old.mdevs);
        let lost: Vec<u32> = mdevs.filter_map(|mdev| mdev.iommu_group).collect();
        self.state.inventory.functions.extend(new.map(|new| (address, new)));
        for parent in parents.into_iter().flatten() {
            self.adopt(parent, address);
        }
        for group in groups.into_iter().flatten().chain(lost) {
            self.regroup(group, address);
        }
    }

    /// Completes a function that was just read with data from other objects, whose uevents come after the function's.
    fn complete(&self, new: &mut Function, old: Option<&Function>) {
        let minor = new.nodes.nvidia_minor;
        if let Some(old) = old {
            new.nodes.clone_from(&old.nodes);
            new.mdevs.clone_from(&old.mdevs);
        }
        new.nodes.nvidia_minor = minor;
        let group = new.iommu_group.filter(|group| self.state.vfio_groups.contains(group));
        new.nodes.vfio_group = group.map(group_path);
        let children: Vec<Address> = match old {
            Some(old) => old.virtual_functions().to_vec(),
            None if new.physical_function.is_some() => Vec::new(),
            None => {
                let all = self.state.inventory.functions.values();
                let children = all.filter(|f| f.physical_function == Some(new.address));
                children.map(|f| f.address).collect()
            }
        };
        if !children.is_empty() {
            one::virtual_functions(self.root, new).present = children;
        }
    }

    /// Updates a physical function whose virtual function was added or removed.
    fn adopt(&mut self, parent: Address, child: Address) {
        let functions = &mut self.state.inventory.functions;
        let is_child = functions.get(&child).is_some_and(|f| f.physical_function == Some(parent));
        let Some(function) = functions.get_mut(&parent) else { return };
        self.parents.entry(parent).or_insert_with(|| function.clone());
        let sriov = one::virtual_functions(self.root, function);
        sriov.present.retain(|other| *other != child);
        if is_child {
            let place = sriov.present.partition_point(|other| *other < child);
            sriov.present.insert(place, child);
        } else if sriov.present.is_empty() && sriov.total == 0 {
            function.sriov = None;
        }
    }

    /// Reads a group again, after a function may have been added or removed.
    fn regroup(&mut self, number: u32, address: Address) {
        let inventory = &mut self.state.inventory;
        let member = inventory.function(address).is_some_and(|f| f.iommu_group == Some(number));
        let kind = one::group_type(self.root, number);
        let group = inventory.groups.entry(number).or_default();
        match (group.members.binary_search(&address), member) {
            (Err(place), true) => group.members.insert(place, address),
            (Ok(place), false) => {
                group.members.remove(place);
            }
            _ => {}
        }
        match kind {
            Some(kind) => {
                one::refresh_group(self.root, number, kind, group);
                if group.members.is_empty() {
                    self.state.emptied.insert(number);
                }
            }
            None if group.members.is_empty() => {
                inventory.groups.remove(&number);
            }
            None => one::refresh_group(self.root, number, None, group),
        }
    }

    /// The target of an object's link; `None` if the link is gone, or belongs to another object by now.
    fn target(&self, link: &str, name: &str) -> Option<String> {
        let target = self.root.link(link).ok()?;
        (target.rsplit('/').next() == Some(name)).then_some(target)
    }

    /// Adds a node to its functions, and removes it from its previous ones.
    fn set_owners(&mut self, node: Node, name: &str, to: &[Address]) {
        let functions = &self.state.inventory.functions;
        let to: Vec<_> = to.iter().copied().filter(|at| functions.contains_key(at)).collect();
        let from = self.state.owners.set(node, name, &to);
        for address in from.iter().filter(|address| !to.contains(address)) {
            self.edit(*address, |function| set(function, node, name, false));
        }
        for address in to.iter().filter(|address| !from.contains(address)) {
            self.edit(*address, |function| set(function, node, name, true));
        }
    }

    fn mdev(&mut self, uuid: Uuid) {
        let found = one::mdev(self.root, uuid);
        let found = found.filter(|(at, _)| self.state.inventory.functions.contains_key(at));
        let parent = found.as_ref().map(|(parent, _)| *parent);
        let old = self.state.owners.set_mdev(uuid, parent);
        let mut groups = Vec::from_iter(found.as_ref().and_then(|(_, mdev)| mdev.iommu_group));
        let mut found = found.map(|(_, mdev)| mdev);
        let parents = BTreeSet::from_iter(old.into_iter().chain(parent));
        for address in &parents {
            let mdev = found.take_if(|_| parent == Some(*address));
            self.edit(*address, |function| {
                let gone = function.mdevs.extract_if(.., |other| other.uuid == uuid);
                groups.extend(gone.filter_map(|mdev| mdev.iommu_group));
                let place = function.mdevs.partition_point(|other| other.uuid < uuid);
                function.mdevs.splice(place..place, mdev);
            });
        }
        for (address, group) in
            parents.first().iter().flat_map(|at| groups.iter().map(move |g| (**at, *g)))
        {
            self.regroup(group, address);
        }
    }

    fn vfio_group(&mut self, number: u32, link: &str) {
        let exists = self.target(link, &number.to_string()).is_some();
        if exists {
            self.state.vfio_groups.insert(number);
        } else {
            self.state.vfio_groups.remove(&number);
        }
        let group = self.state.inventory.groups.get(&number);
        for address in group.map(|group| group.members.clone()).unwrap_or_default() {
            self.edit(address, |function| {
                function.nodes.vfio_group = exists.then(|| group_path(number));
            });
        }
    }

    /// Changes a function, and records the changes.
    fn edit(&mut self, address: Address, change: impl FnOnce(&mut Function)) {
        let Some(function) = self.state.inventory.functions.get_mut(&address) else { return };
        let before = function.clone();
        change(function);
        self.changes.extend(Change::between(Some(&before), Some(function)));
    }
}

/// Adds a node to a function, or removes it.
fn set(function: &mut Function, node: Node, name: &str, exists: bool) {
    let nodes = &mut function.nodes;
    let names = match node {
        Node::Interface => &mut nodes.interfaces,
        Node::BlockDevice => &mut nodes.block_devices,
        Node::Drm => &mut nodes.drm,
        Node::VfioDevice => {
            nodes.vfio_device = exists.then(|| format!("/dev/vfio/devices/{name}"));
            return;
        }
        // These are read with their function and with their group.
        Node::Nvidia | Node::VfioGroup => return,
    };
    match (names.binary_search_by(|other| other.as_str().cmp(name)), exists) {
        (Err(place), true) => names.insert(place, name.to_owned()),
        (Ok(place), false) => {
            names.remove(place);
        }
        _ => {}
    }
}

fn group_path(number: u32) -> String {
    format!("/dev/vfio/{number}")
}
