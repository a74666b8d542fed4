//! What an instance would be: the answer to a dry run of its creation.

use serde::{Deserialize, Serialize};

use crate::{AttachedDevice, Instance};

/// The answer to a dry run of a creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedInstance {
    /// Its name.
    pub name: String,
    /// The devices that it would get, in the order in which the guest sees them.
    pub attached: Vec<AttachedDevice>,
    /// What its start would choose.
    pub choices: Vec<PlannedChoice>,
    /// Notes, such as more virtual CPUs than the host has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The answer to a creation: an instance, or to a dry run what it would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum InstanceOrPlan {
    /// The instance.
    Instance(Box<Instance>),
    /// What it would be.
    Plan(PlannedInstance),
}

/// One thing that a start chooses, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedChoice {
    /// What is chosen, such as `memory`.
    pub item: String,
    /// The choice.
    pub value: String,
    /// Why it is chosen.
    pub reason: String,
}
