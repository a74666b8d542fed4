//! Reset domains: the functions that one reset affects.

use serde::{Deserialize, Serialize};

use super::{Function, Inventory};
use crate::Address;

/// The reach of the kernel's preferred reset of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ResetReach {
    /// The function only: FLR, a power cycle by power management, or a device-specific method.
    Function,
    /// Everything below its bridge: a bus reset (or that of a CXL port).
    Bus,
    /// The kernel has no reset method for it.
    None,
    /// Its resets are switched off: `reset_method` is empty.
    Off,
    /// Unknown (before Linux 5.15).
    Unknown,
}

/// The functions that the kernel's preferred reset of a function affects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResetDomain {
    /// Its reach.
    pub reach: ResetReach,
    /// All affected functions, including the function itself, by address; empty without a reset method.
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
            ResetReach::None | ResetReach::Off | ResetReach::Unknown => Vec::new(),
        };
        Self { reach, functions }
    }
}

fn reach(function: &Function) -> ResetReach {
    // The kernel tries them in this order (pci_reset_fn_methods), and uses the first that works.
    match function.reset_methods.first().map(String::as_str) {
        Some("bus" | "cxl_bus") => ResetReach::Bus,
        Some(_) => ResetReach::Function,
        None if function.resets_off => ResetReach::Off,
        None if function.resettable => ResetReach::Unknown,
        None => ResetReach::None,
    }
}

/// Everything below the same bridge; only the function itself on a root bus, which has no bridge that could reset it.
fn on_its_bus(inventory: &Inventory, function: &Function) -> Vec<Address> {
    match function.bridge() {
        Some(bridge) => inventory.below(bridge).map(|other| other.address).collect(),
        None => vec![function.address],
    }
}
