//! The guest's init in a real kernel: an emulated machine boots from disks as the host makes them.
//!
//! It needs QEMU, erofs-utils, e2fsprogs, a static busybox and a kernel with its modules: `/boot/vmlinuz-*`, or what
//! `HANDOVER_TEST_KERNEL=VMLINUZ:MODULES` names. Where one is missing, the tests are skipped, and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod agent;
mod commands;
mod machine;
mod parts;
mod surroundings;
mod vsock;
