//! Addresses that devices have in the guest because a person chose them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{ChangeInstance, ChangeMachine, CreateInstance, DeviceWish, Engine};
use model::{Address, Code};
use support::{GPU, NIC, NVME, Rig, at, wish};

fn wants(all: &[&str]) -> Vec<DeviceWish> {
    all.iter().map(|text| DeviceWish::Wanted(text.parse().unwrap())).collect()
}

fn with(name: &str, devices: &[&str]) -> CreateInstance {
    CreateInstance { devices: wants(devices), ..wish(name, &[]) }
}

fn place(engine: &Engine, device: &str) -> Option<Address> {
    let vm = engine.instances().find("vm").unwrap();
    let all = engine.instances().guest_addresses(&vm);
    let source = model::GuestSource::Function(at(device));
    all.into_iter().find(|(one, _)| *one == source).map(|(_, place)| place)
}

#[test]
fn a_chosen_address_stays_over_restarts_and_other_devices() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(with("vm", &["nic", "gpu0,guest=06:00"])).unwrap_err();
    engine.instances().create(with("vm", &[NIC, "gpu,guest=06:00"])).unwrap();
    let chosen = at("0000:06:00.0");
    let gpu = [GPU, support::AMD].into_iter().find(|gpu| place(&engine, gpu).is_some()).unwrap();
    assert_eq!(place(&engine, gpu), Some(chosen));
    engine.instances().detach_device("vm", NIC, std::time::Duration::ZERO).unwrap();
    engine.instances().stop("vm").unwrap();
    let engine = rig.open_again(engine);
    engine.instances().start("vm").unwrap();
    assert_eq!(place(&engine, gpu), Some(chosen));
    let id = engine.instances().find("vm").unwrap().id;
    assert_eq!(rig.launcher.launched(id).unwrap().slots[0].bus.unwrap().number(), 6);
    // What made the instance is told with the address.
    let vm = engine.instances().find("vm").unwrap();
    let wishes = engine.instances().wishes(&vm).unwrap();
    assert_eq!(wishes, wants(&["gpu,guest=06:00"]));
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("at the end");
}

#[test]
fn two_devices_cannot_have_one_address() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let twice = with("vm", &["gpu,guest=06:00", "nic,guest=06:00"]);
    for refused in [
        engine.instances().create(twice.clone()).unwrap_err(),
        engine.instances().outline(twice).unwrap_err(),
    ] {
        assert_eq!(refused.code, Code::InvalidRequest, "{refused}");
        assert!(refused.message.contains("06:00"), "{refused}");
    }
    rig.assert_untouched("refused");
    engine.instances().create(with("vm", &["gpu,guest=03:00"])).unwrap();
    let nic = &wants(&[&format!("{NIC},guest=03:00")])[0];
    let refused = engine.instances().attach_device("vm", nic).unwrap_err();
    assert_eq!(refused.code, Code::InvalidRequest, "{refused}");
    engine.instances().stop("vm").unwrap();
    let devices = Some(wants(&["gpu,guest=05:00", &format!("{NVME},guest=05:00")]));
    let machine = ChangeMachine { devices, ..ChangeMachine::default() };
    let change = ChangeInstance { machine, ..ChangeInstance::default() };
    assert_eq!(engine.instances().change("vm", change).unwrap_err().code, Code::InvalidRequest);
}

#[test]
fn a_running_machine_has_only_the_buses_of_its_ports() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(with("vm", &[])).unwrap();
    let far = &wants(&[&format!("{NIC},guest=20:00")])[0];
    let refused = engine.instances().attach_device("vm", far).unwrap_err();
    assert_eq!(refused.code, Code::InsufficientResources, "{refused}");
    let near = &wants(&[&format!("{NIC},guest=03:00")])[0];
    engine.instances().attach_device("vm", near).unwrap();
    assert_eq!(place(&engine, NIC), Some(at("0000:03:00.0")));
    // A stopped one gets any bus at its next start.
    engine.instances().stop("vm").unwrap();
    let far = &wants(&[&format!("{NVME},guest=20:00")])[0];
    engine.instances().attach_device("vm", far).unwrap();
    engine.instances().start("vm").unwrap();
    assert_eq!(place(&engine, NVME), Some(at("0000:20:00.0")));
    assert_eq!(place(&engine, NIC), Some(at("0000:03:00.0")));
}

#[test]
fn an_outline_shows_the_address() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let outline = engine.instances().outline(with("vm", &[&format!("{GPU},guest=06:00")])).unwrap();
    let choice = outline.choices.iter().find(|choice| choice.value == "06:00").unwrap();
    assert!(choice.item.contains(GPU), "{choice:?}");
}
