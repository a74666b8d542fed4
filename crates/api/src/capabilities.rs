//! Capabilities of the daemon.

use serde::{Deserialize, Serialize};

/// The answer of `GET /capabilities`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Capabilities {
    /// The hypervisor of an instance that names none.
    pub default_runtime: DefaultRuntime,
    /// Supported features: `instances`, `images`, `volumes`, `exec`, `logs`, `devices`.
    pub features: Vec<String>,
    /// The host.
    pub host: HostPlatform,
    /// Platforms of images that it can run.
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
    /// Whether it is available on this host.
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

/// Platforms of images that can be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImagePlatforms {
    /// The default platform of an image.
    pub default_platform: String,
    /// All platforms.
    pub platforms: Vec<String>,
}

/// The network of guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkModel {
    /// `bridge`, since clients expect one of two values; see `enabled`.
    pub model: String,
    /// Whether guests can reach each other.
    pub guest_to_guest: bool,
    /// Whether guests can have a virtual network card on this host. They have the NICs among their devices anyway.
    pub enabled: bool,
}

/// A hypervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Runtime {
    /// Its name.
    pub name: String,
    /// Whether it is available on this host.
    pub available: bool,
    /// Supported features: `gpu-passthrough`, `pause`, and `vsock` if this host has it.
    pub features: Vec<String>,
    /// Its version, if available.
    pub version: Option<String>,
    /// `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// How it opens devices that are handed over: `descriptors`, or `groups`.
    pub device_access: String,
    /// Why it is not available, and what to do.
    pub reason: Option<String>,
}

/// This daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Server {
    /// Its version.
    pub version: String,
    /// The version of hypeman's API that it implements.
    pub api_version: String,
}
