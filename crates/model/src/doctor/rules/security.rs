//! Security modules that can block hand-overs.

use super::super::{Finding, Patient, Platform, Remedy};
use super::{good, note};

pub fn selinux(patient: Patient<'_>) -> Vec<Finding> {
    let Platform { security, tools, .. } = patient.platform;
    match security.selinux_enforcing {
        None => Vec::new(),
        Some(false) => {
            vec![good("/sys/fs/selinux/enforce is 0: SELinux only reports", "it blocks nothing")]
        }
        Some(true) if tools.contains_key("podman") => {
            let meaning = "containers may not open device nodes such as /dev/vfio, so machines in pods get no devices; \
                           libvirt labels the devices of its machines itself";
            let remedy = Remedy::now(
                "let containers use devices (SELinux boolean of container-selinux)",
                &["setsebool -P container_use_devices on"],
            );
            vec![
                note(
                    "/sys/fs/selinux/enforce is 1: SELinux enforces; podman is installed",
                    meaning,
                )
                .with_remedy(remedy),
            ]
        }
        Some(true) => {
            let meaning =
                "libvirt labels the devices of its machines itself; nothing else here needs a rule";
            vec![good("/sys/fs/selinux/enforce is 1: SELinux enforces", meaning)]
        }
    }
}

pub fn apparmor(patient: Patient<'_>) -> Vec<Finding> {
    let Platform { security, .. } = patient.platform;
    if !security.modules.iter().any(|name| name == "apparmor") {
        return Vec::new();
    }
    if !security.apparmor_libvirt {
        let read = "/sys/kernel/security/lsm has apparmor; there is no /etc/apparmor.d/libvirt";
        return vec![good(read, "it does not confine machines")];
    }
    let read = "/sys/kernel/security/lsm has apparmor; /etc/apparmor.d/libvirt exists";
    let meaning = "libvirt's machines may open only what virt-aa-helper finds in their XML: devices added by \
                   qemu:commandline are refused; Handover's machines are not confined by it";
    let remedy = Remedy::words(
        "add devices as <hostdev>, or allow more in /etc/apparmor.d/local/abstractions/libvirt-qemu",
    );
    vec![note(read, meaning).with_remedy(remedy)]
}

pub fn lockdown(patient: Patient<'_>) -> Vec<Finding> {
    let Some(mode) = patient.platform.security.lockdown.as_deref() else { return Vec::new() };
    let read = format!("/sys/kernel/security/lockdown is {mode}");
    if mode == "none" {
        return vec![good(read, "the kernel does not restrict root")];
    }
    // `LOCKDOWN_PCI_ACCESS` and `LOCKDOWN_MODULE_SIGNATURE` in include/linux/security.h.
    let meaning = "VFIO works; setpci and programs that write to configuration space or BARs through sysfs do not, and \
                   modules without a trusted signature (NVIDIA's, vendor-reset) are refused";
    let remedy = Remedy::words(
        "sign such modules with a key enrolled in the firmware (mokutil --import), or disable Secure Boot",
    );
    vec![note(read, meaning).with_remedy(remedy)]
}
