//! Labels of functions in the tree, for text and pictures.

use std::fmt::Write as _;

use super::{TopologyNode, TreeFunction, link};
use crate::shown::{bytes, escaped};

/// The node of a function for which the firmware reports none, on a host with nodes.
pub const UNKNOWN_NODE: &str = "unknown";

/// A NUMA node in words.
#[must_use]
pub fn heading(node: &TopologyNode, several: bool) -> String {
    let mut text = match node.node {
        Some(number) => format!("NUMA node {number}"),
        None if several => format!("NUMA node {UNKNOWN_NODE}"),
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

/// Other labels: whose it is, virtual functions, mediated devices, the assembly.
#[must_use]
pub fn extras(place: &TreeFunction) -> Vec<String> {
    let mut extras: Vec<String> =
        place.state.iter().map(|state| escaped(state).into_owned()).collect();
    match (place.virtual_functions.len(), place.possible_vfs) {
        (0, _) => {}
        (1, _) => extras.push("1 VF".to_owned()),
        (count, _) => extras.push(format!("{count} VFs")),
    }
    if place.mdevs > 0 {
        extras.push(format!("{} mdevs", place.mdevs));
    }
    extras.extend(uplink(place));
    let elsewhere = |head: &crate::Address| *head != place.address;
    if let Some(head) = place.assembly.filter(elsewhere) {
        extras.push(format!("assembly of {head}"));
    }
    extras
}

/// The switch above whose link carries less than the function's own: `only 8 GT/s x4 above 0000:11:00.0`.
#[must_use]
pub fn uplink(place: &TreeFunction) -> Option<String> {
    let uplink = place.uplink.as_ref()?;
    Some(format!("only {} above {}", link::now(&uplink.link), uplink.switch))
}
