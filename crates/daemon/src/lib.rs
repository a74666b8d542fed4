//! The interfaces of the daemon. They parse and authenticate; `service` checks and renders, the engine does the work.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod hardware;
mod leases;
mod maintenance;
pub mod rest;
pub mod serve;
