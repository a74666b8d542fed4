//! Reset domains: the functions that one reset hits.

use serde::{Deserialize, Serialize};

use super::{Function, Inventory};
use crate::Address;

/// How far the kernel's preferred reset of a function reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ResetReach {
    /// The function alone: FLR, a power cycle by power management, or something of the device's own.
    Function,
    /// All that is below its bridge: a bus reset (or that of a CXL port).
    Bus,
    /// The kernel knows no way to reset it.
    None,
    /// The kernel does not tell (before Linux 5.15).
    Unknown,
}

/// The functions that the kernel's preferred reset of a function hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResetDomain {
    /// How far it reaches.
    pub reach: ResetReach,
    /// All that it hits, the function itself among them, by address; empty where there is no reset.
    pub functions: Vec<Address>,
}

impl ResetDomain {
    /// The reset domain of a function.
    #[must_use]
    pub fn of(inventory: &Inventory, function: &Function) -> Self {
        let reach = reach(function);
        let functions = match reach {
            ResetReach::Function => vec![function.address],
            ResetReach::Bus => on_its_bus(inventory, function),
            ResetReach::None | ResetReach::Unknown => Vec::new(),
        };
        Self { reach, functions }
    }
}

fn reach(function: &Function) -> ResetReach {
    // The kernel tries them in this order (pci_reset_fn_methods), and takes the first that works.
    match function.reset_methods.first().map(String::as_str) {
        Some("bus" | "cxl_bus") => ResetReach::Bus,
        Some(_) => ResetReach::Function,
        None if function.resettable => ResetReach::Unknown,
        None => ResetReach::None,
    }
}

/// Everything below the same bridge; on a root bus, which has no bridge that could reset it, the function alone.
fn on_its_bus(inventory: &Inventory, function: &Function) -> Vec<Address> {
    match function.bridge() {
        Some(bridge) => inventory.below(bridge).map(|other| other.address).collect(),
        None => vec![function.address],
    }
}
