//! Explanations and remedies for QEMU's error messages.

use crate::process::last_lines;

/// Parts of QEMU's messages, and what they mean or what to do. The first match is used.
const MEANINGS: &[(&str, &str)] = &[
    (
        "cannot keep the guest from this host's loopback",
        "install the passt of a newer release, such as Debian 13's, which needs no help of the kernel; or create the instance \
         without a network (`--network none`)",
    ),
    (
        "is not viable",
        "a device of that IOMMU group is still bound to another driver; `handover show DEVICE` lists the group's members",
    ),
    (
        "error bind device fd",
        "another VMM uses the device, or a device of its IOMMU group is bound to another driver; `handover show DEVICE` lists the group's members",
    ),
    ("error binding group", "another driver or VMM uses a device of that IOMMU group"),
    (
        "failed to open /dev/vfio/",
        "another VMM has the IOMMU group open, or the machine's user may not open it; `fuser -v` on that file shows the user",
    ),
    (
        "Could not open '/dev/vfio/",
        "another VMM has the IOMMU group open, or the machine's user may not open it; `fuser -v` on that file shows the user",
    ),
    (
        "Cannot allocate memory",
        "VFIO pins all guest memory: the limit of locked memory or the host's free memory is too small",
    ),
    (
        "cannot set up guest memory",
        "the host does not have enough free memory for the machine; give it less memory, or stop another machine",
    ),
    (
        "Could not access KVM",
        "the machine's user may not open /dev/kvm, or the kernel module kvm is not loaded",
    ),
    (
        "failed to initialize kvm",
        "the machine's user may not open /dev/kvm, or the kernel module kvm is not loaded",
    ),
    (
        "Failed to get \"write\" lock",
        "another process uses the machine's disk; `fuser -v` on the disk shows it",
    ),
    (
        "phys-bits too low",
        "the devices' BARs do not fit into the processor's address space; give the machine fewer devices",
    ),
    (
        "allow setting HyperV",
        "the host's kernel has no Hyper-V support in KVM (CONFIG_KVM_HYPERV): create the machine without `--os windows`",
    ),
    (
        "External interface not usable",
        "this version of passt needs a default route on the host (`ip route`): add one, or install the passt of a newer release, \
         such as Debian 13's",
    ),
    (
        "TPM result for CMD_INIT",
        "swtpm cannot read or write the state of the machine's TPM; `journalctl -k --grep swtpm` shows whether AppArmor refuses it",
    ),
    ("PVH ELF Note", "QEMU cannot start this kernel directly; import the distribution's vmlinuz"),
    (
        "Permission denied",
        "the machine's user cannot reach that file: every directory above it needs execute permission for others (chmod o+x)",
    ),
    ("no such host device", "the device is gone from the host; `handover ls` lists the devices"),
    ("No such file or directory", "the file no longer exists"),
];

/// Explains a log: its last lines, and their meaning if it is known.
pub fn explain(log: &str) -> String {
    let lines = log.lines().filter(|line| !line.contains(": warning: "));
    let words = last_lines(lines.map(|line| without_program(line.trim())));
    if words.is_empty() {
        return "QEMU exited without an error message".into();
    }
    match MEANINGS.iter().find(|(part, _)| words.contains(part)) {
        Some((_, meaning)) => format!("{words} ({meaning})"),
        None => words,
    }
}

/// The line without `qemu-system-x86_64: ` and without the quoted option, which can be longer than the message.
fn without_program(line: &str) -> &str {
    let line = line.strip_prefix("qemu-system-x86_64: ").unwrap_or(line);
    match line.rsplit_once("}: ") {
        Some((option, message)) if option.starts_with('-') => message,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_message_gets_its_meaning() {
        let log = "qemu-system-x86_64: -cpu host: warning: something else\n\
                   qemu-system-x86_64: -device {\"driver\":\"vfio-pci\",\"host\":\"0000:01:00.0\"}: vfio 0000:01:00.0: \
                   group 12 is not viable\nPlease ensure all devices within the iommu_group are bound to their vfio bus driver.\n";
        insta::assert_snapshot!(explain(log), @"vfio 0000:01:00.0: group 12 is not viable; Please ensure all devices within the iommu_group are bound to their vfio bus driver. (a device of that IOMMU group is still bound to another driver; `handover show DEVICE` lists the group's members)");
    }

    #[test]
    fn a_tpm_without_its_state_gets_a_place_to_look_at() {
        let log =
            "qemu-system-x86_64: tpm-emulator: TPM result for CMD_INIT: 0x9 operation failed\n";
        let text = explain(log);
        assert!(
            text.starts_with("tpm-emulator: TPM result") && text.contains("AppArmor"),
            "{text}"
        );
    }

    #[test]
    fn a_vmms_output_cannot_control_a_terminal() {
        assert_eq!(explain("\u{1b}[2Jbad\u{7}\n"), "[2Jbad");
        assert_eq!(explain(&"x".repeat(5000)).len(), 1000);
    }

    #[test]
    fn unknown_messages_are_passed_on_and_silence_is_reported() {
        assert_eq!(explain("a\nb\nc\n\nd\n"), "b; c; d");
        assert_eq!(explain("\n"), "QEMU exited without an error message");
    }
}
