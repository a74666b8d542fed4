//! Why a launcher could not do what was asked of it.

use serde::{Deserialize, Serialize};

/// An error of a launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "error")]
pub enum LaunchError {
    /// The VMM is not installed or cannot be used.
    #[error("{reason}")]
    Unavailable {
        /// Why, and what to do.
        reason: String,
        /// How to install it.
        #[serde(default)]
        remedy: String,
    },
    /// A file of the machine could not be created or removed.
    #[error("cannot {action} {path}: {reason}")]
    File {
        /// The action.
        action: String,
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The VMM failed or exited while starting.
    #[error("the machine did not start: {reason}")]
    Start {
        /// The VMM's error text.
        reason: String,
    },
    /// A port of the host that leads to the guest cannot be listened on.
    #[error("cannot listen on {port}: {reason}")]
    Port {
        /// The address, port and protocol.
        port: String,
        /// Why.
        reason: String,
    },
    /// The host does not have an address on which something of the machine should listen.
    #[error("this host does not have the address {address}")]
    Address {
        /// The address.
        address: std::net::IpAddr,
    },
    /// A network card cannot be connected to a bridge or an interface of the host.
    #[error("the machine cannot have its network card: {reason}")]
    Network {
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A running machine has no port for a device.
    #[error("{reason}")]
    NoPort {
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The guest's processor has too few address bits for the devices.
    #[error("{reason}")]
    AddressSpace {
        /// What is needed, and what there is.
        reason: String,
    },
    /// The VMM of a running machine refused a device.
    #[error("the machine did not take the device: {reason}")]
    Plug {
        /// The VMM's error text.
        reason: String,
    },
    /// The machine does not run: it has ended meanwhile.
    #[error("the machine does not run")]
    Gone,
    /// The VMM did not complete a request in time.
    #[error("the machine did not {action} within {seconds} s")]
    Deadline {
        /// The request.
        action: String,
        /// The deadline.
        seconds: u64,
    },
    /// The VMM or its service cannot be reached or watched, or sent an unexpected answer.
    #[error("the machine's monitor: {reason}")]
    Monitor {
        /// What happened.
        reason: String,
    },
}
