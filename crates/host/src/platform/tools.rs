//! Programs that run machines, and their firmware.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use model::doctor::Tool;

use crate::root::Root;

/// The file in a recording with the host's programs; a line has a name, a path and a version, separated by tabs.
pub const TOOLS_FILE: &str = "handover/tools";

const NAMES: [&str; 9] = [
    "qemu-system-x86_64",
    "qemu-system-aarch64",
    "qemu-kvm",
    "libvirtd",
    "virtqemud",
    "passt",
    "swtpm",
    "podman",
    "cloud-hypervisor",
];

const DIRECTORIES: [&str; 7] = [
    "usr/bin",
    "usr/sbin",
    "usr/local/bin",
    "usr/local/sbin",
    "usr/libexec",
    "usr/lib",
    "usr/lib/qemu",
];

/// The paths of OVMF's code part in distributions, and of its equivalent for Arm.
const OVMF: [&str; 12] = [
    "usr/share/OVMF/OVMF_CODE_4M.fd",
    "usr/share/OVMF/OVMF_CODE.fd",
    "usr/share/edk2/ovmf/OVMF_CODE.fd",
    "usr/share/edk2/ovmf/OVMF_CODE_4M.qcow2",
    "usr/share/edk2/x64/OVMF_CODE.4m.fd",
    "usr/share/edk2-ovmf/x64/OVMF_CODE.fd",
    "usr/share/pve-edk2-firmware/OVMF_CODE_4M.fd",
    "usr/share/pve-edk2-firmware/OVMF_CODE.fd",
    "usr/share/qemu/ovmf-x86_64-code.bin",
    "usr/share/qemu/ovmf-x86_64-4m-code.bin",
    "usr/share/AAVMF/AAVMF_CODE.fd",
    "usr/share/edk2/aarch64/QEMU_EFI.fd",
];

/// How long a program may take to print its version.
const PATIENCE: Duration = Duration::from_secs(2);

/// Firmware images for machines.
pub fn ovmf(root: &Root) -> Vec<String> {
    let found = OVMF.into_iter().filter(|path| root.exists(path));
    found.map(|path| format!("/{path}")).collect()
}

/// The programs that exist. Their versions are read on the running host only.
pub fn read(root: &Root) -> BTreeMap<String, Tool> {
    if let Ok(text) = root.text(TOOLS_FILE) {
        return recorded(&text);
    }
    let found = NAMES.into_iter().filter_map(|name| {
        let path = DIRECTORIES.iter().map(|directory| format!("{directory}/{name}"));
        let path = path.into_iter().find(|path| root.exists(path))?;
        Some((name.to_owned(), Tool { path: format!("/{path}"), version: None }))
    });
    let mut tools: BTreeMap<String, Tool> = found.collect();
    if root.is_host() {
        std::thread::scope(|scope| {
            for tool in tools.values_mut() {
                scope.spawn(|| tool.version = version_of(&root.shown(&tool.path), PATIENCE));
            }
        });
    }
    tools
}

/// Formats the text of [`TOOLS_FILE`].
#[must_use]
pub fn tools_text(tools: &BTreeMap<String, Tool>) -> String {
    let mut text = String::new();
    for (name, Tool { path, version }) in tools {
        let _ = writeln!(text, "{name}\t{path}\t{}", version.as_deref().unwrap_or_default());
    }
    text
}

fn recorded(text: &str) -> BTreeMap<String, Tool> {
    let tools = text.lines().filter_map(|line| {
        let mut parts = line.split('\t');
        let (name, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let version = parts.next().filter(|version| !version.is_empty()).map(str::to_owned);
        Some((name, Tool { path, version }))
    });
    tools.collect()
}

/// Runs a program with `--version`, without input. It is killed after `patience`.
fn version_of(path: &str, patience: Duration) -> Option<String> {
    let mut child = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let end = Instant::now() + patience;
    // Its output fits into a pipe, so it can be read after the program has exited.
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut output = Vec::new();
    child.stdout.take()?.take(4096).read_to_end(&mut output).ok()?;
    version(&String::from_utf8_lossy(&output))
}

/// The version in the first line of a program's output: the first word that begins with a digit, optionally after a `v`.
/// Later lines can name other things, such as a licence.
fn version(output: &str) -> Option<String> {
    let words = output.lines().next()?.split(|c: char| c.is_whitespace() || c == '(' || c == ')');
    let mut plain = words.map(|word| word.strip_prefix('v').unwrap_or(word));
    let found = plain.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(found.trim_end_matches([',', ';']).to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_version_is_found_in_the_output_of_programs() {
        let said = [
            ("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u14)\nCopyright", "7.2.17"),
            ("libvirtd (libvirt) 9.0.0", "9.0.0"),
            ("podman version 4.3.1", "4.3.1"),
            ("TPM emulator version 0.7.1, Copyright (c) 2014-2021 IBM Corp.", "0.7.1"),
            ("cloud-hypervisor v40.0", "40.0"),
        ];
        for (text, right) in said {
            assert_eq!(version(text).as_deref(), Some(right), "{text}");
        }
        assert_eq!(version("no idea"), None);
        // Debian 12's.
        let passt = "passt unknown version\nCopyright Red Hat\nGNU Affero GPL version 3 or later\n";
        assert_eq!(version(passt), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn a_program_that_does_not_end_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("slow");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(version_of(program.to_str().unwrap(), Duration::from_millis(50)), None);
        assert_eq!(version_of("/nowhere", Duration::from_millis(50)), None);
    }

    #[test]
    fn a_recording_has_the_hosts_programs() {
        let tool = |path: &str, version: Option<&str>| Tool {
            path: path.into(),
            version: version.map(str::to_owned),
        };
        let tools = BTreeMap::from([
            ("libvirtd".to_owned(), tool("/usr/sbin/libvirtd", None)),
            ("podman".to_owned(), tool("/usr/bin/podman", Some("4.3.1"))),
        ]);
        assert_eq!(recorded(&tools_text(&tools)), tools);
        assert_eq!(recorded("nonsense\n"), BTreeMap::new());
    }
}
