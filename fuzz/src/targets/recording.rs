//! A recording as a file: the gzip layer. What is in it is read as by `handover show --root`.

use host::LinuxHost;
use model::Host;

use super::archive::walk;
use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "recording",
    reads: "a recording: gzip, tar and the host's files",
    read,
    words: &["\u{1f}\u{8b}\u{8}", "ustar", "handover/recording.json", "sys/bus/pci/devices/"],
    longest: 1 << 16,
};

fn read(bytes: &[u8]) -> Kind {
    match LinuxHost::recording(bytes) {
        Ok(host) => {
            walk(&host).with(Kind::of_result(&host.inventory().map(|all| all.functions.len())))
        }
        Err(error) => Kind::of(error),
    }
}
