//! Handover on a real kernel, in the lab. One program, so that two emulated hosts can be used at a time all the while.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

mod agreement;
mod claims;
mod commands;
mod contract;
mod crashes;
mod hypeman;
mod main_job;
mod power;
mod refusals;
mod support;
mod vgpu;
mod watching;
