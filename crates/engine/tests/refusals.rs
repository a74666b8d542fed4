//! Every refusal has its code and leaves the host unchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;

use engine::{CreateInstance, Engine, ImageSource, ImportImage, NetworkWish, RegisterDevice};
use model::{Address, Code, DiskFormat, Holder, Refusal};
use sim::Card;
use support::{GPU, GPU_AUDIO, NIC, Rig, register, wish};

fn refused(rig: &Rig, engine: &Engine, wish: CreateInstance, code: Code) -> Refusal {
    let before = rig.host.snapshot();
    let (claims, instances) =
        (engine.claims().all().unwrap(), engine.instances().all(&BTreeMap::new()).unwrap());
    let performed = rig.host.performed();
    let refusal = engine.instances().create(wish).unwrap_err();
    assert_eq!(refusal.code, code, "{refusal:?}");
    assert!(!refusal.message.is_empty() && !refusal.remedy.is_empty());
    assert_eq!(rig.host.snapshot(), before);
    assert_eq!(rig.host.performed(), performed, "nothing was even tried");
    assert_eq!(engine.claims().all().unwrap(), claims);
    assert_eq!(engine.instances().all(&BTreeMap::new()).unwrap(), instances);
    refusal
}

#[test]
fn bad_requests_change_nothing() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("taken", &["nic"])).unwrap();
    let vm = || wish("vm", &["gpu"]);
    let large = CreateInstance { memory: Some(1 << 50), ..vm() };
    let none = CreateInstance { vcpus: Some(0), ..vm() };
    let many = CreateInstance { vcpus: Some(1025), ..vm() };
    let image = CreateInstance { image: Some("missing".into()), ..vm() };
    let unheard = CreateInstance { hypervisor: Some("bochs".into()), ..vm() };
    let tight = CreateInstance { overlay_size: Some(1), ..vm() };
    let vast = CreateInstance { overlay_size: Some((16 << 40) + 1), ..vm() };
    let no_memory = CreateInstance { memory: Some(0), ..vm() };
    for (wish, code) in [
        (wish("Bad Name", &["gpu"]), Code::InvalidName),
        (wish("taken", &["gpu"]), Code::NameConflict),
        (wish("vm", &["gpu", "nothing"]), Code::NotFound),
        (wish("vm", &["gpu", GPU]), Code::InvalidRequest),
        (large, Code::InsufficientResources),
        (none, Code::InvalidRequest),
        (many, Code::InvalidRequest),
        (image, Code::NotFound),
        (unheard, Code::InvalidRequest),
        (tight, Code::InvalidSize),
        (vast, Code::InvalidSize),
        (no_memory, Code::InvalidSize),
    ] {
        refused(&rig, &engine, wish, code);
    }
    let in_use = refused(&rig, &engine, wish("vm", &["gpu", "nic"]), Code::InUse);
    assert!(in_use.message.contains("\"taken\""), "it names the owner: {in_use}");
    register(&engine, "gpu-audio", GPU_AUDIO).unwrap();
    refused(&rig, &engine, wish("vm", &["gpu", "gpu-audio"]), Code::Conflict);
    rig.launcher.set_missing(Some("qemu-system-x86_64 is not installed"));
    let missing = refused(&rig, &engine, wish("vm", &["gpu"]), Code::HypervisorMissing);
    assert!(missing.message.contains("qemu-system-x86_64"));
}

#[test]
fn an_address_that_is_not_registered_is_answered_with_how_to_register_it() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let refusal = refused(&rig, &engine, wish("vm", &[GPU_AUDIO]), Code::NotFound);
    assert_eq!(refusal.message, format!("{GPU_AUDIO} is not registered"));
    assert!(refusal.remedy.contains(&format!("handover device add {GPU_AUDIO}")), "{refusal:?}");
}

#[test]
fn more_virtual_cpus_than_the_host_has_are_noted() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let large = engine
        .instances()
        .create(CreateInstance { vcpus: Some(1024), ..wish("large", &[]) })
        .unwrap();
    let notes = engine.instances().advice(&large, &NetworkWish::OFF);
    assert!(notes.len() == 1 && notes[0].contains("1024 virtual CPUs"), "{notes:?}");
    let usual = engine.instances().create(wish("usual", &[])).unwrap();
    assert_eq!(engine.instances().advice(&usual, &NetworkWish::OFF), Vec::<String>::new());
}

#[test]
fn a_use_by_the_host_itself_has_its_own_remedy() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    rig.host.hold(Holder {
        address: NIC.parse().unwrap(),
        kind: model::HolderKind::Network,
        pid: None,
        started: None,
        program: None,
        user: "the host's default route".into(),
        by: "eth0".into(),
        mdev: None,
        interface: None,
    });
    let refusal = refused(&rig, &engine, wish("vm", &["nic"]), Code::InUse);
    assert!(refusal.remedy.contains("default route"), "{refusal:?}");
}

#[test]
fn a_device_in_use_is_not_taken() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    rig.host.hold(Holder {
        address: GPU_AUDIO.parse().unwrap(),
        kind: model::HolderKind::Process,
        pid: Some(4711),
        started: None,
        program: None,
        user: "pipewire (pid 4711)".into(),
        by: "/dev/snd/pcmC1D3p".into(),
        mdev: None,
        interface: None,
    });
    let refusal = refused(&rig, &engine, wish("vm", &["gpu"]), Code::InUse);
    assert!(refusal.message.contains("pid 4711"), "{refusal}");
}

#[test]
fn another_card_at_a_registered_address_is_refused() {
    let rig = Rig::new();
    rig.host.replace_card(GPU.parse().unwrap(), "00-00-00-ff-fe-00-00-01");
    let (engine, _) = rig.open_recovered();
    rig.import(&engine, "debian");
    register(&engine, "gpu", GPU).unwrap();
    rig.host.replace_card(GPU.parse().unwrap(), "00-00-00-ff-fe-00-00-02");
    refused(&rig, &engine, wish("vm", &["gpu"]), Code::FingerprintChanged);
}

#[test]
fn registering_reports_what_is_wrong() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let code = |name: &str, address: &str| register(&engine, name, address).unwrap_err().code;
    assert_eq!(code("x1", "a2:00"), Code::InvalidPciAddress);
    assert_eq!(code("x1", "0000:7f:00.0"), Code::DeviceNotFound);
    assert_eq!(code("x1", "0000:00:01.0"), Code::NotAssignable);
    assert_eq!(code("../x", GPU_AUDIO), Code::InvalidName);
    assert_eq!(code("gpu", GPU_AUDIO), Code::Conflict);
    assert_eq!(code("gpu2", GPU), Code::Conflict);
    let request = RegisterDevice { address: GPU_AUDIO.into(), ..RegisterDevice::default() };
    assert_eq!(engine.devices().register(request).unwrap().name, "pci-0000-01-00-1");

    engine.instances().create(wish("vm", &["nic"])).unwrap();
    assert_eq!(engine.devices().delete("nic").unwrap_err().code, Code::InUse);
    assert_eq!(engine.devices().delete("nothing").unwrap_err().code, Code::NotFound);
    engine.devices().delete(GPU).unwrap();
    assert_eq!(engine.devices().find("gpu").unwrap_err().code, Code::NotFound);
}

#[test]
fn without_an_iommu_nothing_can_be_registered() {
    let address: Address = NIC.parse().unwrap();
    let card = Card::new(address, (0x8086, 0x10d3), 0x02_0000, 0, Some("e1000e"));
    let rig = Rig::on(Card::inventory(&[card.without_iommu()]));
    let (engine, _) = rig.open_recovered();
    assert_eq!(register(&engine, "nic", NIC).unwrap_err().code, Code::NoIommu);
    assert!(engine.devices().available(&engine::AvailableFilter::All).unwrap().is_empty());
}

#[test]
fn without_vfio_nothing_is_touched() {
    let mut inventory = sim::workstation();
    inventory.vfio.vfio_pci = false;
    let rig = Rig::on(inventory);
    let (engine, _) = rig.open_recovered();
    rig.import(&engine, "debian");
    register(&engine, "gpu", GPU).unwrap();
    refused(&rig, &engine, wish("vm", &["gpu"]), Code::VfioMissing);
}

#[test]
fn images_are_refused_kept_and_replaced() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    let import = |name: &str, path: &str| {
        engine.images().import(ImportImage {
            name: name.into(),
            disk: Some((ImageSource::Path(path.into()), DiskFormat::Raw)),
            ..ImportImage::default()
        })
    };
    let empty = ImportImage { name: "empty".into(), ..ImportImage::default() };
    assert_eq!(engine.images().import(empty).unwrap_err().code, Code::InvalidRequest);
    assert_eq!(import("../x", "debian.raw").unwrap_err().code, Code::InvalidName);
    assert_eq!(import("debian", "debian.raw").unwrap_err().code, Code::AlreadyExists);
    import("gone", "nowhere.raw").unwrap();
    let failed = loop {
        let image = engine.images().find("gone").unwrap();
        if image.status == engine::ImageStatus::Failed {
            break image;
        }
    };
    assert!(failed.error.unwrap().contains("nowhere.raw"));
    let unready = CreateInstance { image: Some("gone".into()), ..wish("vm", &["gpu"]) };
    refused(&rig, &engine, unready, Code::ImageNotReady);
    // The name of a failed import can be used again.
    rig.import(&engine, "gone");
    engine
        .instances()
        .create(CreateInstance { image: Some("gone".into()), ..wish("vm", &[]) })
        .unwrap();
    assert_eq!(engine.images().delete("gone").unwrap_err().code, Code::InUse);
    engine.instances().delete("vm").unwrap();
    engine.images().delete("gone").unwrap();
    assert_eq!(engine.images().find("gone").unwrap_err().code, Code::NotFound);
}

#[test]
fn verbs_in_the_wrong_state() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &[])).unwrap();
    assert_eq!(engine.instances().start("vm").unwrap_err().code, Code::InvalidState);
    engine.instances().stop("vm").unwrap();
    assert_eq!(engine.instances().stop("vm").unwrap_err().code, Code::InvalidState);
    assert_eq!(engine.instances().delete("nothing").unwrap_err().code, Code::NotFound);
}

#[test]
fn functions_of_one_group_go_to_one_instance_also_without_drivers() {
    let drive =
        |address: &str| Card::new(address.parse().unwrap(), (0x1b36, 0x0010), 0x01_0802, 7, None);
    let rig = Rig::on(Card::inventory(&[drive("0000:04:00.0"), drive("0000:05:00.0")]));
    let (engine, _) = rig.open_recovered();
    rig.import(&engine, "debian");
    register(&engine, "one", "0000:04:00.0").unwrap();
    register(&engine, "two", "0000:05:00.0").unwrap();
    refused(&rig, &engine, wish("both", &["one", "two"]), Code::Conflict);
    let results = std::thread::scope(|scope| {
        let threads = ["one", "two"].map(|name| {
            let engine = engine.clone();
            scope.spawn(move || engine.instances().create(wish(name, &[name])))
        });
        threads.map(|thread| thread.join().unwrap())
    });
    let refusals: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!(refusals.len(), 1, "{results:?}");
    assert_eq!(refusals[0].code, Code::InUse);
    let left = if results[0].is_ok() { "two" } else { "one" };
    refused(&rig, &engine, wish("late", &[left]), Code::InUse);
    assert!(engine.devices().available(&engine::AvailableFilter::All).unwrap().is_empty());
}

#[test]
fn a_process_that_cannot_be_read_does_not_wedge_a_device() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    rig.host.hide_holders(true);
    let refusal = refused(&rig, &engine, wish("vm", &["gpu"]), Code::StepFailed);
    assert!(
        refusal.message.contains("looking for users of") && refusal.message.contains(GPU),
        "{refusal}"
    );
    rig.host.hide_holders(false);
    engine.instances().create(wish("vm", &["gpu"])).unwrap();
}
