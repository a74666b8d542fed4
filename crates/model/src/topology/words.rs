//! Labels of functions in the tree, for text and pictures.

use std::fmt::Write as _;

use super::{TopologyNode, TreeFunction};
use crate::shown::{bytes, escaped};

/// A NUMA node in words.
#[must_use]
pub fn heading(node: &TopologyNode, several: bool) -> String {
    let mut text = match node.node {
        Some(number) => format!("NUMA node {number}"),
        None if several => "Unknown NUMA node".to_owned(),
        None => "Host without NUMA nodes".to_owned(),
    };
    if !node.sockets.is_empty() {
        let sockets: Vec<String> = node.sockets.iter().map(u32::to_string).collect();
        let word = if sockets.len() == 1 { "socket" } else { "sockets" };
        let _ = write!(text, " · {word} {}", sockets.join(", "));
    }
    if !node.cpus.is_empty() {
        let _ = write!(text, " · CPUs {}", escaped(&node.cpus));
    }
    if node.memory > 0 {
        let _ = write!(text, " · {}", bytes(node.memory));
    }
    text
}

/// Other labels: virtual functions, mediated devices, the assembly.
#[must_use]
pub fn extras(place: &TreeFunction) -> Vec<String> {
    let mut extras = Vec::new();
    match (place.virtual_functions.len(), place.possible_vfs) {
        (0, _) => {}
        (1, _) => extras.push("1 VF".to_owned()),
        (count, _) => extras.push(format!("{count} VFs")),
    }
    if place.mdevs > 0 {
        extras.push(format!("{} mdevs", place.mdevs));
    }
    let elsewhere = |head: &crate::Address| *head != place.address;
    if let Some(head) = place.assembly.filter(elsewhere) {
        extras.push(format!("assembly of {head}"));
    }
    extras
}
