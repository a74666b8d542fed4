//! Firmware, network and first boot of a machine: what is chosen, what is refused, and what earlier versions left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{CardWish, CreateInstance, FirstBoot, Instance, NetworkWish, RomWish};
use model::{
    CardLink, Code, CpuLayout, Display, DisplayProtocol, Firmware, Forward, HostCpu, HugeMemory,
    HugePagesUse, HugePool, Mac, PlacementUse, Refusal,
};
use support::{GPU, Rig, wish};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEIzSZpMd6Wo7LhbSiXGD6pBJHBVe9pT/PcQ1B8gYKNn me@here";

fn ssh() -> FirstBoot {
    FirstBoot { ssh_keys: vec![KEY.into()], ..FirstBoot::default() }
}

fn user(mac: Option<&str>, forwards: &[&str]) -> NetworkWish {
    NetworkWish::Cards(vec![CardWish {
        link: CardLink::User,
        mac: mac.map(|text| text.parse().unwrap()),
        forwards: forwards.iter().map(|text| text.parse().unwrap()).collect(),
    }])
}

fn create(rig: &Rig, request: CreateInstance) -> Result<Instance, Refusal> {
    rig.open().instances().create(request)
}

#[test]
fn a_password_is_in_the_seed_as_a_hash_and_not_for_ssh() {
    let rig = Rig::ready();
    let hash = format!("$6$salt${}", "x".repeat(86));
    let with = |hash: &str| FirstBoot { password_hash: Some(hash.into()), ..FirstBoot::default() };
    let created = create(&rig, CreateInstance { first_boot: with(&hash), ..wish("a", &[]) });
    let seed = created.unwrap().options.seed.unwrap();
    let config = seed.vendor_data.strip_prefix("#cloud-config\n").unwrap();
    let config: serde_json::Value = serde_json::from_str(config).unwrap();
    let expected = serde_json::json!({
        "password": hash, "chpasswd": { "expire": false }, "ssh_pwauth": false,
    });
    assert_eq!(config, expected);
    let request = CreateInstance { first_boot: with("secret"), ..wish("b", &[]) };
    let refusal = create(&rig, request).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidRequest);
    assert!(!format!("{refusal:?}").contains("secret"));
}

#[test]
fn a_disk_image_has_uefi_and_a_network_card_of_its_own() {
    let rig = Rig::ready();
    let first = create(&rig, wish("a", &[])).unwrap().options;
    let second = create(&rig, wish("b", &[])).unwrap().options;
    assert_eq!(first.firmware, Firmware::Uefi);
    assert_eq!(first.seed, None, "nothing was asked for the first boot");
    assert_eq!(first.cards.len(), 1);
    assert!(first.cards[0].forwards.is_empty());
    assert_eq!(first.cards[0].mac.0[..3], [0x52, 0x54, 0]);
    assert_ne!(first.cards[0].mac, second.cards[0].mac);
    let shown = rig.open().instances().find("a").unwrap();
    assert_eq!(shown.options, first, "they are stored");
}

#[test]
fn what_is_asked_for_is_done() {
    let rig = Rig::ready();
    let request = CreateInstance {
        firmware: Some(Firmware::Bios),
        network: NetworkWish::OFF,
        ..wish("plain", &[])
    };
    let plain = create(&rig, request).unwrap().options;
    assert_eq!((plain.firmware, plain.cards.len()), (Firmware::Bios, 0));
    let network = user(Some("52:54:00:00:00:01"), &["8080:80", "5353:53/udp"]);
    let card = create(&rig, CreateInstance { network, ..wish("web", &[]) }).unwrap().options.cards;
    assert_eq!(card[0].mac, "52:54:00:00:00:01".parse::<Mac>().unwrap());
    let shown: Vec<String> = card[0].forwards.iter().map(Forward::to_string).collect();
    assert_eq!(shown, ["127.0.0.1:8080:80/tcp", "127.0.0.1:5353:53/udp"]);
}

#[test]
fn a_key_makes_a_seed_with_a_host_key_and_a_port() {
    let rig = Rig::ready();
    rig.launcher.set_busy_port(22_000);
    let made = |name: &str| {
        create(&rig, CreateInstance { first_boot: ssh(), ..wish(name, &[]) }).unwrap().options
    };
    let (first, second) = (made("a"), made("b"));
    let port = |options: &model::MachineOptions| options.cards[0].forwards[0].to_string();
    assert_eq!(port(&first), "127.0.0.1:22001:22/tcp", "the first free one");
    assert_eq!(port(&second), "127.0.0.1:22002:22/tcp", "another instance has the first one");
    let seed = first.seed.unwrap();
    let meta: serde_json::Value = serde_json::from_str(&seed.meta_data).unwrap();
    assert_eq!(meta["local-hostname"], "a");
    assert_eq!(meta["public-keys"][0], KEY);
    let vendor = seed.vendor_data.strip_prefix("#cloud-config\n").unwrap();
    let vendor: serde_json::Value = serde_json::from_str(vendor).unwrap();
    let host_key = seed.host_key.unwrap();
    assert_eq!(vendor["ssh_keys"]["ed25519_public"], host_key.as_str());
    let private = vendor["ssh_keys"]["ed25519_private"].as_str().unwrap();
    let private = ssh_key::PrivateKey::from_openssh(private).unwrap();
    assert_eq!(private.public_key().to_openssh().unwrap(), host_key, "both halves are one key");
    assert_ne!(second.seed.unwrap().host_key.unwrap(), host_key, "each machine has its own");
}

#[test]
fn a_chosen_port_for_ssh_is_kept() {
    let rig = Rig::ready();
    let network = user(None, &["2222:22"]);
    let request = CreateInstance { first_boot: ssh(), network, ..wish("a", &[]) };
    let cards = create(&rig, request).unwrap().options.cards;
    assert_eq!(cards[0].forwards, ["2222:22".parse().unwrap()]);
}

#[test]
fn two_instances_cannot_have_one_port_or_hardware_address() {
    let rig = Rig::ready();
    let with = |name: &str, network| CreateInstance { network, ..wish(name, &[]) };
    create(&rig, with("a", user(Some("52:54:00:00:00:01"), &["8080:80"]))).unwrap();
    let code = |network| create(&rig, with("b", network)).unwrap_err().code;
    assert_eq!(code(user(None, &["8080:81"])), Code::PortInUse);
    assert_eq!(code(user(None, &["0.0.0.0:8080:80"])), Code::PortInUse);
    assert_eq!(code(user(None, &["9000:80", "9000:81"])), Code::PortInUse);
    assert_eq!(code(user(None, &["9000:80", "127.0.0.2:9000:80"])), Code::PortInUse);
    assert_eq!(code(user(Some("52:54:00:00:00:01"), &[])), Code::Conflict);
    assert_eq!(code(user(Some("53:54:00:00:00:02"), &[])), Code::InvalidRequest);
    rig.launcher.set_busy_port(9001);
    assert_eq!(code(user(None, &["9001:80"])), Code::PortInUse);
    let engine = rig.open();
    assert!(engine.instances().find("b").is_err(), "nothing is left");
    assert_eq!(rig.launcher.files().len(), 1);
}

#[test]
fn a_machine_has_cards_on_bridges_that_exist() {
    let rig = Rig::ready();
    let card = |name: &str, mac: Option<&str>| CardWish {
        link: CardLink::Bridge { bridge: name.into() },
        mac: mac.map(|text| text.parse().unwrap()),
        forwards: Vec::new(),
    };
    let with = |name: &str, cards| {
        create(&rig, CreateInstance { network: NetworkWish::Cards(cards), ..wish(name, &[]) })
    };
    let mac = Some("52:54:00:00:00:01");
    let user = CardWish::default();
    let cards = with("a", vec![user, card("br0", mac), card("br0", None)]).unwrap().options.cards;
    let modes: Vec<&str> = cards.iter().map(|card| card.link.mode()).collect();
    assert_eq!(modes, ["user", "bridge", "bridge"]);
    assert_ne!(cards[1].mac, cards[2].mac);
    let code = |cards| with("b", cards).unwrap_err().code;
    assert_eq!(code(vec![card("br0", mac)]), Code::Conflict, "another machine has the address");
    let twice = Some("52:54:00:00:00:02");
    assert_eq!(code(vec![card("br0", twice), card("br0", twice)]), Code::Conflict);
    assert_eq!(code(vec![card("br 0", None)]), Code::InvalidRequest);
    rig.open().instances().stop("a").unwrap();
    rig.launcher.set_no_bridge();
    let refusal = rig.open().instances().start("a").unwrap_err();
    assert_eq!(refusal.code, Code::NetworkUnavailable);
    assert!(refusal.message.contains("br0"), "{refusal:?}");
    assert_eq!(code(vec![card("br0", None)]), Code::NetworkUnavailable);
    assert!(rig.open().instances().find("b").is_err(), "nothing is left");
}

#[test]
fn memory_is_in_huge_pages_of_the_devices_node() {
    let rig = Rig::ready();
    let request = |name: &str, huge_pages| CreateInstance { huge_pages, ..wish(name, &["gpu"]) };
    let refusal = create(&rig, request("a", HugePagesUse::Required)).unwrap_err();
    assert_eq!(refusal.code, Code::InsufficientResources);
    assert!(refusal.message.contains("huge pages"), "{refusal:?}");
    assert_eq!(rig.host.snapshot(), rig.before, "nothing was changed");
    let launched = |instance: &Instance| rig.launcher.launched(instance.id).unwrap().huge_pages;
    let without = create(&rig, request("a", HugePagesUse::Auto)).unwrap();
    assert_eq!(launched(&without), None, "auto does without");
    rig.open().instances().delete("a").unwrap();
    let node = rig.open().functions(&[GPU.parse().unwrap()]).unwrap();
    let node = node.functions.values().next().unwrap().numa_node;
    let pool = HugePool { node, page: 2 << 20, free: 4096 };
    rig.host.set_huge_pools(vec![pool]);
    let with = create(&rig, request("a", HugePagesUse::Required)).unwrap();
    assert_eq!(launched(&with), Some(HugeMemory { page: 2 << 20, node }));
    rig.host.set_huge_pools(Vec::new());
    let engine = rig.open();
    engine.instances().stop("a").unwrap();
    assert_eq!(engine.instances().start("a").unwrap_err().code, Code::InsufficientResources);
}

/// Two machines beside the same GPU's node never share a core; cores of a machine that was stopped are free.
#[test]
fn a_machine_has_cores_beside_its_device() {
    let rig = Rig::ready();
    let node = rig.open().functions(&[GPU.parse().unwrap()]).unwrap();
    let node = node.functions.values().next().unwrap().numa_node;
    let cpu = |number| HostCpu { number, node: node.unwrap_or(0), core: number, isolated: false };
    rig.host.set_cpu_layout(CpuLayout {
        cpus: (0..4).map(cpu).collect(),
        nodes: [(node.unwrap_or(0), 64 << 30)].into(),
    });
    let request = |name: &str, device, placement| CreateInstance {
        placement,
        vcpus: Some(2),
        ..wish(name, &[device])
    };
    let placed = |one: &Instance| rig.launcher.launched(one.id).unwrap().placement;
    let first = create(&rig, request("a", "gpu", PlacementUse::Required)).unwrap();
    assert_eq!(placed(&first).unwrap().cpus, [2, 3]);
    let refusal = create(&rig, request("b", "nic", PlacementUse::Required)).unwrap_err();
    assert_eq!(refusal.code, Code::InsufficientResources);
    assert!(refusal.message.contains("processors of its own"), "{refusal:?}");
    let second = create(&rig, request("b", "nic", PlacementUse::Auto)).unwrap();
    assert!(placed(&second).unwrap().cpus.is_empty(), "auto does without");
    let engine = rig.open();
    engine.instances().stop("a").unwrap();
    engine.instances().stop("b").unwrap();
    let again = engine.instances().start("b").unwrap();
    assert_eq!(placed(&again).unwrap().cpus, [2, 3], "they are free");
}

#[test]
fn a_machine_that_could_not_be_pinned_holds_no_cores() {
    let rig = Rig::ready();
    let node = rig.open().functions(&[GPU.parse().unwrap()]).unwrap();
    let node = node.functions.values().next().unwrap().numa_node.unwrap_or(0);
    let cpu = |number| HostCpu { number, node, core: number, isolated: false };
    let cpus = (0..4).map(cpu).collect();
    rig.host.set_cpu_layout(CpuLayout { cpus, nodes: [(node, 64 << 30)].into() });
    rig.launcher.refuse_pins();
    let placement = PlacementUse::Auto;
    let request = CreateInstance { placement, vcpus: Some(2), ..wish("a", &["gpu"]) };
    let instance = create(&rig, request).unwrap();
    let shown = rig.open().instances().find(&instance.name).unwrap();
    let placed = shown.options.placed.unwrap();
    assert!(placed.cpus.is_empty() && placed.held.is_empty(), "{placed:?}");
}

#[test]
fn a_port_that_was_taken_meanwhile_refuses_the_start() {
    let rig = Rig::ready();
    let network = user(None, &["8080:80"]);
    create(&rig, CreateInstance { network, ..wish("a", &[]) }).unwrap();
    let engine = rig.open();
    engine.instances().stop("a").unwrap();
    rig.launcher.set_busy_port(8080);
    let refusal = engine.instances().start("a").unwrap_err();
    assert_eq!(refusal.code, Code::PortInUse);
    assert!(refusal.remedy.contains("ss -ltnup"), "{refusal:?}");
}

#[test]
fn a_host_without_the_packages_says_which() {
    let rig = Rig::ready();
    rig.launcher.set_bare();
    let refusal = create(&rig, wish("a", &[])).unwrap_err();
    assert_eq!(refusal.code, Code::HypervisorMissing);
    assert!(refusal.remedy.contains("apt install ovmf"), "{refusal:?}");
    assert!(refusal.remedy.contains("--firmware bios"), "{refusal:?}");
    let bios = |name: &str| CreateInstance { firmware: Some(Firmware::Bios), ..wish(name, &[]) };
    let refusal = create(&rig, CreateInstance { first_boot: ssh(), ..bios("a") }).unwrap_err();
    assert!(refusal.remedy.contains("apt install passt"), "{refusal:?}");
    assert!(refusal.remedy.contains("--network none"), "{refusal:?}");
    let engine = rig.open();
    let instance = engine.instances().create(bios("a")).unwrap();
    assert!(instance.options.cards.is_empty(), "no network was asked for");
    let advice = engine.instances().advice(&instance, &NetworkWish::Usual);
    assert!(advice[0].contains("no network card: passt is not installed"), "{advice:?}");
}

#[test]
fn secure_boot_and_a_tpm_are_given_on_request() {
    let rig = Rig::ready();
    let request = |name: &str| CreateInstance {
        firmware: Some(Firmware::UefiSecure),
        tpm: true,
        ..wish(name, &[])
    };
    let options = create(&rig, request("a")).unwrap().options;
    assert_eq!((options.firmware, options.tpm), (Firmware::UefiSecure, true));
    assert_eq!(rig.open().instances().find("a").unwrap().options, options, "they are stored");
    assert!(!create(&rig, wish("b", &[])).unwrap().options.tpm, "not by default");
    rig.launcher.set_bare();
    let refusal = create(&rig, request("c")).unwrap_err();
    assert!(refusal.remedy.ends_with("apt install ovmf"), "no other firmware: {refusal:?}");
    let bios = CreateInstance { firmware: Some(Firmware::Bios), ..request("c") };
    let refusal = create(&rig, bios).unwrap_err();
    assert_eq!(refusal.code, Code::HypervisorMissing);
    assert!(refusal.remedy.ends_with("apt install swtpm"), "{refusal:?}");
}

#[test]
fn what_cannot_configure_a_guest_is_refused() {
    let rig = Rig::ready();
    let refused = |first_boot: FirstBoot| {
        create(&rig, CreateInstance { first_boot, ..wish("a", &[]) }).unwrap_err()
    };
    let key =
        |text: &str| refused(FirstBoot { ssh_keys: vec![text.into()], ..FirstBoot::default() });
    let data = |text: String| refused(FirstBoot { user_data: Some(text), ..FirstBoot::default() });
    let name =
        |text: &str| refused(FirstBoot { hostname: Some(text.into()), ..FirstBoot::default() });
    for (refusal, says) in [
        (key("-----BEGIN OPENSSH PRIVATE KEY-----"), "private one"),
        (key("ssh-ed25519 AAAA"), "not a public SSH key"),
        (key(&format!("{KEY}\n{KEY}")), "more than one line"),
        (data("packages: [git]\n".into()), "ignore the user-data"),
        (data("#cloud-config\npackages: [git\n".into()), "not YAML"),
        (data(format!("#!/bin/sh\n{}", "#".repeat(300_000))), "more than"),
        (name("a_b"), "not a host name"),
        (name("-a"), "not a host name"),
        (name(""), "not a host name"),
    ] {
        assert_eq!(refusal.code, Code::InvalidRequest);
        assert!(refusal.message.contains(says), "{refusal:?}");
    }
}

/// A machine of an earlier version is started as it was: with its BIOS, and without a network card.
#[test]
fn a_machine_of_an_earlier_version_stays_as_it_was() {
    let rig = Rig::ready();
    create(&rig, wish("old", &["gpu"])).unwrap();
    let engine = rig.open();
    engine.instances().stop("old").unwrap();
    drop(engine);
    rig.sqlite().execute("UPDATE instances SET options = NULL", []).unwrap();
    let (engine, _) = rig.open_recovered();
    let started = engine.instances().start("old").unwrap();
    let device_access = started.options.device_access;
    assert!(device_access.is_some(), "it is chosen at each start");
    let expected = model::MachineOptions { device_access, ..Default::default() };
    assert_eq!(started.options, expected);
    assert_eq!(started.options.firmware, Firmware::Bios);
}

#[test]
fn a_rom_is_for_a_device_of_the_machine_and_goes_with_it() {
    let rig = Rig::ready();
    let mut content = vec![0; 1024];
    content[..2].copy_from_slice(&[0x55, 0xaa]);
    let rom = |device: &str, content: Option<&Vec<u8>>| RomWish {
        device: device.into(),
        content: content.cloned(),
    };
    let with = |name: &str, roms: Vec<RomWish>| {
        create(&rig, CreateInstance { roms, ..wish(name, &[support::GPU, "nic"]) })
    };
    for (roms, why) in [
        (vec![rom(support::NVME, Some(&content))], "not among the devices"),
        (vec![rom(support::GPU, None), rom(support::GPU, None)], "two ROMs"),
        (vec![rom(support::GPU, Some(&vec![0; 1024]))], "55 aa"),
    ] {
        let refusal = with("a", roms).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidRequest);
        assert!(refusal.message.contains(why), "{refusal}");
    }
    let asked = vec![rom(support::GPU, Some(&content)), rom(support::NIC, None)];
    let made = with("a", asked).unwrap();
    let engine = rig.open();
    let there = engine.instances().find("a").unwrap();
    let roms = &there.options.roms;
    assert!(roms[0].has_file && roms[0].bar && !roms[1].bar, "{roms:?}");
    assert!(roms[0].content.is_empty(), "it is a file, not in the store");
    assert_eq!(engine.instances().rom(&there, &roms[0]), Some(content));
    engine.instances().stop("a").unwrap();
    engine.instances().start("a").unwrap();
    engine.instances().delete("a").unwrap();
    assert_eq!(engine.instances().rom(&made, &roms[0]), None);
}

#[test]
fn screens_on_addresses_get_ports_and_passwords_of_their_own() {
    let rig = Rig::ready();
    let with = |name: &str, listen: &str| {
        let listen = Some(listen.parse().unwrap());
        let display = Some(Display { protocol: DisplayProtocol::Vnc, video_memory: None, listen });
        create(&rig, CreateInstance { display, ..wish(name, &[]) })
    };
    rig.launcher.set_busy_port(5900);
    let first = with("a", "127.0.0.1:0").unwrap().options;
    assert_eq!(first.screen().unwrap().to_string(), "127.0.0.1:5901", "5900 is busy");
    let second = with("b", "0.0.0.0:0").unwrap().options;
    assert_eq!(second.screen().unwrap().to_string(), "0.0.0.0:5902");
    assert_ne!(first.display_password, second.display_password);
    for (listen, why) in [("127.0.0.1:5902", "of this or another"), ("127.0.0.1:5900", "listens")] {
        let refusal = with("c", listen).unwrap_err();
        assert_eq!(refusal.code, Code::PortInUse);
        assert!(refusal.message.contains(why), "{refusal}");
    }
    let engine = rig.open();
    let access = engine.instances().screen_access("a").unwrap();
    assert_eq!(access.password.reveal().len(), 8);
    assert!(
        !format!("{:?}", engine.instances().find("a").unwrap()).contains(access.password.reveal())
    );
    drop(engine);
    create(&rig, wish("d", &[])).unwrap();
    assert_eq!(rig.open().instances().screen_access("d").unwrap_err().code, Code::InvalidState);
}
