//! Handover on a real kernel, in the lab. One program, so that two emulated hosts are always in use.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

mod agreement;
mod attacks;
mod boot_list;
mod claims;
mod cloud;
mod commands;
mod companions;
mod container;
mod container_images;
mod container_sessions;
mod contract;
mod crashes;
mod demo;
mod endurance;
mod faulty;
mod first_boot;
mod hot_plug;
mod hot_plug_parts;
mod hypeman;
mod main_job;
mod nodes;
mod podman;
mod power;
mod power_claims;
mod refusals;
mod shared;
mod support;
mod systemd;
mod uefi;
mod unwritable;
mod vgpu;
mod vgpu_claims;
mod watching;
