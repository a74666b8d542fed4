//! KubeVirt virtual machines as pods: chooses and claims devices for them.

mod claimed;
mod known_host;
mod machine;
mod memory;
mod names;
mod nodes;
mod request;

pub use claimed::{ClaimedFor, Wishes, claim, release};
pub use known_host::{KnownHost, choose, detailed};
pub use machine::{Machine, apart, machines, owner};
pub use memory::limit;
pub use names::ask_by_name;
pub use nodes::{Launcher, unusable_nodes};
pub use request::pods;
