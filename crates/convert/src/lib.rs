//! Converts KubeVirt virtual machines to pods for podman, and devices to CDI specs: text and inventory in, text out. No
//! I/O.
//!
//! [`input::read`] reads the documents, [`Instance::of`] fills in KubeVirt's defaults, [`devices`] chooses the host's
//! devices, [`pod::objects`] creates the pod, and [`mod@print`] prints it. `docs/kubevirt.md` lists the differences from
//! other tools.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

pub mod cdi;
mod defaults;
pub mod devices;
mod explain;
mod fields;
mod hyperv;
pub mod input;
mod instance;
mod instancetype;
mod kind;
mod network;
mod overhead;
pub mod pod;
mod preference;
pub mod print;
mod quantity;
mod rules;
mod standalone;
mod typed;
mod values;
mod yaml;

pub use explain::explain;
pub use instance::{Instance, Presets};
