//! The host around its devices, read from fake trees.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use host::LinuxHost;
use host::record::Recording;
use model::doctor::{BootLoader, Framebuffer, InitramfsTool, Module, NodeFacts, Platform};
use proptest::prelude::*;
use tempfile::TempDir;

fn tree(files: &[(&str, &str)]) -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    for (path, text) in files {
        write(tree.path(), path, text.as_bytes());
    }
    tree
}

fn write(tree: &Path, path: &str, bytes: &[u8]) {
    let path = tree.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A kernel without security modules has no list of them: nothing was missed. A recording has the list of one that has.
#[test]
fn the_list_of_security_modules_is_recorded() {
    let bare = platform(&tree(&[("sys/bus/pci/devices/.keep", "")]));
    assert!(!bare.unseen.iter().any(|what| what.contains("lsm")), "{:?}", bare.unseen);
    let tree = tree(&[
        ("sys/bus/pci/devices/.keep", ""),
        ("sys/kernel/security/lsm", "lockdown,apparmor"),
    ]);
    let file = tree.path().join("recording.tar.gz");
    let recording = Recording::make(tree.path(), false).unwrap();
    recording.write(fs::File::create(&file).unwrap()).unwrap();
    let read = LinuxHost::reader(&file).unwrap().platform();
    assert_eq!(read.security.modules, ["lockdown", "apparmor"]);
}

fn platform(tree: &TempDir) -> Platform {
    LinuxHost::reader(tree.path()).unwrap().platform()
}

const CPUINFO: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon
flags\t\t: fpu vmx hypervisor\naddress sizes\t: 46 bits physical, 48 bits virtual\n";

#[test]
#[allow(clippy::too_many_lines, reason = "a list of what the host shows")]
fn a_host_is_read() {
    let tree = tree(&[
        ("proc/sys/kernel/osrelease", "6.1.0-31-amd64\n"),
        ("proc/cmdline", "quiet module_blacklist=nouveau,vfio-pci -- intel_iommu=on\n"),
        ("proc/cpuinfo", CPUINFO),
        ("proc/interrupts", " 24: 0 IR-PCI-MSI-0000:00:1f.2 ahci\n"),
        ("proc/meminfo", "MemTotal:        1000 kB\n"),
        ("proc/self/limits", "Max locked memory   8388608   8388608   bytes\n"),
        (
            "proc/iomem",
            "  4000000000-40007e8fff : 0000:01:00.0\n    4000000000-40007e8fff : BOOTFB\n",
        ),
        ("proc/812/comm", "nvidia-persiste\n"),
        ("proc/812/cgroup", "0::/system.slice/nvidia-persistenced.service\n"),
        ("proc/813/comm", "bash\n"),
        ("sys/firmware/acpi/tables/DMAR", ""),
        ("sys/class/iommu/dmar0/intel-iommu/cap", "8d2008c40660462\n"),
        ("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "N\n"),
        ("sys/module/iommufd/parameters/allow_unsafe_interrupts", "Y\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "16\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "8\n"),
        ("sys/kernel/security/lsm", "lockdown,apparmor"),
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ("sys/fs/selinux/enforce", "1"),
        (
            "lib/modules/6.1.0-31-amd64/modules.dep",
            "kernel/drivers/vfio/pci/vfio-pci.ko.xz: x.ko\n",
        ),
        ("etc/modprobe.d/a.conf", "# no\nblacklist nouveau\n"),
        ("usr/lib/modprobe.d/a.conf", "blacklist amdgpu\n"),
        ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        ("usr/bin/podman", ""),
        ("usr/share/OVMF/OVMF_CODE.fd", ""),
        ("dev/kvm", ""),
        (
            "sys/fs/cgroup/dmem.capacity",
            "drm/0000:03:00.0/vram0 8589934592\ndrm/0000:03:00.0/stolen 4096\nnonsense\n",
        ),
        ("usr/share/containers/oci/hooks.d/other.json", "{}"),
    ]);
    fs::set_permissions(tree.path().join("dev/kvm"), PermissionsExt::from_mode(0o660)).unwrap();
    let read = platform(&tree);
    assert_eq!(read.distribution.as_deref(), Some("debian 12"));
    assert_eq!(
        (read.cpu.virtualization.as_deref(), read.cpu.physical_bits),
        (Some("vmx"), Some(46))
    );
    assert!(read.virtual_machine && read.firmware.dmar && !read.firmware.ivrs);
    assert_eq!((read.interrupt_remapping, read.unsafe_interrupts), (Some(true), Some(false)));
    assert_eq!(read.iommufd_unsafe_interrupts, Some(true));
    assert_eq!(read.iommus[0].address_bits, Some(39));
    assert_eq!((read.memory, read.memlock_limit), (1_024_000, Some(8 << 20)));
    let framebuffer =
        Framebuffer { name: "BOOTFB".into(), start: 0x40_0000_0000, end: 0x40_007e_8fff };
    assert_eq!(read.framebuffers, [framebuffer]);
    assert_eq!((read.huge_pages[0].size, read.huge_pages[0].free), (2 << 20, 8));
    assert_eq!(read.security.lockdown.as_deref(), Some("integrity"));
    assert_eq!(read.security.selinux_enforcing, Some(true));
    let forbidden = "module_blacklist=nouveau,vfio-pci".to_owned();
    let vfio =
        Module { available: true, blacklisted: vec![forbidden.clone()], ..Module::default() };
    assert_eq!(read.modules["vfio_pci"], vfio);
    let nouveau = ["/etc/modprobe.d/a.conf:2: blacklist nouveau".to_owned(), forbidden];
    assert_eq!(read.modules["nouveau"].blacklisted, nouveau);
    assert!(!read.modules.contains_key("amdgpu"), "the file in /etc hides the packages' one");
    assert!(read.cmdline_words().all(|word| word != "intel_iommu=on"), "that one is for init");
    let processes: Vec<_> = read.processes.iter().map(|one| (one.pid, one.name.as_str())).collect();
    assert_eq!(processes, [(812, "nvidia-persistenced")]);
    assert_eq!(read.processes[0].unit.as_deref(), Some("nvidia-persistenced.service"));
    let owner = fs::metadata(tree.path()).unwrap();
    let (uid, gid) =
        (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
    assert_eq!(read.nodes["/dev/kvm"], NodeFacts { mode: 0o660, uid, gid });
    assert_eq!(read.ovmf, ["/usr/share/OVMF/OVMF_CODE.fd"]);
    // Programs below another root are not run.
    assert_eq!(
        (read.tools["podman"].path.as_str(), &read.tools["podman"].version),
        ("/usr/bin/podman", &None)
    );
    let regions = read.device_memory.unwrap();
    let capacities: Vec<u64> = regions.iter().map(|region| region.capacity).collect();
    assert_eq!(capacities, [8 << 30, 4096]);
    let video = |address: &str| regions[0].is_video_memory_of(address.parse().unwrap());
    assert!(video("0000:03:00.0") && !video("0000:03:00.1"));
    assert!(!regions[1].is_video_memory_of("0000:03:00.0".parse().unwrap()));
    assert!(!read.memory_hook);
    assert_eq!(read.unseen, Vec::<String>::new());
}

#[test]
fn the_hook_that_is_shipped_is_known() {
    let hook = include_str!("../../../packaging/oci-hook.json");
    let read = platform(&tree(&[("usr/share/containers/oci/hooks.d/handover.json", hook)]));
    assert!(read.memory_hook);
    assert_eq!(read.device_memory, None);
}

#[test]
fn missing_parts_are_named() {
    let nothing = platform(&tree(&[]));
    assert_eq!(nothing.boot_loader, BootLoader::Unknown);
    for word in ["command line", "processors", "interrupts", "modules", "limits", "device nodes"] {
        assert!(
            nothing.unseen.iter().any(|what| what.contains(word)),
            "{word}: {:?}",
            nothing.unseen
        );
    }
    let hidden = platform(&tree(&[("proc/iomem", "00000000-00000000 : BOOTFB\n")]));
    assert!(hidden.framebuffers.is_empty());
    assert!(hidden.unseen.iter().any(|what| what.contains("root only")), "{:?}", hidden.unseen);
}

#[test]
fn systems_are_distinguished_by_their_files() {
    const UUIDS: (&str, &str) = ("etc/kernel/proxmox-boot-uuids", "5FD5-32B8\n");
    const EFI: (&str, &str) = ("sys/firmware/efi/fw_platform_size", "64");
    const GRUB: (&str, &str) = ("etc/default/grub", "");
    const ENTRY: (&str, &str) = ("boot/loader/entries/a.conf", "options quiet\n");
    let info = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    let systemd: String =
        "\0\0\0\0".chars().chain("systemd-boot 252".chars().flat_map(|c| [c, '\0'])).collect();
    let grub: String =
        "\0\0\0\0".chars().chain("GRUB 2.12".chars().flat_map(|c| [c, '\0'])).collect();
    let cases: [(&[(&str, &str)], BootLoader); 11] = [
        (&[GRUB, ("usr/sbin/update-grub", "")], BootLoader::GrubDebian),
        (&[GRUB, ("usr/sbin/grubby", "")], BootLoader::GrubFedora),
        (&[GRUB], BootLoader::Grub),
        (&[ENTRY], BootLoader::Entries { directory: "/boot/loader/entries".into() }),
        (&[GRUB, (info, &systemd)], BootLoader::SystemdBoot),
        (&[GRUB, ENTRY, (info, &grub)], BootLoader::Grub),
        (&[UUIDS, EFI, GRUB], BootLoader::Proxmox),
        (&[UUIDS, GRUB], BootLoader::ProxmoxGrub),
        (&[("etc/kernel/proxmox-boot-uuids", "5FD5-32B8 grub\n"), EFI], BootLoader::ProxmoxGrub),
        (&[("run/ostree-booted", ""), ("usr/bin/rpm-ostree", "")], BootLoader::RpmOstree),
        (&[], BootLoader::Unknown),
    ];
    for (files, right) in cases {
        assert_eq!(platform(&tree(files)).boot_loader, right, "{files:?}");
    }
    let entries = platform(&tree(&[("efi/loader/entries/a.conf", "")])).boot_loader;
    assert_eq!(entries, BootLoader::Entries { directory: "/efi/loader/entries".into() });
    let installed = ("boot/loader/entries/b.conf", "title A\nmachine-id 0123\noptions quiet\n");
    let cmdline = platform(&tree(&[installed, ("etc/kernel/cmdline", "quiet\n")])).boot_loader;
    assert_eq!(cmdline, BootLoader::KernelInstall { file: true });
    for (program, right) in [
        ("usr/sbin/mkinitramfs", InitramfsTool::InitramfsTools),
        ("usr/bin/mkinitcpio", InitramfsTool::Mkinitcpio),
        ("usr/bin/dracut", InitramfsTool::Dracut),
    ] {
        assert_eq!(platform(&tree(&[(program, "")])).initramfs, right);
    }
}

/// Files that the reader parses.
const READ: [&str; 28] = [
    "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
    "sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
    "boot/loader/entries/a.conf",
    "etc/kernel/proxmox-boot-uuids",
    "etc/kernel/install.conf",
    "etc/mkinitcpio.d/linux.preset",
    "usr/bin/mkinitcpio",
    "etc/dracut.conf",
    "etc/default/grub",
    "boot/extlinux/extlinux.conf",
    "usr/share/X11/xorg.conf.d/a.conf",
    "proc/xen/capabilities",
    "sys/hypervisor/uuid",
    "proc/cmdline",
    "proc/sys/kernel/osrelease",
    "proc/cpuinfo",
    "proc/interrupts",
    "proc/meminfo",
    "proc/self/limits",
    "proc/iomem",
    "proc/1/comm",
    "proc/1/cgroup",
    "sys/class/iommu/dmar0/intel-iommu/cap",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    "sys/kernel/security/lockdown",
    "etc/modprobe.d/a.conf",
    "etc/os-release",
    "handover/tools",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_garbage_stops_the_reader(contents in proptest::collection::vec(
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            "[0-9a-f: \t\n.-]{0,80}".prop_map(String::into_bytes),
            "(flags|MemTotal|Max locked memory|ID|blacklist|install|0-0|default_uki|uefi|BusID|Driver)[ \t:=]{1,3}[ -~\n]{0,40}".prop_map(String::into_bytes),
            "[a-zA-Z .-]{0,20}".prop_map(|text: String| {
                let units = text.encode_utf16().flat_map(u16::to_le_bytes);
                [6, 0, 0, 0].into_iter().chain(units).collect()
            }),
        ],
        READ.len(),
    )) {
        let tree = tempfile::tempdir().unwrap();
        for (path, bytes) in READ.iter().zip(&contents) {
            write(tree.path(), path, bytes);
        }
        let read = platform(&tree);
        prop_assert!(read.framebuffers.iter().all(|one| one.start <= one.end));
    }
}
