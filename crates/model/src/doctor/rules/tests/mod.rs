//! Each check reports a bad host, and accepts a good one.

mod any;

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    BootLoader, Cpu, FirmwareTables, Framebuffer, HugePages, InitramfsTool, IommuDevice, Module,
    NodeFacts, Patient, Platform, Process, Security, Severity, Tool, Verdict, examine, remedy,
};
use super::*;
use crate::{Address, Bar, Class, Function, Group, Id, Inventory};

/// A host to modify.
struct Host {
    inventory: Inventory,
    platform: Platform,
}

impl Host {
    /// An Intel server with Debian 12, GRUB and a GPU that passes all checks.
    fn good() -> Self {
        let address = Address::new(0, 1, 0, 0).unwrap();
        let mut gpu = Function::unknown(address);
        (gpu.vendor, gpu.device, gpu.class) = (Id(0x10de), Id(0x20b0), Class(0x03_0200));
        gpu.iommu_group = Some(1);
        let group = Group {
            members: vec![address],
            domain_type: Some("identity".into()),
            ..Group::default()
        };
        let mut inventory = Inventory::default();
        inventory.functions.insert(address, gpu);
        inventory.groups.insert(1, group);
        (inventory.vfio.iommu, inventory.vfio.iommufd) = (true, true);
        let mut host = Self { inventory, platform: platform() };
        host.loaded("vfio_pci");
        host.loaded("vfio_iommu_type1");
        host.loaded("kvm_intel");
        host
    }

    fn loaded(&mut self, module: &str) {
        let entry = self.platform.modules.entry(module.into()).or_default();
        (entry.loaded, entry.available) = (true, true);
    }

    fn cmdline(&mut self, option: &str) {
        let line = self.platform.cmdline.get_or_insert_default();
        *line = format!("{line} {option}");
    }

    fn runs(&mut self, name: &str) {
        let unit = Some(format!("{name}.service"));
        self.platform.processes.push(Process { pid: 812, name: name.into(), unit });
    }

    fn without_iommu(&mut self) {
        self.inventory.groups.clear();
        self.inventory.vfio.iommu = false;
        self.platform.iommus.clear();
        self.platform.cmdline = Some("root=/dev/sda1 quiet".into());
    }

    fn gpu(&mut self) -> &mut Function {
        self.inventory.functions.values_mut().next().unwrap()
    }

    fn bar(&mut self, size: u64) {
        let bar = Bar {
            index: 1,
            start: 0,
            size,
            io: false,
            is_64bit: true,
            prefetchable: true,
            unassigned: false,
        };
        self.gpu().bars.push(bar);
    }

    fn findings(&self) -> Vec<Finding> {
        all(Patient {
            inventory: &self.inventory,
            holders: &[],
            platform: &self.platform,
            own: &crate::OwnState::default(),
        })
    }

    /// The worst finding of a check.
    fn worst(&self, check: &str) -> Option<Severity> {
        let findings = self.findings();
        findings.iter().filter(|one| one.check == check).map(|one| one.severity).max()
    }

    /// The remedy of the worst finding of a check.
    fn remedy(&self, check: &str) -> Remedy {
        let findings = self.findings().into_iter().filter(|one| one.check == check);
        findings.max_by_key(|one| one.severity).unwrap().remedy.unwrap()
    }
}

fn platform() -> Platform {
    let node = |mode| NodeFacts { mode, uid: 0, gid: 0 };
    let tool =
        |path: &str, version: &str| Tool { path: path.into(), version: Some(version.into()) };
    Platform {
        kernel: Some("6.12.9-amd64".into()),
        cmdline: Some("root=/dev/sda1 quiet intel_iommu=on iommu=pt".into()),
        distribution: Some("debian 12".into()),
        cpu: Cpu {
            vendor: "GenuineIntel".into(),
            model: "Xeon".into(),
            virtualization: Some("vmx".into()),
            physical_bits: Some(46),
        },
        firmware: FirmwareTables { seen: true, dmar: true, uefi: true, ..Default::default() },
        iommus: vec![IommuDevice { name: "dmar0".into(), address_bits: Some(48) }],
        interrupt_remapping: Some(true),
        unsafe_interrupts: Some(false),
        iommufd_unsafe_interrupts: Some(false),
        device_nodes: Some(true),
        boot_loader: BootLoader::GrubDebian,
        initramfs: InitramfsTool::InitramfsTools,
        huge_pages: vec![HugePages { size: 2 << 20, total: 1024, free: 1024 }],
        memlock_limit: Some(u64::MAX),
        memory: 64 << 30,
        nodes: BTreeMap::from([
            ("/dev/kvm".into(), node(0o660)),
            ("/dev/vfio/vfio".into(), node(0o666)),
            ("/dev/vfio/1".into(), node(0o600)),
        ]),
        security: Security { lockdown: Some("none".into()), ..Default::default() },
        ovmf: vec!["/usr/share/OVMF/OVMF_CODE_4M.fd".into()],
        tools: BTreeMap::from([
            ("qemu-system-x86_64".into(), tool("/usr/bin/qemu-system-x86_64", "9.2.0")),
            ("libvirtd".into(), tool("/usr/sbin/libvirtd", "9.0.0")),
            ("passt".into(), tool("/usr/bin/passt", "0.0~git20250503")),
            ("swtpm".into(), tool("/usr/bin/swtpm", "0.7.1")),
        ]),
        ..Platform::default()
    }
}

/// A check, its severity for a host, and the change to that host.
type Case = (&'static str, Severity, fn(&mut Host));

const CASES: &[Case] = &[
    ("virtualization", Severity::Warning, |host| host.platform.cpu.virtualization = None),
    ("kvm", Severity::Warning, |host| {
        host.platform.nodes.remove("/dev/kvm");
    }),
    ("iommu", Severity::Impossible, Host::without_iommu),
    ("iommu", Severity::Impossible, |host| {
        host.without_iommu();
        host.platform.firmware.dmar = false;
    }),
    ("iommu", Severity::Impossible, |host| {
        host.without_iommu();
        host.cmdline("iommu=off");
    }),
    ("iommu-mode", Severity::Note, |host| {
        host.inventory.groups.get_mut(&1).unwrap().domain_type = Some("DMA-FQ".into());
    }),
    ("interrupt-remapping", Severity::Impossible, |host| {
        host.platform.interrupt_remapping = Some(false);
    }),
    ("interrupt-remapping", Severity::Warning, |host| {
        host.platform.interrupt_remapping = Some(false);
        host.platform.unsafe_interrupts = Some(true);
    }),
    ("unsafe-interrupts", Severity::Warning, |host| {
        host.platform.unsafe_interrupts = Some(true);
    }),
    ("interrupt-remapping", Severity::Warning, |host| {
        host.platform.interrupt_remapping = Some(false);
        host.platform.iommufd_unsafe_interrupts = Some(true);
    }),
    ("unsafe-interrupts", Severity::Warning, |host| {
        host.platform.iommufd_unsafe_interrupts = Some(true);
    }),
    ("acs-override", Severity::Warning, |host| host.cmdline("pcie_acs_override=downstream")),
    ("noiommu", Severity::Impossible, |host| host.inventory.vfio.unsafe_noiommu = true),
    ("vfio-modules", Severity::Impossible, |host| drop(host.platform.modules.remove("vfio_pci"))),
    ("vfio-modules", Severity::Impossible, |host| {
        host.platform.modules.remove("vfio_iommu_type1");
        host.inventory.vfio.iommufd = false;
    }),
    ("vfio-forbidden", Severity::Impossible, |host| {
        let line = "/etc/modprobe.d/no.conf:1: install vfio-pci /bin/false".to_owned();
        let module = Module { available: true, blacklisted: vec![line], ..Default::default() };
        host.platform.modules.insert("vfio_pci".into(), module);
    }),
    ("vfio-forbidden", Severity::Note, |host| {
        let line = "/etc/modprobe.d/no.conf:1: blacklist vfio-pci".to_owned();
        let module = Module { available: true, blacklisted: vec![line], ..Default::default() };
        host.platform.modules.insert("vfio_pci".into(), module);
    }),
    ("vfio-access", Severity::Note, |host| host.inventory.vfio.iommufd = false),
    ("vfio-access", Severity::Note, |host| host.platform.device_nodes = Some(false)),
    ("vfio-access", Severity::Note, |host| {
        let qemu = host.platform.tools.get_mut("qemu-system-x86_64").unwrap();
        qemu.version = Some("8.2.1".into());
    }),
    ("vfio-nodes", Severity::Warning, |host| {
        host.platform.nodes.get_mut("/dev/vfio/1").unwrap().mode = 0o666;
    }),
    ("vfio-nodes", Severity::Warning, |host| {
        host.platform.nodes.retain(|path, _| !path.starts_with("/dev/vfio"));
    }),
    ("hugepages", Severity::Note, |host| host.platform.huge_pages[0].total = 0),
    ("memlock", Severity::Note, |host| host.platform.memlock_limit = Some(8 << 20)),
    ("large-bars", Severity::Warning, |host| {
        host.bar(128 << 30);
        host.platform.kernel = Some("6.1.0-31-amd64".into());
    }),
    ("large-bars", Severity::Warning, |host| {
        host.bar(32 << 30);
        let qemu = host.platform.tools.get_mut("qemu-system-x86_64").unwrap();
        qemu.version = Some("9.1.3".into());
    }),
    ("selinux", Severity::Note, |host| {
        host.platform.security.selinux_enforcing = Some(true);
        host.platform.tools.insert("podman".into(), Tool::default());
    }),
    ("apparmor", Severity::Note, |host| {
        host.platform.security.modules = vec!["lockdown".into(), "apparmor".into()];
        host.platform.security.apparmor_libvirt = true;
    }),
    ("lockdown", Severity::Note, |host| {
        host.platform.security.lockdown = Some("integrity".into());
    }),
    ("gpu-programs", Severity::Note, |host| host.runs("Xorg")),
    ("gpu-programs", Severity::Note, |host| host.runs("nvidia-persistenced")),
    ("vgpu-manager", Severity::Warning, |host| {
        let module = Module { available: true, ..Default::default() };
        host.platform.modules.insert("nvidia_vgpu_vfio".into(), module);
    }),
    ("fabric-manager", Severity::Warning, |host| host.gpu().class = Class(0x06_8000)),
    ("qemu", Severity::Warning, |host| host.platform.tools.clear()),
    ("ovmf", Severity::Note, |host| host.platform.ovmf.clear()),
    ("ovmf", Severity::Note, |host| {
        host.platform.ovmf.clear();
        host.bar(256 << 20);
    }),
    ("passt", Severity::Note, |host| {
        host.platform.tools.remove("passt");
    }),
    ("passt", Severity::Note, |host| {
        let (path, version) = ("/usr/bin/passt".into(), Some("0.0~git20230309.7c7625d-1".into()));
        let old = Tool { path, version };
        host.platform.tools.insert("passt".into(), old);
    }),
    ("passt", Severity::Note, |host| {
        let silent = Tool { path: "/usr/bin/passt".into(), version: None };
        host.platform.tools.insert("passt".into(), silent);
    }),
    ("passt", Severity::Note, |host| {
        let (path, version) = ("/usr/bin/passt".into(), Some("2022_11_16.ace074c".into()));
        let ancient = Tool { path, version };
        host.platform.tools.insert("passt".into(), ancient);
    }),
    ("swtpm", Severity::Note, |host| {
        host.platform.tools.remove("swtpm");
    }),
    ("unfinished", Severity::Warning, |host| host.platform.rebuild_pending = true),
    ("visibility", Severity::Unseen, |host| host.platform.unseen.push("addresses".into())),
];

#[test]
fn each_check_fires_where_it_should() {
    for (check, severity, make) in CASES {
        let mut host = Host::good();
        make(&mut host);
        assert_eq!(host.worst(check), Some(*severity), "{check}: {:#?}", host.findings());
    }
}

#[test]
fn a_good_host_is_good_in_every_check() {
    let host = Host::good();
    for finding in host.findings() {
        assert_eq!(finding.severity, Severity::Good, "{finding:#?}");
        assert_eq!(finding.remedy, None, "{finding:#?}");
    }
}

/// A missing optional program is not a problem.
const NEVER_BAD: [&str; 3] = ["libvirt", "podman", "cloud-hypervisor"];

#[test]
fn no_check_is_left_out_here() {
    let tried: BTreeSet<&str> = CASES.iter().map(|(check, ..)| *check).chain(NEVER_BAD).collect();
    let known: BTreeSet<&str> = checks().map(|(name, _)| name).collect();
    assert_eq!(tried, known);
}

#[test]
fn a_manager_that_runs_is_good() {
    let mut host = Host::good();
    host.gpu().class = Class(0x06_8000);
    host.runs("nv-fabricmanager");
    host.loaded("nvidia_vgpu_vfio");
    assert_eq!(host.worst("fabric-manager"), Some(Severity::Good));
    assert_eq!(host.worst("vgpu-manager"), Some(Severity::Good));
}

#[test]
fn the_option_for_the_iommu_is_intels_only() {
    let mut host = Host::good();
    host.without_iommu();
    let remedy = host.remedy("iommu");
    assert!(remedy.reboot && remedy.commands[0].contains("intel_iommu=on"), "{remedy:?}");
    assert_eq!(remedy.commands.last().unwrap(), "update-grub");
    host.platform.cpu.vendor = "AuthenticAMD".into();
    host.platform.firmware = FirmwareTables { seen: true, ivrs: true, ..Default::default() };
    assert!(host.remedy("iommu").commands.is_empty());
    host.cmdline("amd_iommu=off");
    assert!(host.remedy("iommu").words.contains("without amd_iommu=off"));
}

/// The kernel reads `iommu=`, `amd_iommu=` and `intel_iommu=` as lists.
#[test]
fn an_off_in_a_list_is_named_and_only_that_word_is_taken_away() {
    let tried = [
        ("amd_iommu=fullflush,off", "amd_iommu=fullflush instead of amd_iommu=fullflush,off"),
        ("iommu=off,pt", "iommu=pt instead of iommu=off,pt"),
        ("intel_iommu=on,sm_on,off", "intel_iommu=on,sm_on instead of intel_iommu=on,sm_on,off"),
        ("intel_iommu=on,off intel_iommu=strict", "intel_iommu=on instead of intel_iommu=on,off"),
        ("intel-iommu=off", "without intel-iommu=off"),
        (
            "iommu=off amd_iommu=off",
            "without amd_iommu=off on the kernel's command line; boot without iommu=off",
        ),
    ];
    for (options, said) in tried {
        let mut host = Host::good();
        host.without_iommu();
        host.cmdline(options);
        let finding = host.findings().into_iter().find(|one| one.check == "iommu").unwrap();
        let first = options.split(' ').next().unwrap();
        assert!(finding.read.contains(first), "{options}: {}", finding.read);
        let remedy = finding.remedy.unwrap();
        assert!(remedy.words.contains(said), "{options}: {}", remedy.words);
        assert!(!remedy.commands.is_empty(), "{options}");
    }
}

/// The command line is text of the host: what is not printable gets into no command.
#[test]
fn an_option_with_control_characters_is_in_no_command() {
    let mut host = Host::good();
    host.without_iommu();
    host.cmdline("iommu=off,\u{1b}[2J");
    let remedy = host.remedy("iommu");
    assert!(
        remedy.commands.is_empty() && remedy.words.contains("unusual characters"),
        "{remedy:?}"
    );
    host.platform.cmdline = Some("iommu=pt,off;reboot,'$(x)".into());
    let remedy = host.remedy("iommu");
    assert!(remedy.commands[0].contains("'\\''"), "{remedy:?}");
}

#[test]
fn an_on_in_a_list_is_seen_and_not_added_again() {
    for options in ["intel_iommu=igfx_off,on", "intel_iommu=on,igfx_off", "intel_iommu=off,on"] {
        let mut host = Host::good();
        host.without_iommu();
        host.cmdline(options);
        let finding = host.findings().into_iter().find(|one| one.check == "iommu").unwrap();
        let remedy = finding.remedy.unwrap();
        assert!(
            !finding.read.contains("/proc/cmdline") && remedy.commands.is_empty(),
            "{remedy:?}"
        );
        assert!(remedy.words.contains("dmesg"), "{remedy:?}");
    }
    let mut host = Host::good();
    host.without_iommu();
    host.cmdline("intel_iommu=igfx_off");
    assert!(host.remedy("iommu").words.contains("intel_iommu=on"));
}

#[test]
fn a_module_is_taken_out_of_a_list_that_blacklists_others_too() {
    let line = "module_blacklist=nouveau,vfio-pci,floppy".to_owned();
    let lines = [line, "rd.driver.blacklist=vfio_pci".to_owned()];
    let remedy = remedy::unblacklist(&platform(), "vfio_pci", &lines);
    assert!(remedy.words.contains("with module_blacklist=nouveau,floppy instead of"), "{remedy:?}");
    assert!(remedy.words.contains("without rd.driver.blacklist=vfio_pci"), "{remedy:?}");
    assert!(!remedy.commands.is_empty());
}

#[test]
fn passthrough_and_interrupt_remapping_are_read_from_lists_too() {
    let mut host = Host::good();
    host.inventory.groups.get_mut(&1).unwrap().domain_type = Some("DMA-FQ".into());
    host.platform.cmdline = Some("iommu=force,pt".into());
    let mode = host.findings().into_iter().find(|one| one.check == "iommu-mode").unwrap();
    assert_eq!(mode.remedy, None);
    host.platform.cmdline = Some("intremap=nosid,off".into());
    host.platform.interrupt_remapping = Some(false);
    assert!(host.remedy("interrupt-remapping").words.contains("intremap=nosid instead of"));
}

#[test]
fn under_xen_no_option_of_the_kernel_is_offered() {
    let mut host = Host::good();
    host.without_iommu();
    host.platform.xen_dom0 = true;
    host.platform.cpu.virtualization = None;
    host.platform.nodes.remove("/dev/kvm");
    let remedy = host.remedy("iommu");
    assert!(remedy.commands.is_empty(), "{remedy:?}");
    assert!(
        remedy.words.contains("without Xen") && remedy.words.contains("xen-pciback"),
        "{remedy:?}"
    );
    assert!(host.remedy("kvm").words.contains("without Xen"));
    assert_eq!(host.worst("virtualization"), None);
    // Whatever sysfs shows of the IOMMU: no device can be handed over, so it is no warning.
    let mut host = Host::good();
    host.platform.xen_dom0 = true;
    assert_eq!(host.worst("iommu"), Some(Severity::Impossible));
}

#[test]
fn no_remedy_advises_an_option_that_does_not_exist() {
    for (_, _, make) in CASES {
        let mut host = Host::good();
        host.platform.cpu.vendor = "AuthenticAMD".into();
        make(&mut host);
        let told = format!("{:?}", host.findings());
        assert!(!told.contains("amd_iommu=on"), "{told}");
    }
}

#[test]
fn a_script_gives_each_command_once_and_rebuilds_last() {
    let mut host = Host::good();
    host.without_iommu();
    host.cmdline("pcie_acs_override=downstream");
    host.platform.unsafe_interrupts = Some(true);
    host.inventory.groups.insert(1, Group::default());
    let verdict = Verdict::new(host.findings());
    let script = remedy::script(&verdict);
    let lines: Vec<&str> = script.lines().collect();
    let at = |wanted: &str| {
        let places: Vec<usize> =
            (0..lines.len()).filter(|number| lines[*number] == wanted).collect();
        assert_eq!(places.len(), 1, "{wanted} in {script}");
        places[0]
    };
    let edits = lines.iter().rposition(|line| line.contains("/etc/default/grub")).unwrap();
    assert!(at("update-grub") > edits && at("update-initramfs -u -k all") > edits, "{script}");
    assert!(lines.last().unwrap().contains("Reboot this host"), "{script}");
}

#[test]
fn optional_remedies_are_comments_in_a_script() {
    let mut host = Host::good();
    host.platform.memlock_limit = Some(8 << 20);
    let script = remedy::script(&Verdict::new(host.findings()));
    let commands = script.lines().filter(|line| line.contains("limits.d"));
    let commands: Vec<&str> = commands.collect();
    assert!(!commands.is_empty() && commands.iter().all(|line| line.starts_with('#')), "{script}");
}

#[test]
fn text_that_was_read_stays_in_its_comment() {
    let mut finding = warning("a line\nrm -rf /", "").with_remedy(Remedy::words("see\nreboot"));
    finding.check = "made-up".into();
    let script = remedy::script(&Verdict::new(vec![finding]));
    assert!(!script.lines().any(|line| line == "rm -rf /" || line == "reboot"), "{script}");
}

#[test]
fn text_read_from_the_host_is_never_a_command() {
    let mut host = Host::good();
    host.platform.modules.clear();
    host.platform.distribution = Some("ubuntu 24.04".into());
    host.platform.kernel = Some("6.8.0; reboot".into());
    let remedy = host.remedy("vfio-modules");
    assert_eq!(remedy.commands, ["apt-get install -y 'linux-modules-extra-6.8.0; reboot'"]);
}

/// NixOS writes its files anew, Unraid has them in memory, and an image keeps its initial ramdisk.
#[test]
fn no_remedy_edits_what_the_system_does_not_keep() {
    let listed = |platform: &Platform| {
        let gpu = Host::good().gpu().clone();
        remedy::boot_list(platform, gpu.address, &[&gpu])
    };
    let with = |boot_loader: BootLoader| Platform { boot_loader, ..platform() };
    let option =
        |platform: &Platform| remedy::module_option(platform, "vfio-pci", "disable_idle_d3=1");
    let nixos = with(BootLoader::Nixos);
    for remedy in [
        option(&nixos),
        remedy::load_at_boot(&nixos, &["kvm"]),
        remedy::memlock_for_group(&nixos, "kvm"),
        remedy::without_module_option(&nixos, "vfio", "x"),
    ] {
        assert!(remedy.commands.is_empty() && remedy.words.contains("nixos-rebuild"), "{remedy:?}");
    }
    for (system, words) in [
        (nixos.clone(), "boot.kernelParams"),
        (with(BootLoader::Unraid { file: true }), "System Devices"),
        (
            Platform {
                distribution: Some("alpine 3.22".into()),
                initramfs: InitramfsTool::Unknown,
                ..with(BootLoader::UpdateExtlinux)
            },
            "mkinitfs",
        ),
    ] {
        let remedy = listed(&system);
        assert!(remedy.commands.is_empty() && remedy.words.contains(words), "{remedy:?}");
        assert!(!remedy.words.contains("apt install"), "{remedy:?}");
    }
    let unraid = option(&with(BootLoader::Unraid { file: true }));
    assert!(unraid.commands[0].contains("/boot/config/modprobe.d/handover.conf"), "{unraid:?}");
    for loader in [BootLoader::Bootc { ostree: true }, BootLoader::RpmOstree] {
        let image = with(loader);
        assert!(option(&image).commands.iter().all(|command| !remedy::is_rebuild(command)));
        let listed = listed(&image);
        assert!(listed.commands.is_empty(), "{listed:?}");
    }
    let installed = Platform {
        initramfs: InitramfsTool::Dracut,
        ..with(BootLoader::KernelInstall { file: true })
    };
    assert!(option(&installed).commands.last().unwrap().contains("kernel-install add"));
    let commands = listed(&installed).commands;
    assert!(commands[0].starts_with("handover boot-list ") && !commands[0].contains("--rebuild"));
    assert!(commands[1].contains("kernel-install add"), "{commands:?}");
    let fedora = Platform { distribution: Some("fedora 44".into()), ..with(BootLoader::RpmOstree) };
    let package = remedy::install(&fedora, remedy::Package::Qemu);
    assert_eq!(package.commands, ["rpm-ostree install --idempotent qemu-kvm"]);
}
