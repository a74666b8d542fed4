//! Changing the machine of a stopped instance: cards, devices, firmware.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{CardWish, ChangeInstance, ChangeMachine, DeviceWish, Engine, Instance, NetworkWish};
use model::{CardLink, Code, Display, DisplayProtocol, Firmware, Refusal, Secret, Step, Topology};
use support::{AMD, GPU, NIC, Rig, wish};

fn change(engine: &Engine, machine: ChangeMachine) -> Result<Instance, Refusal> {
    let change = ChangeInstance { machine, ..ChangeInstance::default() };
    engine.instances().change("vm", change).map(|changed| changed.instance)
}

fn devices(wishes: &[&str]) -> ChangeMachine {
    let wish = |text: &&str| match text.parse() {
        Ok(want) if !["gpu", "amd", "nic"].contains(text) => DeviceWish::Wanted(want),
        _ => DeviceWish::Registered((*text).to_owned()),
    };
    let devices = Some(wishes.iter().map(wish).collect());
    ChangeMachine { devices, ..ChangeMachine::default() }
}

/// The addresses of an instance's devices, in the guest's order.
fn heads(engine: &Engine) -> Vec<String> {
    engine
        .instances()
        .devices()
        .unwrap()
        .iter()
        .map(|device| device.part.head.to_string())
        .collect()
}

#[test]
fn a_stopped_instance_gets_other_devices() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
    assert_eq!(change(&engine, devices(&["nic"])).unwrap_err().code, Code::InvalidState);
    engine.instances().stop("vm").unwrap();
    change(&engine, devices(&["nic", "gpu"])).unwrap();
    assert_eq!(heads(&engine), [NIC, GPU]);
    // A device that it has can be asked for in other words.
    let changed = change(&engine, devices(&[NIC, "amd"])).unwrap();
    assert_eq!((heads(&engine), changed.devices.len()), (vec![NIC.into(), AMD.into()], 2));
    engine.instances().create(wish("other", &["gpu"])).unwrap();
    let taken = change(&engine, devices(&["nic", "gpu"])).unwrap_err();
    assert_eq!(taken.code, Code::InUse, "{taken:?}");
    assert_eq!(heads(&engine).len(), 3, "nothing was changed");
    engine.instances().delete("other").unwrap();
    drop(engine);
    let engine = rig.open();
    engine.instances().start("vm").unwrap();
    let launched = rig.launcher.launched(engine.instances().find("vm").unwrap().id).unwrap();
    assert_eq!(launched.slots.len(), 2);
    engine.instances().stop("vm").unwrap();
    change(&engine, devices(&[])).unwrap();
    assert_eq!(rig.host.snapshot(), rig.before, "all devices are as before");
    assert_eq!(heads(&engine), [""; 0]);
}

#[test]
fn cards_in_the_place_of_others_keep_their_hardware_address() {
    let rig = Rig::ready();
    let engine = rig.open();
    let before = engine.instances().create(wish("vm", &[])).unwrap().options.cards;
    engine.instances().stop("vm").unwrap();
    let bridge =
        CardWish { link: CardLink::Bridge { bridge: "br0".into() }, ..CardWish::default() };
    let cards = |cards| {
        let network = Some(NetworkWish::Cards(cards));
        change(&engine, ChangeMachine { network, ..ChangeMachine::default() })
    };
    let changed = cards(vec![bridge.clone(), CardWish::default()]).unwrap().options.cards;
    assert_eq!(changed[0].mac, before[0].mac);
    assert_ne!(changed[1].mac, before[0].mac);
    let moved = CardWish { mac: Some(before[0].mac), ..CardWish::default() };
    let moved = cards(vec![bridge.clone(), moved]).unwrap().options.cards;
    assert_eq!(moved[1].mac, before[0].mac, "it was asked for");
    assert_ne!(moved[0].mac, before[0].mac);
    rig.launcher.set_no_bridge();
    assert_eq!(cards(vec![bridge]).unwrap_err().code, Code::NetworkUnavailable);
    assert_eq!(cards(Vec::new()).unwrap().options.cards, []);
}

#[test]
fn a_change_that_is_refused_gives_no_device_back() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
    engine.instances().stop("vm").unwrap();
    let held = rig.host.snapshot();
    assert_ne!(held, rig.before, "it is bound to vfio-pci");
    rig.launcher.set_busy_port(9999);
    let forwards = vec!["9999:80".parse().unwrap()];
    let network = Some(NetworkWish::Cards(vec![CardWish { forwards, ..CardWish::default() }]));
    let refused = change(&engine, ChangeMachine { network, ..devices(&["nic"]) }).unwrap_err();
    assert_eq!(refused.code, Code::PortInUse);
    assert_eq!(rig.host.snapshot(), held);
}

#[test]
fn a_firmware_that_is_not_there_changes_nothing() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().create(wish("vm", &[])).unwrap();
    engine.instances().stop("vm").unwrap();
    let firmware = |one| ChangeMachine { firmware: Some(one), ..ChangeMachine::default() };
    change(&engine, firmware(Firmware::Bios)).unwrap();
    rig.launcher.set_bare();
    let refused = change(&engine, firmware(Firmware::UefiSecure)).unwrap_err();
    assert_eq!(refused.code, Code::HypervisorMissing);
    assert_eq!(engine.instances().find("vm").unwrap().options.firmware, Firmware::Bios);
}

#[test]
fn the_variables_of_another_firmware_are_removed_only_when_it_is_recorded_and_started() {
    let rig = Rig::ready();
    let engine = rig.open();
    let id = engine.instances().create(wish("vm", &[])).unwrap().id;
    engine.instances().stop("vm").unwrap();
    let firmware = |engine: &Engine, one| {
        change(engine, ChangeMachine { firmware: Some(one), ..ChangeMachine::default() }).unwrap();
    };
    // Back to the first one: nothing is lost.
    firmware(&engine, Firmware::UefiSecure);
    firmware(&engine, Firmware::Bios);
    firmware(&engine, Firmware::Uefi);
    engine.instances().start("vm").unwrap();
    engine.instances().stop("vm").unwrap();
    assert_eq!(rig.launcher.forgotten(id), 0);
    // The process dies after the change: the next one removes them, once.
    firmware(&engine, Firmware::UefiSecure);
    assert_eq!(rig.launcher.forgotten(id), 0);
    let engine = rig.open_again(engine);
    for _ in 0..2 {
        engine.instances().start("vm").unwrap();
        engine.instances().stop("vm").unwrap();
        assert_eq!(rig.launcher.forgotten(id), 1);
    }
    // It dies at each boundary of the start: they are removed before the machine runs.
    for boundary in 0.. {
        let rig = Rig::ready();
        let engine = rig.open();
        engine.instances().create(wish("vm", &[])).unwrap();
        engine.instances().stop("vm").unwrap();
        firmware(&engine, Firmware::UefiSecure);
        drop(engine);
        let lived = rig.killed_at(boundary, |engine| drop(engine.instances().start("vm")));
        let (engine, _) = rig.open_recovered();
        let instance = engine.instances().find("vm").unwrap();
        assert_eq!(instance.options.firmware, Firmware::UefiSecure);
        if !rig.launcher.running().contains(&instance.id) {
            engine.instances().start("vm").unwrap();
        }
        assert_eq!(rig.launcher.forgotten(instance.id), 1, "boundary {boundary}");
        if lived {
            break;
        }
    }
}

#[test]
fn a_stopped_instance_gets_another_name_screen_and_arrangement_of_processors() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().create(wish("vm", &[])).unwrap();
    engine.instances().stop("vm").unwrap();
    let named = |name: &str| ChangeMachine { hostname: Some(name.into()), ..Default::default() };
    let seed = change(&engine, named("dev")).unwrap().options.seed.unwrap();
    assert_eq!(seed.hostname, "dev");
    let renamed = change(&engine, named("db.example.com")).unwrap().options.seed.unwrap();
    assert!(renamed.meta_data.contains("\"local-hostname\": \"db.example.com\""));
    let id = |seed: &model::Seed| {
        let line = seed.meta_data.lines().find(|line| line.contains("instance-id"));
        line.map(|line| line.trim_end_matches(',').to_owned())
    };
    assert_eq!(id(&renamed), id(&seed), "the same instance for cloud-init");
    assert_eq!(change(&engine, named("a b")).unwrap_err().code, Code::InvalidRequest);

    let arranged = |vcpus, sockets, cores, threads| {
        let topology = Some(Topology { sockets, cores, threads });
        change(&engine, ChangeMachine { vcpus, topology, ..Default::default() })
    };
    let changed = arranged(None, 1, 4, 2).unwrap();
    assert_eq!((changed.vcpus, changed.options.cpu.topology.map(|all| all.cores)), (8, Some(4)));
    assert_eq!(arranged(Some(4), 1, 4, 2).unwrap_err().code, Code::InvalidRequest);
    assert_eq!(arranged(None, 1, 4096, 2).unwrap_err().code, Code::InvalidRequest);
    let plain = ChangeMachine { vcpus: Some(2), hide_kvm: Some(true), ..Default::default() };
    let cpu = change(&engine, plain).unwrap().options.cpu;
    assert_eq!((cpu.topology, cpu.hide_kvm), (None, true));

    let screen = |display: Option<Display>, password: Option<&str>| {
        let password = password.map(|text| Secret::new(text.into()));
        let display = Some(display.map(|display| (display, password)));
        change(&engine, ChangeMachine { display, ..Default::default() })
    };
    let listen = Some("127.0.0.1:5907".parse().unwrap());
    let vnc = Display { protocol: DisplayProtocol::Vnc, video_memory: None, listen };
    for _ in 0..2 {
        let options = screen(Some(vnc), Some("secret")).unwrap().options;
        assert_eq!(options.display, Some(vnc), "its own port is not taken by itself");
        assert_eq!(options.display_password.unwrap().reveal(), "secret");
    }
    let spice = Display { protocol: DisplayProtocol::Spice, video_memory: None, listen: None };
    let options = screen(Some(spice), None).unwrap().options;
    assert_eq!((options.display, options.display_password), (Some(spice), None));
    assert_eq!(screen(Some(spice), Some("x")).unwrap_err().code, Code::InvalidRequest);
    assert_eq!(screen(None, None).unwrap().options.display, None);
}

#[test]
fn what_another_tool_changed_is_told_when_a_device_is_given_back() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().create(wish("vm", &["nic"])).unwrap();
    engine.instances().stop("vm").unwrap();
    let address = support::at(NIC);
    let foreign = Step::SetOverride {
        address,
        from: Some("vfio-pci".into()),
        to: Some("another-driver".into()),
    };
    rig.host.meddle(&foreign).unwrap();
    let change = ChangeInstance { machine: devices(&[]), ..ChangeInstance::default() };
    let notes = engine.instances().change("vm", change).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains(NIC)), "{notes:?}");
}

#[test]
fn refusals_of_too_many_devices_lead_out() {
    let rig = Rig::ready();
    let engine = rig.open();
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
    engine.instances().stop("vm").unwrap();
    let refused = |wishes: &[&str]| change(&engine, devices(wishes)).unwrap_err();
    for text in ["99xgpu", "3xgpu"] {
        let refusal = refused(&[text]);
        assert_eq!(refusal.remedy, "request at most 2: this host has no more", "{refusal:?}");
    }
    let pair = refused(&["2xgpu"]);
    assert!(pair.message.contains("not that many of one model"), "as at a creation: {pair:?}");
    for pair in [["gpu", "gpu"], [GPU, GPU], ["gpu", GPU]] {
        let refusal = refused(&pair);
        assert!(refusal.remedy.starts_with("name each device once"), "{pair:?}: {refusal:?}");
    }
    change(&engine, devices(&["gpu"])).unwrap();
    let rig = Rig::on(sim::server());
    let (engine, _) = rig.open_recovered();
    engine.vf_counts().set("0000:04:00.0", 4, true).unwrap();
    for wants in [
        ["profile=L40S-8Q@0000:04:00.0", "profile=L40S-48Q@0000:04:00.0"],
        ["profile=A100-10C", "profile=A100-40C"],
    ] {
        let step = engine::ClaimStep::Reserve;
        let request = engine::ClaimRequest { step, ..support::request("7", &wants) };
        let refusal = engine.claims().claim(&request).unwrap_err();
        assert!(refusal.message.contains("this request"), "{refusal:?}");
        assert!(refusal.remedy.starts_with("request fewer or smaller"), "{refusal:?}");
    }
}
