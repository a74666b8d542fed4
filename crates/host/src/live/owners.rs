//! The functions to which nodes and mediated devices belong.

use std::collections::HashMap;

use model::{Address, Function, Inventory, Node};
use uuid::Uuid;

/// The functions of nodes and of mediated devices. A namespace with several paths has several.
#[derive(Debug, Default)]
pub struct Owners {
    nodes: HashMap<(Node, String), Vec<Address>>,
    mdevs: HashMap<Uuid, Address>,
}

impl Owners {
    /// From an inventory.
    pub fn of(inventory: &Inventory) -> Self {
        let mut owners = Self::default();
        for function in inventory.functions.values() {
            owners.add(function);
        }
        owners
    }

    fn add(&mut self, function: &Function) {
        for key in keys(function) {
            self.nodes.entry(key).or_default().push(function.address);
        }
        self.mdevs.extend(function.mdevs.iter().map(|mdev| (mdev.uuid, function.address)));
    }

    /// Removes the entries of a function that is gone.
    pub fn forget(&mut self, function: &Function) {
        for key in keys(function) {
            if let Some(owners) = self.nodes.get_mut(&key) {
                owners.retain(|owner| *owner != function.address);
            }
            if self.nodes.get(&key).is_some_and(Vec::is_empty) {
                self.nodes.remove(&key);
            }
        }
        for mdev in &function.mdevs {
            self.mdevs.remove(&mdev.uuid);
        }
    }

    /// Sets the functions of a node, and returns its previous ones.
    pub fn set(&mut self, node: Node, name: &str, to: &[Address]) -> Vec<Address> {
        let key = (node, name.to_owned());
        let before = if to.is_empty() {
            self.nodes.remove(&key)
        } else {
            self.nodes.insert(key, to.to_vec())
        };
        before.unwrap_or_default()
    }

    /// Sets the parent of a mediated device, and returns its previous one.
    pub fn set_mdev(&mut self, uuid: Uuid, to: Option<Address>) -> Option<Address> {
        match to {
            Some(parent) => self.mdevs.insert(uuid, parent),
            None => self.mdevs.remove(&uuid),
        }
    }
}

/// The nodes of a function that have their own uevents.
fn keys(function: &Function) -> impl Iterator<Item = (Node, String)> {
    let named = |node: Node, names: &[String]| {
        names.iter().map(|name| (node, name.clone())).collect::<Vec<_>>()
    };
    let nodes = &function.nodes;
    let device = nodes.vfio_device.as_deref().and_then(|path| path.rsplit('/').next());
    let device = device.map(|name| (Node::VfioDevice, name.to_owned()));
    named(Node::Interface, &nodes.interfaces)
        .into_iter()
        .chain(named(Node::BlockDevice, &nodes.block_devices))
        .chain(named(Node::Drm, &nodes.drm))
        .chain(device)
}
