//! Hosts as trees of files.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A host in its own directory.
pub struct Host {
    directory: TempDir,
}

impl Host {
    /// An empty host.
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// Its root directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file.
    pub fn file(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Removes a file.
    pub fn without(&self, path: &str) {
        fs::remove_file(self.path().join(path)).unwrap();
    }

    /// Writes an EFI variable of the Boot Loader Interface: UTF-16 after four bytes of attributes.
    pub fn variable(&self, name: &str, text: &str) {
        let directory = self.path().join("sys/firmware/efi/efivars");
        fs::create_dir_all(&directory).unwrap();
        let units = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        let bytes: Vec<u8> = [6, 0, 0, 0].into_iter().chain(units).collect();
        fs::write(directory.join(format!("{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")), bytes)
            .unwrap();
    }

    fn files(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            self.file(path, text);
        }
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// A node with a mode; a plain file in the tree.
    fn node(&self, path: &str, mode: u32) {
        self.file(path, "");
        fs::set_permissions(self.path().join(path), PermissionsExt::from_mode(mode)).unwrap();
    }

    fn programs(&self, paths: &[&str]) {
        for path in paths {
            self.file(path, "");
        }
    }

    fn process(&self, pid: u32, comm: &str, group: &str) {
        self.file(&format!("proc/{pid}/comm"), &format!("{comm}\n"));
        self.file(&format!("proc/{pid}/cgroup"), &format!("0::{group}\n"));
    }

    /// A function on bus 0 or behind one root port.
    fn function(&self, card: &Card<'_>) {
        let Card { address, vendor, device, class, driver, group, bar } = *card;
        let place = if address.starts_with("0000:00:") {
            format!("pci0000:00/{address}")
        } else {
            format!("pci0000:00/0000:00:01.0/{address}")
        };
        let directory = format!("sys/devices/{place}");
        let attribute = |name: &str, text: String| self.file(&format!("{directory}/{name}"), &text);
        attribute("vendor", format!("0x{vendor}\n"));
        attribute("device", format!("0x{device}\n"));
        attribute("class", format!("0x{class}\n"));
        attribute("revision", "0x00\n".into());
        attribute("subsystem_vendor", "0x0000\n".into());
        attribute("subsystem_device", "0x0000\n".into());
        attribute("reset_method", "flr bus\n".into());
        attribute("reset", String::new());
        attribute("config", "\0".repeat(256));
        attribute("power_state", "D0\n".into());
        attribute("power/runtime_status", "active\n".into());
        attribute("power/control", "on\n".into());
        let end = bar.checked_sub(1).map_or(0, |size| 0x40_0000_0000 + size);
        let (start, flags) = if bar == 0 { (0, 0) } else { (0x40_0000_0000_u64, 0x14220c) };
        attribute("resource", format!("{start:#018x} {end:#018x} {flags:#018x}\n"));
        self.link(&format!("sys/bus/pci/devices/{address}"), &format!("../../../devices/{place}"));
        if let Some(driver) = driver {
            let up = if place.matches('/').count() == 1 { "../../../" } else { "../../../../" };
            self.link(&format!("{directory}/driver"), &format!("{up}bus/pci/drivers/{driver}"));
        }
        if let Some(group) = group {
            self.link(
                &format!("{directory}/iommu_group"),
                &format!("/sys/kernel/iommu_groups/{group}"),
            );
            let groups = format!("sys/kernel/iommu_groups/{group}");
            self.link(&format!("{groups}/devices/{address}"), &format!("/{directory}"));
            self.file(&format!("{groups}/type"), "DMA-FQ\n");
            self.file(&format!("{groups}/reserved_regions"), "");
        }
    }
}

/// Programs that the scripts call; below a prefix they only record their calls.
const CALLED: [&str; 21] = [
    "update-grub",
    "update-initramfs",
    "modprobe",
    "apt-get",
    "proxmox-boot-tool",
    "grub-mkconfig",
    "grub2-mkconfig",
    "grubby",
    "rpm-ostree",
    "ostree",
    "kernel-install",
    "mkinitcpio",
    "dracut",
    "limine-update",
    "sdbootutil",
    "sdboot-manage",
    "kernelstub",
    "clr-boot-manager",
    "update-extlinux",
    "u-boot-update",
    "dpkg-divert",
];

/// Runs a script below a prefix, with commands that only record their calls in the file `called`. `id` prints the user.
pub fn run_below(prefix: &Path, script: &str, id: &str) -> Output {
    let bin = prefix.join("stubs");
    fs::create_dir_all(&bin).unwrap();
    let stub = |path: &Path, text: &str| {
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    stub(&bin.join("id"), &format!("echo {id}"));
    let called = prefix.join("called").display().to_string();
    for name in CALLED {
        stub(&bin.join(name), &format!("echo {name} \"$@\" >> {called}"));
    }
    let xen = prefix.join("opt/xensource/libexec/xen-cmdline");
    if xen.exists() {
        stub(&xen, &format!("echo xen-cmdline \"$@\" >> {called}"));
    }
    let mut script = script.to_owned();
    for top in ["etc", "sys", "usr/lib/dracut", "boot", "efi", "proc", "lib/modules", "opt"] {
        for before in [" ", "'", "=", "\"", "\n"] {
            let below = format!("{before}{}/{top}/", prefix.display());
            script = script.replace(&format!("{before}/{top}/"), &below);
        }
    }
    let path = format!("{}:/usr/bin:/bin", bin.display());
    Command::new("sh").args(["-c", &script]).env("PATH", path).output().unwrap()
}

/// One function.
#[derive(Clone, Copy)]
struct Card<'a> {
    address: &'a str,
    vendor: &'a str,
    device: &'a str,
    class: &'a str,
    driver: Option<&'a str>,
    group: Option<u32>,
    bar: u64,
}

const CPU_INTEL: &str =
    "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Gold 6338
flags\t\t: fpu vmx sse2\naddress sizes\t: 52 bits physical, 57 bits virtual\n";
const CPU_AMD: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 7313P
flags\t\t: fpu svm sse2\naddress sizes\t: 48 bits physical, 48 bits virtual\n";
const REMAPPED: &str = " 24:  0  IR-PCI-MSI  327680-edge  nvme0q0\n";
const LIMITS: &str = "Limit Soft Limit Hard Limit Units\nMax locked memory         unlimited            unlimited            bytes\n";
const VFIO_MODULES: &str =
    "kernel/drivers/vfio/vfio.ko.xz:\nkernel/drivers/vfio/pci/vfio-pci.ko.xz:
kernel/drivers/vfio/vfio_iommu_type1.ko.xz:\nkernel/drivers/iommu/iommufd/iommufd.ko.xz:
kernel/arch/x86/kvm/kvm-intel.ko.xz:\nkernel/arch/x86/kvm/kvm-amd.ko.xz:\n";

/// What every host has: a kernel with VFIO, KVM and a root port.
fn any(release: &str, cpu: &str, grouped: bool) -> Host {
    let host = Host::new();
    let modules = format!("lib/modules/{release}");
    host.files(&[
        ("proc/sys/kernel/osrelease", release),
        ("proc/cpuinfo", cpu),
        ("proc/interrupts", REMAPPED),
        ("proc/meminfo", "MemTotal:       65536000 kB\n"),
        ("proc/self/limits", LIMITS),
        ("proc/iomem", "00000000-00000fff : Reserved\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "1024\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "1000\n"),
        ("sys/kernel/security/lsm", "lockdown,capability"),
        ("sys/kernel/security/lockdown", "[none] integrity confidentiality\n"),
        (&format!("{modules}/modules.dep"), VFIO_MODULES),
        (&format!("{modules}/modules.builtin"), ""),
        (&format!("{modules}/modules.alias"), ""),
        // Else names would be those of the machine that runs the tests.
        ("usr/share/misc/pci.ids", ""),
    ]);
    host.node("dev/kvm", 0o660);
    host.node("dev/vfio/vfio", 0o666);
    host.function(&Card {
        address: "0000:00:01.0",
        vendor: "8086",
        device: "1901",
        class: "060400",
        driver: Some("pcieport"),
        group: grouped.then_some(1),
        bar: 0,
    });
    host
}

fn intel_iommu(host: &Host) {
    host.file("sys/firmware/acpi/tables/DMAR", "");
    host.file("sys/class/iommu/dmar0/intel-iommu/cap", "8d2008c40660462\n");
}

fn debian_12(cmdline: &str, grouped: bool) -> Host {
    let host = any("6.1.0-31-amd64", CPU_INTEL, grouped);
    host.files(&[
        ("proc/cmdline", cmdline),
        ("etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_ID=\"12\"\n"),
        ("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n"),
        (
            "handover/tools",
            "qemu-system-x86_64\t/usr/bin/qemu-system-x86_64\t7.2.17\npasst\t/usr/bin/passt\t0.0~git20250503.587980c-2\npodman\t/usr/bin/podman\t4.3.1\n",
        ),
    ]);
    host.programs(&[
        "usr/sbin/update-grub",
        "usr/sbin/mkinitramfs",
        "usr/share/OVMF/OVMF_CODE_4M.fd",
    ]);
    let nic = Card {
        address: "0000:01:00.0",
        vendor: "8086",
        device: "10d3",
        class: "020000",
        driver: None,
        group: grouped.then_some(2),
        bar: 128 << 10,
    };
    host.function(&nic);
    host
}

/// A server with Debian 12, GRUB, an Intel processor and a NIC to hand over.
pub fn debian() -> Host {
    let host = debian_12("root=/dev/sda1 ro quiet intel_iommu=on iommu=pt\n", true);
    intel_iommu(&host);
    host
}

/// The same; the NIC's interface `eno1` is up.
pub fn debian_with_interface() -> Host {
    let host = debian();
    let place = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/net/eno1";
    host.files(&[(&format!("{place}/flags"), "0x1003\n"), (&format!("{place}/operstate"), "up\n")]);
    host.link("sys/class/net/eno1", &format!("../../{}", place.trim_start_matches("sys/")));
    host
}

/// Makes the interface a port of another one.
pub fn port_of(host: &Host, master: &str) {
    for link in ["master".to_owned(), format!("upper_{master}")] {
        host.link(
            &format!("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/net/eno1/{link}"),
            &format!("../../../../../virtual/net/{master}"),
        );
    }
    host.file(&format!("sys/devices/virtual/net/{master}/flags"), "0x1003\n");
    host.link(&format!("sys/class/net/{master}"), &format!("../../devices/virtual/net/{master}"));
}

/// The same with a GPU, whose audio function is in another IOMMU group.
pub fn debian_with_gpu() -> Host {
    let host = debian();
    let gpu = Card {
        address: "0000:02:00.0",
        vendor: "10de",
        device: "2204",
        class: "030000",
        driver: Some("nvidia"),
        group: Some(3),
        bar: 256 << 20,
    };
    host.function(&gpu);
    host.function(&Card {
        address: "0000:02:00.1",
        device: "1aef",
        class: "040300",
        driver: Some("snd_hda_intel"),
        group: Some(4),
        bar: 0,
        ..gpu
    });
    host
}

/// A server with an Intel processor, whose kernel runs no IOMMU, and of which nothing says how it boots.
pub fn without_loader() -> Host {
    let host = any("6.12.43-generic", CPU_INTEL, false);
    host.files(&[
        ("sys/firmware/acpi/tables/DMAR", ""),
        ("lib/modules/6.12.43-generic/vmlinuz", ""),
    ]);
    host
}

/// The same, freshly installed.
pub fn debian_without_iommu() -> Host {
    let host = debian_12("root=/dev/sda1 ro quiet\n", false);
    host.file("sys/firmware/acpi/tables/DMAR", "");
    host
}

/// Proxmox on AMD, booted by systemd-boot, with settings from forums.
pub fn proxmox() -> Host {
    let host = any("6.8.12-5-pve", CPU_AMD, true);
    let cmdline = "root=ZFS=rpool/ROOT/pve-1 quiet pcie_acs_override=downstream,multifunction\n";
    host.files(&[
        ("proc/cmdline", cmdline),
        ("etc/kernel/cmdline", cmdline),
        ("etc/kernel/proxmox-boot-uuids", "5FD5-32B8\n6A1B-0C2D\n"),
        ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        ("sys/firmware/efi/fw_platform_size", "64\n"),
        ("sys/firmware/acpi/tables/IVRS", ""),
        ("sys/class/iommu/ivhd0/amd-iommu/cap", "0\n"),
        ("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n"),
        (
            "etc/modprobe.d/vfio.conf",
            "options vfio_iommu_type1 allow_unsafe_interrupts=1\noptions vfio-pci disable_idle_d3=1\n",
        ),
        ("handover/tools", "qemu-system-x86_64\t/usr/bin/qemu-system-x86_64\t9.2.0\n"),
    ]);
    host.programs(&["usr/sbin/mkinitramfs", "usr/share/pve-edk2-firmware/OVMF_CODE_4M.fd"]);
    host
}

/// Fedora with SELinux, podman and an accelerator with a BAR of 64 GB.
pub fn fedora() -> Host {
    let host = any("6.11.4-301.fc41.x86_64", CPU_INTEL, true);
    intel_iommu(&host);
    host.files(&[
        ("proc/cmdline", "BOOT_IMAGE=(hd0,gpt2)/vmlinuz root=UUID=1 ro rhgb quiet intel_iommu=on\n"),
        ("etc/os-release", "ID=fedora\nVERSION_ID=41\n"),
        ("sys/fs/selinux/enforce", "1"),
        (
            "handover/tools",
            "qemu-kvm\t/usr/bin/qemu-kvm\t9.1.2\npodman\t/usr/bin/podman\t5.2.5\nvirtqemud\t/usr/sbin/virtqemud\t10.6.0\n",
        ),
        (
            "etc/modprobe.d/no-vfio.conf",
            "# somebody did not want it\nblacklist vfio_iommu_type1\n",
        ),
    ]);
    host.programs(&["usr/sbin/grubby", "usr/bin/dracut", "usr/share/edk2/ovmf/OVMF_CODE.fd"]);
    host.function(&Card {
        address: "0000:01:00.0",
        vendor: "10de",
        device: "20b5",
        class: "030200",
        driver: None,
        group: Some(2),
        bar: 64 << 30,
    });
    host
}

/// A laptop with Arch, systemd-boot's own entries, a desktop, and the IOMMU switched off in the firmware.
pub fn arch() -> Host {
    let host = any("6.12.1-arch1-1", CPU_INTEL, false);
    host.files(&[
        ("proc/cmdline", "root=PARTUUID=1 rw quiet\n"),
        ("etc/os-release", "ID=arch\n"),
        ("boot/loader/entries/arch.conf", "title Arch\noptions root=PARTUUID=1 rw quiet\n"),
        ("sys/firmware/efi/fw_platform_size", "64\n"),
        ("sys/firmware/acpi/tables/FACP", ""),
        ("proc/self/limits", "Max locked memory  8388608  8388608  bytes\n"),
    ]);
    host.programs(&["usr/bin/mkinitcpio"]);
    host.process(812, "Xorg", "/system.slice/gdm.service");
    host.process(903, "nvidia-persiste", "/system.slice/nvidia-persistenced.service");
    host.function(&Card {
        address: "0000:01:00.0",
        vendor: "10de",
        device: "2820",
        class: "030000",
        driver: Some("nvidia"),
        group: None,
        bar: 256 << 20,
    });
    host
}
