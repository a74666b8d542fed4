//! All targets: a file for each reader, and a line for each here.

mod agent;
mod archive;
mod catalog;
mod cdi;
mod claim_words;
mod config_space;
mod devices;
mod ext4;
mod filter;
mod host_files;
mod journal;
mod kernel;
mod machines;
mod netlink;
mod platform;
mod proc_stat;
mod processes;
mod qcow2;
mod qmp;
mod recording;
mod requests;
mod scratch;
mod signatures;
mod store;
mod uevent;
mod volume_archive;
mod worker;

use crate::Target;

/// All targets.
pub const TARGETS: &[Target] = &[
    agent::TARGET,
    archive::TARGET,
    catalog::TARGET,
    cdi::TARGET,
    claim_words::TARGET,
    config_space::TARGET,
    devices::TARGET,
    ext4::TARGET,
    filter::TARGET,
    journal::TARGET,
    kernel::TARGET,
    machines::TARGET,
    netlink::TARGET,
    platform::TARGET,
    proc_stat::TARGET,
    processes::TARGET,
    qcow2::TARGET,
    qmp::TARGET,
    recording::TARGET,
    requests::TARGET,
    signatures::TARGET,
    store::TARGET,
    uevent::TARGET,
    volume_archive::TARGET,
    worker::TARGET,
];
