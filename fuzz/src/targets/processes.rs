//! /proc of processes, mounts, swap and holders: who uses the devices.

use super::host_files;
use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "processes",
    reads: "/proc/PID, mounts, swap: the users of devices",
    read,
    words: host_files::WORDS,
    longest: 1 << 16,
};

fn read(bytes: &[u8]) -> Kind {
    let Some(host) = host_files::host(bytes) else { return Kind::of("refused") };
    match host.overview() {
        Ok((inventory, holders)) => {
            let mut kind = Kind::of("holders").and(inventory.functions.len()).and(holders.len());
            for holder in &holders {
                // Its function need not be in the list: it may have been added since.
                assert!(!holder.by.is_empty(), "{holder:?}");
                assert!(!holder.user.contains(char::is_control), "{holder:?}");
                kind = kind.with(Kind::of(&holder.by));
            }
            kind
        }
        Err(error) => Kind::of(error),
    }
}
