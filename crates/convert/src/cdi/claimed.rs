//! The specification of a prepared claim.

use super::{CLAIM, Spec};
use crate::devices::{Resource, opened};

/// What is known of a prepared claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Its id.
    pub id: String,
    /// The functions that it was asked for by.
    pub functions: Vec<String>,
    /// Its mediated devices.
    pub mdevs: Vec<String>,
    /// The nodes of its VFIO groups.
    pub groups: Vec<String>,
    /// The own nodes of its devices, for iommufd.
    pub devices: Vec<String>,
}

/// The specification of a claim: its nodes, and its addresses in the variables by which KubeVirt's launcher knows devices.
#[must_use]
pub fn claim(claimed: &Claimed) -> Spec {
    let env = told(CLAIM, &claimed.functions, &claimed.mdevs);
    let nodes = opened(&claimed.groups, &claimed.devices);
    Spec::of(CLAIM, &claimed.id, env, nodes)
}

/// The variables that tell of devices of a kind.
pub(super) fn told(kind: &str, functions: &[String], mdevs: &[String]) -> Vec<String> {
    let resource = Resource::new(kind);
    [("PCI_RESOURCE", functions), ("MDEV_PCI_RESOURCE", mdevs)]
        .into_iter()
        .filter(|(_, all)| !all.is_empty())
        .map(|(prefix, all)| format!("{}={}", resource.variable(prefix), all.join(",")))
        .collect()
}
