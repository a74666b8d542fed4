//! Pods of KubeVirt virtual machines.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Wish;

/// A request to convert virtual machines to pods. Changes nothing on the host, and claims nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreatePods {
    /// The `VirtualMachine`s or `VirtualMachineInstance`s, in YAML or JSON, in one string.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::KubevirtMachines))]
    pub machines: String,
    /// Instance types and preferences, likewise.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::KubevirtPresets>))]
    pub presets: Option<String>,
    /// `auto` (the default), `nodes` or `vfio`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::PodDevices>))]
    pub devices: Option<String>,
    /// Devices of this host for resource names: each in the grammar of claims, such as `8086:10fb`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, crate::schema::Wish>))]
    pub resources: BTreeMap<String, Wish>,
    /// Memory that a pod may use of each GPU, such as `4Gi`; the machine's annotation `handover.dev/gpu-memory-limit` by
    /// default.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::MemoryQuantity>))]
    pub gpu_memory_limit: Option<String>,
    /// The image of virt-launcher; KubeVirt's by default.
    #[serde(default)]
    pub launcher_image: Option<String>,
    /// Keep the bindings of interfaces instead of using passt.
    #[serde(default)]
    pub no_passt: bool,
    /// Refuse unknown fields instead of noting them.
    #[serde(default)]
    pub strict: bool,
    /// Accept missing devices instead of refusing them.
    #[serde(default)]
    pub allow_missing: bool,
}

/// Pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pods {
    /// The objects for `podman kube play`, in YAML.
    pub pods: String,
    /// Explains each volume and device.
    pub explanation: String,
    /// Notes for the user.
    pub notes: Vec<String>,
}
