//! The host around its devices: /proc, modules, kernel command line, programs; and what the doctor says about it.

use host::LinuxHost;
use model::Scan;

use super::host_files;
use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "platform",
    reads: "/proc, /etc and /lib/modules around the devices, for the doctor",
    read,
    words: host_files::WORDS,
    longest: 1 << 16,
};

/// Without a PCI bus, nothing else is read.
const BUS: &[u8] = b"@dir sys/bus/pci/devices\n";

fn read(bytes: &[u8]) -> Kind {
    let files = [BUS, bytes].concat();
    host_files::host(&files).map_or_else(|| Kind::of("refused"), |host| examine(&host))
}

/// Examines the host: each finding is complete, and no text of the host controls the terminal.
pub fn examine(host: &LinuxHost) -> Kind {
    let facts = match host.facts() {
        Ok(facts) => facts,
        Err(error) => return Kind::of(error),
    };
    let text = serde_json::to_string(&facts).unwrap_or_default();
    assert_eq!(
        serde_json::from_str(&text).ok().as_ref(),
        Some(&facts),
        "other facts after reading their JSON"
    );
    let Ok(verdict) = facts.examine(None) else { return Kind::of("no verdict") };
    let mut kind = Kind::of("verdict").and(facts.holders.len());
    for finding in &verdict.findings {
        assert!(!finding.check.is_empty() && !finding.read.is_empty(), "{finding:?}");
        let commands = finding.remedy.iter().flat_map(|remedy| &remedy.commands);
        for command in commands {
            assert!(
                !command.contains(['\0', '\u{1b}']),
                "a command with control characters: {command:?}"
            );
        }
        kind = kind.with(Kind::of(format!("{} {:?}", finding.check, finding.severity)));
    }
    kind
}
