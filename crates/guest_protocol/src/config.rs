//! What the guest is to do.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a guest reads from its configuration disk: the command, its surroundings, and how it reaches the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestConfig {
    /// The host name.
    pub hostname: String,
    /// The command and its arguments: the image's entrypoint and command in one. No shell reads it.
    pub argv: Vec<String>,
    /// The image's `User`: a name or number, optionally `:` and a group. Empty is root.
    pub user: String,
    /// The working directory. Empty is `/`. It is made if it is missing.
    pub working_dir: String,
    /// The environment, as `NAME=value`.
    pub env: Vec<String>,
    /// What ends the command, as the image's `StopSignal` has it. Empty is `SIGTERM`.
    pub stop_signal: String,
    /// Seconds between the stop signal and `SIGKILL`, if the stop says nothing else.
    pub stop_timeout_seconds: u32,
    /// The command is an init system: it becomes process 1, and the guest's init steps aside.
    pub systemd: bool,
    /// The command has the console as its terminal. Else its output is a pipe, and it has no input.
    pub tty: bool,
    /// The machine has a disk with the kernel's modules.
    pub modules: bool,
    /// Volumes.
    pub mounts: Vec<MountPoint>,
    /// Network cards. A card that is not named here stays down.
    pub cards: Vec<Card>,
    /// Name servers. Empty: those that DHCP gives.
    pub dns: Vec<IpAddr>,
    /// The agent. Without it the guest runs its command and listens to nothing but the power button.
    pub agent: Option<Agent>,
}

/// A volume and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// The disk's serial number.
    pub serial: String,
    /// The directory, absolute. It is made if it is missing.
    pub path: String,
    /// Nothing can be written to it.
    #[serde(default)]
    pub read_only: bool,
    /// The file system. Empty is ext4.
    #[serde(default)]
    pub filesystem: String,
}

/// A network card and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The hardware address, as `52:54:00:12:34:56`.
    pub mac: String,
    /// How it gets its addresses.
    pub addressing: Addressing,
}

/// How a network card gets its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// By DHCP. IPv6 addresses come from the routers of the network, as the kernel does it.
    Dhcp,
    /// These.
    Static {
        /// Addresses with the length of their network's prefix: `10.0.0.5/24`.
        addresses: Vec<String>,
        /// The gateways of the default routes, at most one each for IPv4 and IPv6.
        #[serde(default)]
        gateways: Vec<IpAddr>,
    },
    /// None: the card is only switched on.
    Unconfigured,
}

/// Where the agent listens, and who may speak to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// The port of the guest's vsock. Each session is a connection of its own.
    pub port: u32,
    /// What a client must know. Any process of the host can connect to a guest's vsock, so the host makes a new
    /// token for each start, and keeps it to itself.
    pub token: String,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("port", &self.port).finish_non_exhaustive()
    }
}
