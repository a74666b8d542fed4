//! The interfaces of the daemon. They parse and authenticate; `service` checks and renders, the engine does the work.

mod hardware;
mod leases;
mod maintenance;
pub mod rest;
pub mod serve;
