//! The configuration space of one function, as sysfs' `config` has it.

use model::Host;

use super::{devices, host_files};
use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "config_space",
    reads: "the configuration space of a PCI function",
    read,
    words: &[
        "\u{10}\u{0}",
        "\u{1}\u{0}",
        "\u{5}\u{0}",
        "\u{11}\u{0}",
        "\u{0}\u{1}\u{1}\u{0}",
        "\u{d}\u{0}\u{1}\u{0}",
        "\u{15}\u{0}\u{1}\u{0}",
        "\u{3}\u{0}\u{1}\u{0}",
        "\u{10}\u{0}\u{1}\u{0}",
    ],
    longest: 4096,
};

const FUNCTION: &str = "sys/devices/pci0000:00/0000:01:00.0";
const LISTED: &str =
    "@link sys/bus/pci/devices/0000:01:00.0 ../../../devices/pci0000:00/0000:01:00.0\n";

fn read(bytes: &[u8]) -> Kind {
    let mut files = LISTED.as_bytes().to_vec();
    for (name, text) in
        [("vendor", "0x10de"), ("device", "0x20b0"), ("class", "0x030200"), ("irq", "11")]
    {
        files.extend(format!("@file {FUNCTION}/{name}\n{text}\n").bytes());
    }
    files.extend(format!("@file {FUNCTION}/config\n").bytes());
    // A line that looks like the beginning of a file would end the contents.
    files.extend(bytes.iter().map(|byte| if *byte == b'@' { b'?' } else { *byte }));
    match host_files::host(&files) {
        Some(host) => {
            let listed = host.inventory().map(|inventory| inventory.functions.len());
            assert_eq!(listed.ok(), Some(1), "the function is not read");
            devices::check(&host)
        }
        None => Kind::of("refused"),
    }
}
