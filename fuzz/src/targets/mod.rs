//! All targets: a file for each reader, and a line for each here.

mod agent;
mod archive;
mod catalog;
mod cdi;
mod claim_words;
mod config_space;
mod container_manifest;
mod devices;
mod ext4;
mod filter;
mod guest;
mod host_files;
mod journal;
mod kernel;
mod kernel_modules;
mod layers;
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
    container_manifest::TARGET,
    devices::TARGET,
    ext4::TARGET,
    filter::TARGET,
    guest::TARGET,
    journal::TARGET,
    kernel::TARGET,
    kernel_modules::TARGET,
    layers::TARGET,
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
