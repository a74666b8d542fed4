//! QEMU's command lines, compared with the files in `snapshots/`.

use super::*;
use model::{
    Address, BlockFile, CardLink, ContainerBoot, Cpu, DiskBus, DiskContent, DiskFile, DiskFormat,
    Display, DisplayProtocol, GuestDisk, GuestOs, HostBlock, KernelBoot, MachineDisk,
    MachineOptions, NetworkCard, Secret, Seed, SparePorts, Topology,
};
use uuid::Uuid;

fn machine() -> MachineSpec {
    MachineSpec {
        id: Uuid::from_u128(0x6d61_6368_696e_6500_8000_0000_0000_0001),
        name: "trial".into(),
        uid: 1_900_000_000,
        vcpus: 2,
        memory: 1 << 30,
        huge_pages: None,
        placement: None,
        kernel: None,
        disk: None,
        container: None,
        disks: Vec::new(),
        slots: Vec::new(),
        access: DeviceAccess::Groups,
        spare: model::SparePorts::default(),
        usb: Vec::new(),
        options: MachineOptions::default(),
    }
}

fn kernel() -> Option<KernelBoot> {
    Some(KernelBoot {
        kernel: "/var/lib/handover/images/1/kernel".into(),
        initrd: Some("/var/lib/handover/images/1/initrd".into()),
        cmdline: "console=ttyS0 root=LABEL=a,b quiet".into(),
    })
}

fn root_disk(format: DiskFormat) -> Option<MachineDisk> {
    Some(MachineDisk { base: "/var/lib/handover/images/2/disk".into(), format, size: None })
}

fn slot(addresses: &[&str]) -> GuestSlot {
    GuestSlot::place(addresses.iter().map(|text| text.parse::<Address>().unwrap()))
}

fn environment() -> Environment<'static> {
    Environment {
        root: Path::new("/"),
        accelerator: Accelerator::Tcg,
        disk: "/var/lib/handover/machines/1/disk.qcow2".into(),
        seed: "/var/lib/handover/machines/1/seed.iso".into(),
        guest_config: "/var/lib/handover/machines/1/guest-config.img".into(),
        roms: "/var/lib/handover/machines/1/roms".into(),
        screen: "/var/lib/handover/machines/1/screen".into(),
        firmware: None,
        space: AddressSpace::default(),
    }
}

fn window() -> AddressSpace {
    AddressSpace { window: Some(1 << 40), ..AddressSpace::default() }
}

/// One option per line.
fn shown(spec: &MachineSpec, environment: &Environment<'_>) -> String {
    let mut text = String::new();
    for argument in arguments(spec, environment).unwrap() {
        let joint = if argument.starts_with('-') { "\n" } else { " " };
        text += joint;
        text += &argument;
    }
    text
}

/// The root and the modules are shared and read-only; the guest finds all by their serial numbers.
#[test]
fn a_container_image_as_root() {
    let content = DiskContent::Volume(Uuid::from_u128(3));
    let upper = data_disk(content, DiskBus::Virtio, ContainerBoot::UPPER, false);
    let container = Some(ContainerBoot {
        root: "/var/lib/handover/images/roots/sha256-12.erofs".into(),
        modules: Some("/var/lib/handover/images/kernels/1/modules.erofs".into()),
        config: Vec::new(),
        vsock: Some(1_900_000_000),
    });
    let spec = MachineSpec { kernel: kernel(), disks: vec![upper], container, ..machine() };
    let text = shown(&spec, &environment());
    for id in device_ids(&spec) {
        assert!(text.contains(&format!("\"id\":\"{id}\"")), "{id} is not in {text}");
    }
    insta::assert_snapshot!(text);
}

/// The card and the NIC by descriptors: no `host=`, and no node that QEMU opens.
#[test]
fn devices_by_descriptors() {
    let slots = vec![slot(&["0000:01:00.0", "0000:01:00.1"]), slot(&["10000:e1:00.0"]).at(1)];
    let access = DeviceAccess::Descriptors;
    let text = shown(&MachineSpec { slots, access, kernel: kernel(), ..machine() }, &environment());
    assert!(!text.contains("\"host\""), "{text}");
    insta::assert_snapshot!("devices_by_descriptors", text);
    let none = shown(&MachineSpec { access, kernel: kernel(), ..machine() }, &environment());
    assert!(!none.contains("iommufd"), "{none}");
}

#[test]
fn kernel_bundle_without_devices() {
    let spec = MachineSpec { kernel: kernel(), ..machine() };
    insta::assert_snapshot!(shown(&spec, &environment()));
}

#[test]
fn disk_image_with_kvm() {
    let spec = MachineSpec { disk: root_disk(DiskFormat::Qcow2), ..machine() };
    let environment =
        Environment { accelerator: Accelerator::Kvm { group: None }, ..environment() };
    insta::assert_snapshot!(shown(&spec, &environment));
}

#[test]
fn gpu_with_audio_nic_and_nvme() {
    let spec = MachineSpec {
        kernel: kernel(),
        disk: root_disk(DiskFormat::Raw),
        slots: vec![
            slot(&["0000:01:00.0", "0000:01:00.1"]),
            slot(&["0000:02:00.0"]).at(1),
            slot(&["0000:03:00.0"]).at(2),
        ],
        ..machine()
    };
    let environment = Environment { space: window(), ..environment() };
    insta::assert_snapshot!(shown(&spec, &environment));
}

#[test]
fn a_device_has_a_rom_of_a_file_or_none() {
    let rom = |device: &str, bar, has_file| Rom {
        device: device.parse().unwrap(),
        bar,
        has_file,
        content: Vec::new(),
    };
    let roms = vec![rom("0000:01:00.0", true, true), rom("0000:02:00.0", false, false)];
    let options = MachineOptions { roms, ..MachineOptions::default() };
    let slots = vec![slot(&["0000:01:00.0", "0000:01:00.1"]), slot(&["0000:02:00.0"]).at(1)];
    let text = shown(&MachineSpec { slots, options, ..machine() }, &environment());
    let devices: Vec<&str> = text.lines().filter(|line| line.contains("vfio-pci")).collect();
    insta::assert_snapshot!(devices.join("\n"));
}

#[test]
fn windows_with_a_hidden_hypervisor() {
    let topology = Some(Topology { sockets: 1, cores: 4, threads: 2 });
    let cpu = Cpu { topology, hide_kvm: true, os: GuestOs::Windows };
    let options = MachineOptions { cpu, ..MachineOptions::default() };
    let spec = MachineSpec { vcpus: 8, options, ..machine() };
    let environment =
        Environment { accelerator: Accelerator::Kvm { group: None }, ..environment() };
    insta::assert_snapshot!(shown(&spec, &environment));
}

#[test]
fn a_processor_without_kvm_has_nothing_to_hide() {
    let cpu = Cpu { hide_kvm: true, os: GuestOs::Windows, ..Cpu::default() };
    let options = MachineOptions { cpu, ..MachineOptions::default() };
    let text = shown(&MachineSpec { options, ..machine() }, &environment());
    assert!(text.contains("-cpu max\n") && text.contains("-rtc base=localtime"), "{text}");
}

fn card() -> NetworkCard {
    let forwards = vec!["2222:22".parse().unwrap()];
    let mac = "52:54:00:12:34:56".parse().unwrap();
    NetworkCard { mac, link: CardLink::User, forwards, port: None }
}

#[test]
fn memory_in_huge_pages_of_a_node() {
    let of = |page, node| {
        let huge_pages = Some(model::HugeMemory { page, node });
        let text = shown(&MachineSpec { huge_pages, vcpus: 64, ..machine() }, &environment());
        let own = ["-machine", "-m ", "-object {\"host", "-object {\"hugetlb"];
        let lines = text.lines().filter(|line| own.iter().any(|start| line.starts_with(start)));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    insta::assert_snapshot!(format!("{}{}", of(2 << 20, None), of(1 << 30, Some(1))));
}

/// Two devices below one host bridge of node 1, one below one of node 0, and one that the host has on no node.
#[test]
fn devices_of_two_nodes() {
    let cell = |node, vcpus| model::Cell { node, vcpus, memory: 512 << 20 };
    let root = |cell, ports: &[u32]| model::GuestRoot { cell, ports: ports.to_vec() };
    let placement = Some(model::Placement {
        node: 0,
        is_bound: true,
        cpus: vec![1, 3],
        held: [1, 3].into(),
        others: vec![0, 2],
        cells: vec![cell(0, 1), cell(1, 1)],
        roots: vec![root(0, &[2]), root(1, &[0, 1])],
    });
    let slots = (1..=4).map(|bus| slot(&[&format!("0000:{bus:02x}:00.0")]).at(bus - 1)).collect();
    let spare = model::SparePorts { count: 1, devices: Vec::new() };
    let spec = MachineSpec { placement, slots, spare, kernel: kernel(), ..machine() };
    insta::assert_snapshot!("devices_of_two_nodes", shown(&spec, &environment()));
    let huge_pages = Some(model::HugeMemory { page: 2 << 20, node: None });
    let huge = shown(&MachineSpec { huge_pages, ..spec }, &environment());
    let lines = huge.lines().filter(|line| line.contains("ram") || line.starts_with("-smp"));
    insta::assert_snapshot!(
        "devices_of_two_nodes_in_huge_pages",
        lines.collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn memory_on_the_node_of_a_placement() {
    let of = |is_bound| {
        let placement = Some(model::Placement {
            node: 1,
            is_bound,
            cpus: vec![4, 12],
            held: [4, 12].into(),
            others: vec![5, 13],
            cells: Vec::new(),
            roots: Vec::new(),
        });
        let text = shown(&MachineSpec { placement, ..machine() }, &environment());
        let own = ["-machine", "-m ", "-object {\"host"];
        let lines = text.lines().filter(|line| own.iter().any(|start| line.starts_with(start)));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    insta::assert_snapshot!(format!("{}{}", of(true), of(false)));
}

#[test]
fn a_card_of_each_kind() {
    let link = |link, number: u8| NetworkCard {
        mac: model::Mac([0x52, 0x54, 0, 0, 0, number]),
        link,
        forwards: Vec::new(),
        port: None,
    };
    let cards = vec![
        link(CardLink::Bridge { bridge: "br0".into() }, 1),
        link(CardLink::User, 2),
        link(CardLink::Macvtap { interface: "eth0".into(), force: false }, 3),
    ];
    let options = MachineOptions { cards, ..MachineOptions::default() };
    let spec = MachineSpec { options, ..machine() };
    let text = shown(&spec, &environment());
    for id in device_ids(&spec) {
        assert!(text.contains(&format!("\"id\":\"{id}\"")), "{id}");
    }
    let lines = host_cards(&spec).into_iter().map(|card| {
        let (vmm, vhost) = (card.vmm_args.join(" "), card.vhost_args.join(" "));
        format!("{} {}\n  {vmm}\n  {vhost}\n", card.interface, card.link.mode())
    });
    let devices = text.lines().filter(|line| line.contains("virtio-net"));
    insta::assert_snapshot!(
        lines.chain(devices.map(|line| format!("{line}\n"))).collect::<String>()
    );
}

#[test]
fn uefi_with_seed_network_and_a_large_gpu() {
    let options = MachineOptions {
        cards: vec![card()],
        seed: Some(Seed::default()),
        ..MachineOptions::default()
    };
    let spec = MachineSpec {
        disk: root_disk(DiskFormat::Qcow2),
        slots: vec![slot(&["0000:01:00.0"])],
        options,
        ..machine()
    };
    let nvram = "/var/lib/handover/machines/1/nvram.fd".into();
    let firmware = Some(("/usr/share/OVMF/OVMF_CODE_4M.fd".into(), nvram));
    let environment = Environment { firmware, space: window(), ..environment() };
    insta::assert_snapshot!(shown(&spec, &environment));
    insta::assert_snapshot!(netdev(0).join(" "));
    for id in device_ids(&spec) {
        assert!(shown(&spec, &environment).contains(&format!("\"id\":\"{id}\"")), "{id}");
    }
}

#[test]
fn a_chosen_bus_is_that_of_its_port_whatever_is_before_it() {
    let at = |port: u32, bus: &str| GuestSlot {
        bus: Some(bus.parse().unwrap()),
        ..slot(&["0000:01:00.0"]).at(port)
    };
    let buses = |slots: Vec<GuestSlot>, cards: usize| {
        let options = MachineOptions { cards: vec![card(); cards], ..MachineOptions::default() };
        let spare = SparePorts { count: 1, devices: Vec::new() };
        let spec = MachineSpec { slots, options, spare, ..machine() };
        let text = shown(&spec, &environment());
        let ports = text.lines().filter(|line| line.contains("pcie-root-port"));
        let id = |line: &str| {
            line.split(r#""id":""#).nth(1).unwrap().split('"').next().unwrap().to_owned()
        };
        ports.map(id).collect::<Vec<_>>()
    };
    let plain = buses(vec![slot(&["0000:01:00.0"])], 0);
    assert_eq!(plain.last().unwrap(), "hd1");
    for cards in 0..3 {
        let ids = buses(vec![at(0, "06:00"), at(1, "02:00")], cards);
        assert_eq!((ids[5].as_str(), ids[1].as_str()), ("hd0", "hd1"), "{ids:?}");
        let far = buses(vec![at(0, "3f:00")], cards);
        assert_eq!((far.len(), far[0x3e].as_str()), (0x3f, "hd0"), "{far:?}");
        assert!(far[0x3d].starts_with("gap"));
    }
}

fn data_disk(content: DiskContent, bus: DiskBus, serial: &str, read_only: bool) -> DiskFile {
    let disk =
        GuestDisk { content, bus, serial: serial.into(), read_only, mount_path: None, port: None };
    let format = if serial == "thin" { DiskFormat::Qcow2 } else { DiskFormat::Raw };
    let path = format!("/var/lib/handover/volumes/{serial}/disk").into();
    let block = disk.block().map(|_| BlockFile { number: (259, 1), sector: 4096 });
    DiskFile { disk, path, format, block }
}

#[test]
fn each_disk_is_on_its_bus_by_an_inherited_descriptor() {
    let volume = DiskContent::Volume(Uuid::from_u128(1));
    let spec = MachineSpec {
        disk: root_disk(DiskFormat::Qcow2),
        disks: vec![
            data_disk(volume.clone(), DiskBus::Virtio, "thin", false),
            data_disk(volume.clone(), DiskBus::Scsi, "disk2", false),
            data_disk(volume.clone(), DiskBus::Scsi, "disk3", true),
            data_disk(volume.clone(), DiskBus::Nvme, "disk4", false),
            data_disk(volume.clone(), DiskBus::Sata, "disk5", false),
            data_disk(DiskContent::Cdrom(Uuid::from_u128(2)), DiskBus::Sata, "cd1", true),
        ],
        ..machine()
    };
    let text = shown(&spec, &environment());
    insta::assert_snapshot!(text);
    for id in device_ids(&spec) {
        assert!(text.contains(&format!("\"id\":\"{id}\"")), "{id}");
    }
    let files = disk_files(&spec);
    assert!(!text.contains("volumes"), "no path of a volume");
    let args = files.iter().map(|file| file.vmm_args.join(" ")).collect::<Vec<_>>();
    assert_eq!(args[5], "-add-fd fd={fd},set=5");
    let writable: Vec<bool> = files.iter().map(|file| file.writable).collect();
    assert_eq!(writable, [true, true, false, true, true, false]);
}

#[test]
fn usb_devices_of_the_host_are_open_nodes() {
    let device = |number| model::UsbDevice {
        name: format!("1-{number}"),
        bus: 1,
        number,
        ..model::UsbDevice::default()
    };
    let spec = MachineSpec { usb: vec![device(4), device(11)], ..machine() };
    let text = shown(&spec, &environment());
    let usb: Vec<&str> = text.lines().filter(|line| line.contains("hostusb")).collect();
    insta::assert_snapshot!(usb.join("\n"));
    let files = usb_files(&spec);
    assert_eq!(files[1].path, std::path::Path::new("/dev/bus/usb/001/011"));
    assert_eq!(files[1].vmm_args.join(" "), "-add-fd fd={fd},set=1001");
    assert!(!shown(&machine(), &environment()).contains("hostusb"));
}

#[test]
fn a_block_device_of_the_host_is_opened_as_one() {
    let path = "/dev/disk/by-id/nvme-1".into();
    let block = DiskContent::Block(HostBlock { path, ..HostBlock::default() });
    let spec =
        MachineSpec { disks: vec![data_disk(block, DiskBus::Virtio, "nvme-1", true)], ..machine() };
    let text = shown(&spec, &environment());
    insta::assert_snapshot!(
        text.lines().filter(|line| line.contains("data0")).collect::<Vec<_>>().join("\n")
    );
    let files = disk_files(&spec);
    assert_eq!((files[0].block, files[0].writable), (Some((259, 1)), false));
}

#[test]
fn a_machine_without_a_root_disk_boots_its_cdrom_then_its_disks() {
    let volume = DiskContent::Volume(Uuid::from_u128(1));
    let cdrom = DiskContent::Cdrom(Uuid::from_u128(2));
    let spec = MachineSpec {
        disks: vec![
            data_disk(volume.clone(), DiskBus::Virtio, "disk1", false),
            data_disk(cdrom.clone(), DiskBus::Sata, "cd1", true),
            data_disk(cdrom.clone(), DiskBus::Sata, "cd2", true),
        ],
        ..machine()
    };
    let text = shown(&spec, &environment());
    let place = |id: &str| {
        let line = text.lines().find(|line| line.contains(&format!("\"id\":\"{id}\""))).unwrap();
        let field = line.split("\"bootindex\":").nth(1).unwrap();
        field.chars().next().unwrap()
    };
    assert_eq!([place("data1"), place("data2"), place("data0")], ['1', '2', '3']);
    assert!(text.contains("-boot strict=on"), "{text}");
    // A kernel that is loaded directly has QEMU's first place.
    let direct = shown(&MachineSpec { kernel: kernel(), ..spec }, &environment());
    assert!(!direct.contains("bootindex"), "{direct}");
}

#[test]
fn a_screen_listens_nowhere() {
    for (protocol, video_memory) in
        [(DisplayProtocol::Vnc, None), (DisplayProtocol::Spice, Some(64 << 20))]
    {
        let display = Some(Display { protocol, video_memory, listen: None });
        let options = MachineOptions { display, ..MachineOptions::default() };
        let spec = MachineSpec { options, ..machine() };
        insta::assert_snapshot!(protocol.as_str(), shown(&spec, &environment()));
        assert_eq!(device_ids(&spec), ["video"]);
    }
}

#[test]
fn a_screen_on_an_address_has_a_password_and_spice_is_encrypted() {
    let of = |protocol, listen: &str| {
        let listen = Some(listen.parse().unwrap());
        let display = Some(Display { protocol, video_memory: None, listen });
        let display_password = Some(Secret::new("s3cret".into()));
        let options = MachineOptions { display, display_password, ..MachineOptions::default() };
        let text = shown(&MachineSpec { options, ..machine() }, &environment());
        assert!(!text.contains("s3cret"), "{text}");
        let line = text.lines().find(|line| line.starts_with("-vnc") || line.starts_with("-spice"));
        line.unwrap().to_owned()
    };
    assert_eq!(of(DisplayProtocol::Vnc, "192.0.2.1:5902"), "-vnc 192.0.2.1:2,password=on");
    assert_eq!(of(DisplayProtocol::Vnc, "[::]:5900"), "-vnc [::]:0,password=on");
    assert_eq!(
        of(DisplayProtocol::Spice, "[::1]:5902"),
        "-spice addr=::1,tls-port=5902,x509-dir=/var/lib/handover/machines/1/screen,seamless-migration=off"
    );
}

#[test]
fn the_agents_of_the_guest_and_of_spice_share_a_controller() {
    let display =
        Some(Display { protocol: DisplayProtocol::Spice, video_memory: None, listen: None });
    let plain = MachineOptions { agent: true, ..MachineOptions::default() };
    let spec = MachineSpec { options: plain.clone(), ..machine() };
    insta::assert_snapshot!(shown(&spec, &environment()));
    assert_eq!(device_ids(&spec), ["agent0"]);
    let spec = MachineSpec { options: MachineOptions { display, ..plain }, ..machine() };
    let text = shown(&spec, &environment());
    assert_eq!(text.matches("virtio-serial-pci").count(), 1, "{text}");
    assert_eq!(text.matches("\"driver\":\"virtserialport\"").count(), 2, "{text}");
    assert_eq!(
        agent_socket().join(" "),
        "-chardev socket,id=guest-agent,fd={fd},server=on,wait=off"
    );
}

#[test]
fn secure_boot_and_a_tpm() {
    let firmware = Firmware::UefiSecure;
    let options = MachineOptions { firmware, tpm: true, ..MachineOptions::default() };
    let spec = MachineSpec { disk: root_disk(DiskFormat::Qcow2), options, ..machine() };
    let nvram = "/var/lib/handover/machines/1/nvram.fd".into();
    let firmware = Some(("/usr/share/OVMF/OVMF_CODE_4M.ms.fd".into(), nvram));
    let environment =
        Environment { firmware, accelerator: Accelerator::Kvm { group: None }, ..environment() };
    insta::assert_snapshot!(shown(&spec, &environment));
    assert_eq!(device_ids(&spec), ["disk0", "tpm"]);
    assert_eq!(
        tpm_backend().join(" "),
        "-chardev socket,id=swtpm,fd={fd} -tpmdev emulator,id=emulator,chardev=swtpm"
    );
}

#[test]
fn a_domain_of_more_than_four_digits_goes_by_path() {
    let spec = MachineSpec { slots: vec![slot(&["10000:e1:00.0"])], ..machine() };
    insta::assert_snapshot!(shown(&spec, &environment()));
}

#[test]
fn ten_slots_share_two_slots_of_the_root_complex() {
    let slots = (1..=10).map(|bus| slot(&[&format!("0000:{bus:02x}:00.0")]).at(bus - 1)).collect();
    let spec = MachineSpec { slots, ..machine() };
    let text = shown(&spec, &environment());
    let ports: Vec<&str> = text.lines().filter(|line| line.contains("pcie-root-port")).collect();
    insta::assert_snapshot!(ports.join("\n"));
}

#[test]
fn odd_characters_begin_no_option() {
    let spec = MachineSpec {
        name: "a,process=b\"=c d".into(),
        disk: Some(MachineDisk {
            base: "/srv/a,b\"c/disk".into(),
            format: DiskFormat::Raw,
            size: None,
        }),
        kernel: kernel(),
        ..machine()
    };
    insta::assert_snapshot!(shown(&spec, &environment()));
    let console = console_socket("/srv/x,mux=on/console.log".as_ref()).unwrap().join(" ");
    assert_eq!(
        console,
        "-chardev socket,id=console,fd={fd},server=on,wait=off,logfile=/srv/x,,mux=on/console.log,logappend=on"
    );
}

#[test]
fn a_path_that_is_no_text_is_an_error() {
    use std::os::unix::ffi::OsStrExt;
    let kernel = std::ffi::OsStr::from_bytes(b"/srv/\xff").into();
    let boot = KernelBoot { kernel, initrd: None, cmdline: String::new() };
    let spec = MachineSpec { kernel: Some(boot), ..machine() };
    assert!(arguments(&spec, &environment()).is_err());
}

#[test]
fn every_device_has_the_name_that_is_looked_for() {
    let spec = MachineSpec {
        disk: root_disk(DiskFormat::Raw),
        slots: vec![slot(&["0000:01:00.0", "0000:01:00.1"]), slot(&["0000:02:00.0"]).at(1)],
        ..machine()
    };
    let ids = device_ids(&spec);
    assert_eq!(ids, ["disk0", "hd0f0", "hd0f1", "hd1f0"]);
    let text = shown(&spec, &environment());
    for id in ids {
        assert!(text.contains(&format!("\"id\":\"{id}\"")), "{id}");
    }
}

#[test]
fn devices_keep_their_ports_and_others_can_come() {
    let spare = model::SparePorts { count: 2, devices: Vec::new() };
    // Another one has left port 0.
    let slots = vec![slot(&["0000:01:00.0", "0000:01:00.1"]).at(1)];
    let spec = MachineSpec { slots, spare, ..machine() };
    let space = crate::qemu::mmio_window::plan(Path::new("/nowhere"), &spec, true);
    insta::assert_snapshot!(shown(&spec, &Environment { space, ..environment() }));
    let far = MachineSpec { slots: vec![slot(&["0000:01:00.0"]).at(6)], ..spec };
    let text = shown(&far, &environment());
    assert_eq!(text.matches("\"pcie-root-port\"").count(), 1 + 7, "{text}");
}
