//! KubeVirt's virtual machines as pods that podman plays, and specifications of devices for container tools: text and
//! inventory in, text out. No I/O.
//!
//! [`input::read`] reads what a person wrote, [`Instance::of`] fills in what KubeVirt would, [`devices`] chooses what the
//! host gives, [`pod::objects`] makes the pod, and [`print`] writes it. `docs/kubevirt.md` tells where it differs from
//! others, and why.

pub mod cdi;
mod defaults;
pub mod devices;
mod explain;
mod fields;
mod hyperv;
pub mod input;
mod instance;
mod instancetype;
mod network;
mod overhead;
pub mod pod;
mod preference;
pub mod print;
mod quantity;
mod standalone;
mod typed;
mod values;
mod yaml;

pub use explain::explain;
pub use instance::{Instance, Presets};
