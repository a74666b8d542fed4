//! What this daemon can do, on the wire.

use serde::{Deserialize, Serialize};

/// The answer of `GET /capabilities`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Capabilities {
    /// What an instance gets that names no hypervisor.
    pub default_runtime: DefaultRuntime,
    /// What this daemon serves: `instances`, `images`, `logs`, `devices`.
    pub features: Vec<String>,
    /// The host.
    pub host: HostPlatform,
    /// What images it can run.
    pub images: ImagePlatforms,
    /// The network of guests.
    pub network: NetworkModel,
    /// Every hypervisor, by name.
    pub runtimes: Vec<Runtime>,
    /// This daemon.
    pub server: Server,
}

/// The default hypervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DefaultRuntime {
    /// Its name.
    pub name: String,
    /// Whether it can be used here.
    pub available: bool,
}

/// The host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostPlatform {
    /// `linux`.
    pub os: String,
    /// As in container platforms: `amd64`, `arm64`.
    pub arch: String,
}

/// What images can be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImagePlatforms {
    /// The platform of an image that names none.
    pub default_platform: String,
    /// All of them.
    pub platforms: Vec<String>,
}

/// The network of guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkModel {
    /// `bridge`, since clients expect one of two words; see `enabled`.
    pub model: String,
    /// Whether guests reach each other by it.
    pub guest_to_guest: bool,
    /// Whether there is a network of guests at all: not yet. A machine has the NICs among its devices.
    pub enabled: bool,
}

/// A hypervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Runtime {
    /// Its name.
    pub name: String,
    /// Whether it can be used here.
    pub available: bool,
    /// What it can do: `gpu-passthrough`.
    pub features: Vec<String>,
    /// Its version, where it can be used.
    pub version: Option<String>,
    /// `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// Why it cannot be used, and what to do.
    pub reason: Option<String>,
}

/// This daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Server {
    /// Its version.
    pub version: String,
    /// The version of hypeman's API that it speaks.
    pub api_version: String,
}
