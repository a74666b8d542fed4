//! Changing the machine of a stopped instance: cards, devices, firmware.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{CardWish, ChangeInstance, ChangeMachine, DeviceWish, Engine, Instance, NetworkWish};
use model::{CardLink, Code, Firmware, Refusal};
use support::{AMD, GPU, NIC, Rig, wish};

fn change(engine: &Engine, machine: ChangeMachine) -> Result<Instance, Refusal> {
    let change = ChangeInstance { machine, ..ChangeInstance::default() };
    engine.instances().change("vm", change)
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
