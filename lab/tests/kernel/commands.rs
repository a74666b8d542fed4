//! The output of the reading commands in each topology, compared with golden files. `UPDATE=1` writes them.

use std::path::PathBuf;

use crate::support::Host;

/// A device in every topology.
const CARD: &str = "0000:01:00.0";

/// What the commands show otherwise than before on a host with this topology, which has just booted.
pub fn changed(host: &Host, topology: &str) -> Vec<String> {
    let commands = [
        ("ls", "ls --all".to_owned()),
        ("show", format!("show {CARD}")),
        ("topo", "topo --all".to_owned()),
        ("doctor", "doctor --all".to_owned()),
    ];
    let differs = |(name, command)| {
        let shown = host.sh(&format!("handover {command} 2>&1; echo \"[$?]\""));
        differs(&format!("{topology}-{name}"), &redacted(&shown))
    };
    commands.into_iter().filter_map(differs).collect()
}

/// The differences from git; `None` if there are none.
fn differs(name: &str, shown: &str) -> Option<String> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/commands"));
    let file = folder.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(&file, shown).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    let (mut old, mut new) = (golden.lines(), shown.lines());
    (golden != shown).then(|| {
        loop {
            match (old.next(), new.next()) {
                (one, other) if one == other && one.is_some() => {}
                (one, other) => {
                    let (one, other) = (one.unwrap_or("(nothing)"), other.unwrap_or("(nothing)"));
                    break format!("{name}: {one:?} is now {other:?}; all of it:\n{shown}");
                }
            }
        }
    })
}

/// Removes pids, versions that a busy program does not print in time, the processor of the lab's host, and the amount
/// of memory.
fn redacted(shown: &str) -> String {
    let mut text = String::new();
    for line in shown.lines() {
        match line {
            line if line.contains(" virtualization: ") => text.push_str("  virtualization: …"),
            line if [" qemu: ", " libvirt: ", " podman: "]
                .iter()
                .any(|tool| line.contains(tool)) =>
            {
                text.push_str(line.split(", ").next().unwrap_or_default());
            }
            line if line.starts_with("  NUMA node ") => {
                text.push_str(line.rsplit_once(", ").map_or(line, |(node, _)| node));
            }
            line if line.contains(" · CPUs ") => {
                text.push_str(line.rsplit_once(" · ").map_or(line, |(heading, _)| heading));
            }
            line => text.push_str(&without_pids(line)),
        }
        text.push('\n');
    }
    text
}

fn without_pids(line: &str) -> String {
    let mut parts = line.split("(pid ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("(pid …");
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    text
}

#[test]
fn varying_values_are_left_out() {
    let line = "0000:00:1c.0  in use: lab (pid 234) by /dev/vport2p1, x (pid 9, a.service)";
    let same = "0000:00:1c.0  in use: lab (pid …) by /dev/vport2p1, x (pid …, a.service)\n";
    assert_eq!(redacted(line), same);
    assert_eq!(redacted("NUMA node 0 · CPUs 0-1 · 1.4 GB"), "NUMA node 0 · CPUs 0-1\n");
    let node = "  NUMA node         0, CPUs 0-1, 1.4 GB";
    assert_eq!(redacted(node), "  NUMA node         0, CPUs 0-1\n");
    assert_eq!(redacted("✓ qemu: /usr/bin/qemu, version 11.1"), "✓ qemu: /usr/bin/qemu\n");
    let busy = "✓ libvirt: /usr/sbin/libvirtd, which did not report its version";
    assert_eq!(redacted(busy), "✓ libvirt: /usr/sbin/libvirtd\n");
    assert_eq!(redacted("✓ podman: /usr/bin/podman, version 5.4.2"), "✓ podman: /usr/bin/podman\n");
    assert_eq!(redacted("✓ virtualization: svm (QEMU)"), "  virtualization: …\n");
}
