//! Pods of KubeVirt's virtual machines on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Wish;

/// What pods are made of. Nothing is changed on the host, and nothing is claimed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct CreatePods {
    /// The `VirtualMachine`s or `VirtualMachineInstance`s, in YAML or JSON, as one text.
    pub machines: String,
    /// Instance types and preferences, likewise.
    pub presets: Option<String>,
    /// `auto`, `nodes` or `vfio`; `auto` where it is not said.
    pub devices: Option<String>,
    /// What resources are on this host, by their names: each as a claim asks for it, such as `8086:10fb`.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub resources: BTreeMap<String, Wish>,
    /// How much memory of each GPU a pod may take, such as `4Gi`; the machine's annotation
    /// `handover.dev/gpu-memory-limit` where it is not said.
    pub gpu_memory_limit: Option<String>,
    /// The image of virt-launcher; KubeVirt's own where it is not said.
    pub launcher_image: Option<String>,
    /// Whether bindings of interfaces are kept; else passt.
    pub no_passt: bool,
    /// Whether fields that KubeVirt does not have are refused; else they are noted.
    pub strict: bool,
    /// Whether devices may be missing; else that is refused.
    pub allow_missing: bool,
}

/// Pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pods {
    /// What `podman kube play` plays, in YAML.
    pub pods: String,
    /// Why each volume and device is there.
    pub explanation: String,
    /// What a person should know.
    pub notes: Vec<String>,
}
