//! A suggested catalog for a host: a line for each device that is usually handed over.

use std::collections::BTreeSet;

use super::{Catalog, ClassOrDevice, Line, Pattern, counts};
use crate::{Assembly, Code, Function, Id, Inventory, Kind};

/// Common names of vendors whose name in `pci.ids` does not start with it.
const SHORT_NAMES: [(u16, &str); 6] = [
    (0x1002, "amd"),
    (0x1022, "amd"),
    (0x10de, "nvidia"),
    (0x14e4, "broadcom"),
    (0x15b3, "mellanox"),
    (0x8086, "intel"),
];

/// The maximum length of a name: Kubernetes allows 63 characters after the slash of a resource name.
const LONGEST_NAME: usize = 63;

impl Catalog {
    /// A line for each GPU, accelerator, network card and NVMe drive that can be handed over on this host, one per
    /// device id, with names derived from `pci.ids`. `number` is the position in the list, from 1.
    #[must_use]
    pub fn suggested(inventory: &Inventory) -> Self {
        let mut lines: Vec<Line> = Vec::new();
        let mut known: BTreeSet<(Id, Id)> = BTreeSet::new();
        let mut names: BTreeSet<(Id, String)> = BTreeSet::new();
        let mut wanted: Vec<&Function> = inventory
            .functions
            .values()
            .filter(|function| is_wanted(inventory, function))
            .collect();
        wanted.sort_by_key(|function| function.vendor);
        for function in wanted {
            if !known.insert((function.vendor, function.device)) {
                continue;
            }
            let mut name = device_name(function);
            if !names.insert((function.vendor, name.clone())) {
                name = numbered(&name, function.device);
                names.insert((function.vendor, name.clone()));
            }
            lines.push(Line {
                number: u32::try_from(lines.len() + 1).unwrap_or(u32::MAX),
                vendor: function.vendor,
                vendor_name: vendor_name(function),
                name,
                kind: kind(function).to_owned(),
                pattern: Pattern::of(ClassOrDevice::Device(function.device)),
            });
        }
        Self { lines }
    }
}

fn is_wanted(inventory: &Inventory, function: &Function) -> bool {
    let kind = matches!(function.kind(), Kind::Gpu | Kind::Accelerator | Kind::Nic | Kind::Nvme);
    let known = function.vendor != Id::NONE && function.device != Id::NONE;
    kind && known && counts(function) && {
        let assembly = Assembly::of(inventory, function.address);
        let obstacles = assembly.map(|assembly| assembly.obstacles(inventory)).unwrap_or_default();
        // Obstacles of the host can be fixed; those of a device cannot.
        obstacles.iter().all(|obstacle| obstacle.code != Code::NotAssignable)
    }
}

/// The types of ironcore's examples; `nvme` is ours.
fn kind(function: &Function) -> &'static str {
    match function.kind() {
        Kind::Nic => "network",
        other => other.as_str(),
    }
}

fn vendor_name(function: &Function) -> String {
    let short = SHORT_NAMES.iter().find(|(id, _)| *id == function.vendor.0);
    if let Some((_, name)) = short {
        return (*name).to_owned();
    }
    let first = function.vendor_name.as_deref().and_then(|name| name.split_whitespace().next());
    let name = plain(first.unwrap_or_default());
    if name.is_empty() { format!("vendor-{}", function.vendor) } else { name }
}

/// The brackets in `pci.ids` hold the product name: `GA102 [GeForce RTX 3090]`.
fn device_name(function: &Function) -> String {
    let full = function.device_name.as_deref().unwrap_or_default();
    let in_brackets = full.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let name = plain(in_brackets.map_or(full, |(name, _)| name));
    if name.is_empty() { format!("device-{}", function.device) } else { name }
}

fn numbered(name: &str, device: Id) -> String {
    let kept: String = name.chars().take(LONGEST_NAME - 5).collect();
    format!("{}-{device}", kept.trim_end_matches(['-', '.']))
}

/// Lower-case letters, digits, `.` and `-`, as in Kubernetes resource names.
fn plain(name: &str) -> String {
    let mut plain = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        if plain.len() == LONGEST_NAME {
            break;
        }
        if letter.is_ascii_alphanumeric() || (letter == '.' && !plain.is_empty()) {
            plain.push(letter);
        } else if !plain.is_empty() && !plain.ends_with(['-', '.']) {
            plain.push('-');
        }
    }
    plain.trim_end_matches(['-', '.']).to_owned()
}
