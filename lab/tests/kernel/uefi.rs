//! A machine from a disk that UEFI boots: Debian's signed boot loaders and kernel, started by OVMF, with a GPU and a NIC that
//! were handed over, a TPM, and a volume with files. The disk's ramdisk is the lab's own guest.

use lab::images::debian_disk;
use serde_json::json;

use crate::support::{AUDIO, GPU, Host, NIC, thoroughly, wanted};

/// Variables of UEFI (Documentation/filesystems/efivarfs.rst: four bytes of attributes, then the value).
const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// A variable of the test's own.
const KEPT: &str = "Kept-5f3b8d5c-6f27-4e0a-9c1d-1c2d3e4f5a6b";
/// Whether Secure Boot is on (UEFI specification, 3.3).
const SECURE: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// A command in the guest, by `handover instance ssh`. It comes after the guest's start.
fn guest(host: &Host, command: &str) -> String {
    host.sh(&format!("handover instance ssh dev --timeout 200s -- -i /root/key '{command}' 2>&1"))
}

#[test]
fn a_disk_with_debians_boot_loaders_starts_by_uefi() {
    if !wanted() {
        return;
    }
    let disk = debian_disk::ready().unwrap();
    let host = Host::shared("workstation");
    with_a_slow_timer(&host);
    host.serve("");
    let before = host.snapshot();
    host.lab.put(&disk, "/tmp/debian.qcow2").unwrap();
    host.sh(
        "set -e; handover image import debian --disk /tmp/debian.qcow2 --format qcow2; rm /tmp/debian.qcow2
         mkdir /tmp/files; echo 'from an archive' >/tmp/files/note; tar -C /tmp/files -czf /tmp/files.tar.gz note
         handover volume create data --size 1GB --from-archive /tmp/files.tar.gz
         ssh-keygen -q -t ed25519 -N '' -C me@l1 -f /root/key",
    );
    host.sh(&format!(
        "handover instance create dev --image debian --ssh-key /root/key.pub --size 512MB --vcpus 1 --volume data \
         --device {GPU} --device {NIC}"
    ));
    it_has_what_was_handed_over(&host);
    its_processor_is_its_own(&host);
    its_volume_has_the_archives_files(&host);
    its_variables_are_kept(&host);
    if thoroughly() {
        secure_boot_starts_what_debian_signed(&host);
    }
    host.sh("handover instance rm dev; handover volume rm data; handover image rm debian");
    host.sh("rm -r /root/key /root/key.pub /tmp/files /tmp/files.tar.gz");
    assert_eq!(host.snapshot(), before, "nothing is left");
}

/// OVMF's handler of the timer's interrupt writes CR8. If another interrupt waits meanwhile, L1's emulated processor aborts
/// (`cpu_interrupt` without the lock, in target/i386/tcg). So its timer, of 10 ms, may not be faster than an emulated host that
/// is not alone can follow.
fn with_a_slow_timer(host: &Host) {
    host.sh("modprobe -q kvm; echo 100000 >/sys/module/kvm/parameters/min_timer_period_us");
}

fn it_has_what_was_handed_over(host: &Host) {
    assert_eq!(host.get("/instances/dev")["firmware"], json!("uefi"));
    let report = host.guest_report("dev");
    for line in ["10de:2204", "10de:1aef", "driver=e1000e", "check gpu ok", "hostname=dev"] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    assert!(report.contains("address=10.0.2.15/24") && report.contains("done rc=0"), "{report}");
    let drivers = host.drivers(&[GPU, AUDIO, NIC]);
    assert!(drivers.values().all(|driver| driver == "vfio-pci"), "{drivers:?}");
}

/// The thread of the virtual processor has a processor of its own, the others have the rest, and memory comes from the devices'
/// node.
fn its_processor_is_its_own(host: &Host) {
    let placed = host.get("/instances/dev")["placed"].clone();
    assert_eq!((&placed["node"], &placed["memory_bound"]), (&json!(0), &json!(false)));
    let said = host.sh(
        "pid=$(pgrep -x qemu-system-x86); for task in /proc/$pid/task/*; do
             echo \"$(cat $task/comm): $(sed -n 's/^Cpus_allowed_list:\\t//p' $task/status)\"; done; grep -m1 prefer /proc/$pid/numa_maps",
    );
    assert!(said.contains(&format!("CPU 0/KVM: {}\n", placed["cpus"][0])), "{placed} {said}");
    assert!(said.contains("qemu-system-x86: 0\n") && said.contains("prefer"), "{placed} {said}");
}

fn its_volume_has_the_archives_files(host: &Host) {
    let said = guest(
        host,
        "for disk in /sys/block/vd?; do [ $(cat $disk/serial) = data ] && mkdir -p /data && \
         mount -t ext4 /dev/${disk##*/} /data; done; cat /data/note; umount /data",
    );
    assert!(said.contains("from an archive"), "{said}");
}

/// A variable that the guest sets is there after it was stopped and started.
fn its_variables_are_kept(host: &Host) {
    let mount = format!("mount -t efivarfs efivarfs {VARIABLES}");
    guest(host, &format!("{mount}; printf \"\\007\\000\\000\\000kept\" >{VARIABLES}/{KEPT}"));
    host.sh("handover instance restart dev");
    let said = guest(host, &format!("{mount}; tail -c 4 {VARIABLES}/{KEPT}; ls {VARIABLES}"));
    assert!(said.contains("kept") && said.contains("BootOrder-"), "{said}");
    assert!(!said.contains(SECURE), "this firmware has no Secure Boot: {said}");
}

/// With the other firmware, shim, GRUB and the kernel are started because their signatures are right, and the kernel knows it.
/// The TPM got their hashes: of shim as a boot application, of the kernel from GRUB. That takes a minute.
fn secure_boot_starts_what_debian_signed(host: &Host) {
    host.sh("handover instance stop dev; handover instance set dev --firmware uefi-secure --tpm true; handover instance start dev");
    let said = guest(
        host,
        &format!(
            "mount -t efivarfs efivarfs {VARIABLES}; tail -c 1 {VARIABLES}/{SECURE} | od -An -tu1"
        ),
    );
    assert_eq!(said.split_whitespace().last(), Some("1"), "{said}");
    assert!(guest(host, "dmesg | grep -i lockdown").contains("Secure Boot"), "it says so");
    assert_eq!(guest(host, "cat /sys/class/tpm/tpm0/tpm_version_major").trim(), "2");
    let registers = guest(host, "cd /sys/class/tpm/tpm0/pcr-sha256; cat 4 7 9");
    assert!(
        registers.lines().all(|register| !register.trim_matches('0').is_empty()),
        "{registers}"
    );
}
