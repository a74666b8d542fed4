//! The files of PCI functions: the inventory with all detail, and what is made of it.

use std::collections::BTreeMap;

use host::LinuxHost;
use model::catalog::Catalog;
use model::choose::{Scene, choose};
use model::topology::{Picture, Wanted, svg};
use model::{Address, Host, Inventory, Scan};

use super::host_files;
use super::platform::examine;
use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "devices",
    reads: "sysfs of PCI functions, mdevctl's definitions, the boot list",
    read,
    words: host_files::WORDS,
    longest: 1 << 16,
};

fn read(bytes: &[u8]) -> Kind {
    host_files::host(bytes).map_or_else(|| Kind::of("refused"), |host| check(&host))
}

/// Reads the host's devices in every way.
pub fn check(host: &LinuxHost) -> Kind {
    let inventory = match Scan::detail(host) {
        Ok(inventory) => inventory,
        Err(error) => return Kind::of(error),
    };
    again(&inventory);
    let addresses: Vec<Address> = inventory.functions.keys().copied().collect();
    let sketch = host.sketch().map(|sketch| sketch.functions.len());
    assert_eq!(sketch.ok(), Some(addresses.len()), "a sketch has the same functions");
    for address in &addresses {
        let _ = (host.check(*address, None), host.vf_settings(*address, 0));
    }
    let _ = (
        host.as_found(&addresses),
        host.marks(&addresses),
        host.mdev_definitions(),
        host.boot_list(),
    );
    let groups: Vec<u32> = inventory.groups.keys().copied().collect();
    let _ = host.group_nodes(&groups);
    drawn(&inventory);
    let survey =
        Catalog::suggested(&inventory).survey(&inventory, &[], &model::OwnState::default());
    let counted: usize = survey.resources.iter().map(|resource| resource.count).sum();
    assert!(counted <= addresses.len(), "a function is counted twice");
    let found = inventory.functions.values().fold(Kind::of("functions"), |kind, function| {
        kind.with(Kind::of(format!("{:?} {:?}", function.detail, function.notes)))
    });
    found.with(chosen(&inventory)).with(examine(host)).and(addresses.len()).and(groups.len())
}

/// What is written is read again.
fn again(inventory: &Inventory) {
    let text = serde_json::to_string(inventory).unwrap_or_default();
    let read: Option<Inventory> = serde_json::from_str(&text).ok();
    assert_eq!(
        read.as_ref(),
        Some(inventory),
        "an inventory is another one after reading its JSON"
    );
}

/// A drawing is an XML document, whatever names are in it.
fn drawn(inventory: &Inventory) {
    let picture =
        Picture::of(inventory, Wanted { all: true, distances: true, own: None, meant: None });
    let text = svg::render(&picture);
    let parsed = roxmltree::Document::parse(&text).map(drop);
    assert!(parsed.is_ok(), "{parsed:?}: {text}");
}

/// No function is chosen twice.
fn chosen(inventory: &Inventory) -> Kind {
    let scene = Scene {
        inventory,
        claims: &[],
        barred: &BTreeMap::new(),
        definitions: &[],
        resources: &BTreeMap::new(),
        names: &BTreeMap::new(),
        id: uuid::Uuid::nil(),
        options: model::choose::Options::default(),
    };
    let first = inventory.functions.keys().next().map(ToString::to_string).unwrap_or_default();
    let wants = ["2xgpu", "nic", "vf", first.as_str()].map(str::parse);
    let mut kind = Kind::of("chosen");
    for want in wants.into_iter().flatten() {
        let found = choose(&scene, &[want]);
        if let Ok(found) = &found {
            let mut taken: Vec<Address> = found.iter().flat_map(|one| one.taken()).collect();
            let all = taken.len();
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), all, "a function is taken twice: {found:?}");
        }
        kind = kind.with(Kind::of_result(
            &found.map(|found| found.len()).map_err(|refusal| refusal.message),
        ));
    }
    kind
}
