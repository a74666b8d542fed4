//! The CDI spec of a prepared claim.

use super::{CLAIM, Spec};
use crate::devices::{Resource, opened};

/// A prepared claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Its id.
    pub id: String,
    /// The requested functions.
    pub functions: Vec<String>,
    /// Its mediated devices.
    pub mdevs: Vec<String>,
    /// The nodes of its VFIO groups.
    pub groups: Vec<String>,
    /// The nodes of its VFIO devices, for iommufd.
    pub devices: Vec<String>,
}

/// The spec of a claim: its nodes, and its addresses in the variables of KubeVirt's launcher.
#[must_use]
pub fn claim(claimed: &Claimed) -> Spec {
    let env = launcher_variables(CLAIM, &claimed.functions, &claimed.mdevs);
    let nodes = opened(&claimed.groups, &claimed.devices);
    Spec::of(CLAIM, &claimed.id, env, nodes)
}

/// The variables that list devices of a kind.
pub(super) fn launcher_variables(
    kind: &str,
    functions: &[String],
    mdevs: &[String],
) -> Vec<String> {
    let resource = Resource::new(kind);
    [("PCI_RESOURCE", functions), ("MDEV_PCI_RESOURCE", mdevs)]
        .into_iter()
        .filter(|(_, all)| !all.is_empty())
        .map(|(prefix, all)| format!("{}={}", resource.variable(prefix), all.join(",")))
        .collect()
}
