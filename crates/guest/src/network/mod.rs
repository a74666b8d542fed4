//! The network: cards are found by their hardware addresses, and get their addresses by DHCP or from the configuration.
//!
//! A machine whose network fails runs its command all the same, and says on its console what failed.

mod dhcp;
mod interfaces;
mod rtnetlink;
mod set_up;

pub use set_up::{LEASES, Names, keep_leases, set_up};
