//! Partitions: virtual functions, mediated devices, vGPUs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;

use model::{Address, Host, HostError, Mac, NodeAccess, Observed, Step, VfSettings, VfioNode};
use proptest::prelude::*;
use sim::{SimHost, server};
use uuid::Uuid;

const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const ERANGE: i32 = 34;
const ENODEV: i32 = 19;

const TYPES: [(&str, u32); 3] = [("nvidia-468", 4), ("nvidia-470", 10), ("nvidia-472", 40)];
const VGPUS: [(u32, u32); 3] = [(1155, 4), (1157, 8), (1161, 48)];

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

fn nic() -> Address {
    at("0000:01:00.0")
}

fn nvme() -> Address {
    at("0000:02:00.0")
}

fn mdev_parent() -> Address {
    at("0000:03:00.0")
}

fn vgpu_parent() -> Address {
    at("0000:04:00.0")
}

#[track_caller]
fn done(host: &SimHost, step: &Step) {
    host.perform(step).unwrap();
    assert_eq!(host.observe(step), Ok(Observed::After), "{}", step.describe());
}

#[track_caller]
fn refused(host: &SimHost, step: &Step, errno: i32) {
    let before = host.snapshot();
    match host.perform(step) {
        Err(HostError::File { errno: Some(given), .. }) if given == errno => {}
        other => panic!("{}: {other:?} and not {errno}", step.describe()),
    }
    assert_eq!(host.snapshot(), before);
}

fn count(address: Address, from: u16, to: u16) -> Step {
    Step::SetVfCount { address, from, to }
}

fn create(uuid: u128, kind: &str) -> Step {
    let uuid = Uuid::from_u128(uuid);
    Step::CreateMdev { address: mdev_parent(), uuid, type_id: kind.into() }
}

fn functions_of(host: &SimHost, parent: Address) -> Vec<Address> {
    let inventory = host.inventory().unwrap();
    inventory.function(parent).unwrap().virtual_functions().to_vec()
}

#[test]
fn virtual_functions_come_with_all_that_belongs_to_them_and_go_with_it() {
    let host = SimHost::new(server());
    let before = (host.snapshot(), host.inventory().unwrap());
    done(&host, &count(nic(), 0, 8));
    let inventory = host.inventory().unwrap();
    let present = functions_of(&host, nic());
    assert_eq!(present.len(), 8);
    let mut groups = BTreeSet::new();
    for address in &present {
        let function = inventory.function(*address).unwrap();
        assert_eq!(function.physical_function, Some(nic()));
        assert_eq!(function.driver.as_deref(), Some("iavf"));
        let group = function.iommu_group.unwrap();
        assert_eq!(inventory.groups[&group].members, [*address]);
        assert!(groups.insert(group));
    }
    done(&host, &count(nic(), 8, 3));
    assert_eq!(functions_of(&host, nic()), present[..3]);
    done(&host, &count(nic(), 3, 0));
    assert_eq!((host.snapshot(), host.inventory().unwrap()), before);
}

#[test]
fn the_number_changes_through_nothing_only() {
    let host = SimHost::new(server());
    assert_eq!(host.write_vf_count(nic(), 9), Err(ERANGE));
    assert_eq!(host.write_vf_count(nic(), 4), Ok(()));
    assert_eq!(host.write_vf_count(nic(), 4), Ok(()));
    assert_eq!(host.write_vf_count(nic(), 5), Err(EBUSY));
    assert_eq!(host.write_vf_count(nic(), 0), Ok(()));
    assert_eq!(host.write_vf_count(nic(), 5), Ok(()));
}

#[test]
fn virtual_functions_go_with_the_driver_of_their_parent() {
    let host = SimHost::new(server());
    let before = host.snapshot();
    done(&host, &count(nvme(), 0, 4));
    let unbind = Step::Unbind { address: nvme(), driver: "nvme".into() };
    done(&host, &unbind);
    assert!(functions_of(&host, nvme()).is_empty());
    assert!(host.perform(&count(nvme(), 0, 4)).is_err(), "nobody makes them");
    done(&host, &unbind.inverse().unwrap());
    assert_eq!(host.snapshot(), before);
}

#[test]
fn without_autoprobe_a_virtual_function_binds_with_an_override_only() {
    let host = SimHost::new(server());
    done(&host, &Step::SetAutoprobe { address: nic(), from: true, to: false });
    done(&host, &count(nic(), 0, 2));
    let address = functions_of(&host, nic())[0];
    // Returning it sets a temporary `driver_override` for its native driver.
    let to_own = Step::Return { address, driver: "iavf".into() };
    done(&host, &to_own);
    assert_eq!(host.snapshot().functions[&address].driver_override, None);
    done(&host, &Step::Unbind { address, driver: "iavf".into() });
    done(&host, &Step::LoadModule { module: "vfio_pci".into() });
    done(&host, &Step::SetOverride { address, from: None, to: Some("vfio-pci".into()) });
    done(&host, &Step::Bind { address, driver: "vfio-pci".into() });
    let (from, to) = (NodeAccess::KERNEL_DEFAULT, NodeAccess { uid: 7, gid: 0, mode: 0o600 });
    let group = host.inventory().unwrap().function(address).unwrap().iommu_group.unwrap();
    done(&host, &Step::GrantGroup { address, group, from, to });
    done(&host, &Step::GrantNode { address, node: VfioNode::Device, from, to });
    assert_eq!(host.snapshot().vf_nodes[&address], to);
}

#[test]
fn a_virtual_function_is_reported_by_its_parent() {
    let host = SimHost::new(server());
    done(&host, &count(nic(), 0, 2));
    done(&host, &count(nvme(), 0, 2));
    let before = host.snapshot();
    let address = functions_of(&host, nic())[1];
    let to = VfSettings {
        mac: Some(Mac([0x52, 0x54, 0, 0, 0, 1])),
        vlan: Some(100),
        trust: Some(true),
        ..VfSettings::default()
    };
    let found = host.vf_settings(nic(), 1).unwrap();
    let from = found.only(&to);
    let step = Step::SetVf { address, parent: nic(), index: 1, from, to: to.clone() };
    done(&host, &step);
    assert!(to.holds_in(&host.vf_settings(nic(), 1).unwrap()));
    assert_eq!(host.vf_settings(nic(), 0), Ok(found));
    done(&host, &step.inverse().unwrap());
    assert_eq!(host.snapshot(), before);

    let (from, to) = (
        before.functions[&address].settings.clone().unwrap(),
        VfSettings { vlan: Some(5000), ..VfSettings::default() },
    );
    refused(&host, &Step::SetVf { address, parent: nic(), index: 1, from, to }, EINVAL);
    assert!(matches!(
        host.vf_settings(nvme(), 0),
        Err(HostError::File { errno: Some(ENODEV), .. })
    ));
}

#[test]
fn a_machine_keeps_the_virtual_function_that_it_has_open() {
    let host = SimHost::new(server());
    done(&host, &count(nic(), 0, 2));
    let address = functions_of(&host, nic())[0];
    done(&host, &Step::LoadModule { module: "vfio_pci".into() });
    done(&host, &Step::Unbind { address, driver: "iavf".into() });
    done(&host, &Step::SetOverride { address, from: None, to: Some("vfio-pci".into()) });
    done(&host, &Step::Bind { address, driver: "vfio-pci".into() });
    let group = host.inventory().unwrap().function(address).unwrap().iommu_group.unwrap();
    assert!(host.open_group(group, 4711));
    assert!(!host.open_group(group, 4712), "only one can");
    assert!(host.holders(&[address]).unwrap()[0].user.contains("4711"));
    refused(&host, &count(nic(), 2, 0), EBUSY);
    refused(&host, &Step::Unbind { address, driver: "vfio-pci".into() }, EBUSY);
    // Unbinding the parent does not check for partitions: the kernel waits for the machine.
    let step = Step::Unbind { address: nic(), driver: "ice".into() };
    assert!(matches!(host.perform(&step), Err(HostError::Deadline { .. })));
    host.release();
    assert!(host.is_locked(&step.lock()).unwrap(), "it waits still");
    assert!(host.inventory().unwrap().function(address).is_some());
    host.let_go(4711);
    assert!(!host.is_locked(&step.lock()).unwrap());
    assert_eq!(host.observe(&step), Ok(Observed::After));
    assert!(host.inventory().unwrap().function(address).is_none());
}

#[test]
fn a_mediated_device_has_a_name_a_group_and_a_node() {
    let host = SimHost::new(server());
    let before = host.snapshot();
    let step = create(1, "nvidia-470");
    done(&host, &step);
    let inventory = host.inventory().unwrap();
    let mdev = inventory.function(mdev_parent()).unwrap().mdevs[0].clone();
    assert_eq!(mdev.type_id.as_deref(), Some("nvidia-470"));
    assert!(!inventory.groups.contains_key(&mdev.iommu_group.unwrap()));
    let (from, to) = (NodeAccess::KERNEL_DEFAULT, NodeAccess { uid: 7, gid: 0, mode: 0o600 });
    let node = VfioNode::MdevGroup(mdev.uuid);
    done(&host, &Step::GrantNode { address: mdev_parent(), node, from, to });
    let (address, uuid) = (mdev_parent(), mdev.uuid);
    let (name, value) = ("nvidia/vgpu_params".to_owned(), "frl=0".to_owned());
    done(&host, &Step::SetMdevAttribute { address, uuid, name, value });

    // The same UUID again, with any type.
    let twice = Step::CreateMdev { address, uuid, type_id: "nvidia-468".into() };
    assert!(matches!(host.observe(&twice), Ok(Observed::Other(_))));
    host.fault(sim::When::Nth(0), sim::Fault::Error(2));
    refused(&host, &create(2, "nvidia-468"), EEXIST);
    refused(&host, &create(2, "nvidia-472"), ENOSPC);

    assert!(host.open_group(mdev.iommu_group.unwrap(), 4711));
    let remove = step.inverse().unwrap();
    refused(&host, &remove, EBUSY);
    host.let_go(4711);
    done(&host, &remove);
    assert_eq!(host.snapshot(), before);
}

#[test]
fn a_vgpu_goes_slowly() {
    let host = SimHost::new(server());
    done(&host, &count(vgpu_parent(), 0, 4));
    let before = host.snapshot();
    let functions = functions_of(&host, vgpu_parent());
    let step = Step::SetVgpu { address: functions[0], from: 0, to: 1157 };
    done(&host, &step);
    assert_eq!(host.write_vgpu(functions[0], 1155), Err(EBUSY), "it is one already");
    refused(&host, &Step::SetVgpu { address: functions[1], from: 0, to: 1161 }, ENOSPC);
    host.slow_vgpu(functions[0], 3);
    for _ in 0..3 {
        assert_eq!(host.write_vgpu(functions[0], 0), Err(EBUSY));
    }
    assert_eq!(host.write_vgpu(functions[0], 0), Ok(()));
    done(&host, &step);
    assert_eq!(host.write_vf_count(vgpu_parent(), 0), Err(EBUSY), "one is in use");
    host.slow_vgpu(functions[0], 50);
    done(&host, &step.inverse().unwrap());
    done(&host, &step);
    host.slow_vgpu(functions[0], 1000);
    refused(&host, &step.inverse().unwrap(), EBUSY);
    host.slow_vgpu(functions[0], 0);
    let group = host.inventory().unwrap().function(functions[0]).unwrap().iommu_group.unwrap();
    assert!(host.open_group(group, 4711));
    refused(&host, &step.inverse().unwrap(), EBUSY);
    host.let_go(4711);
    done(&host, &step.inverse().unwrap());
    assert_eq!(host.snapshot(), before);
}

#[test]
fn the_first_may_fix_the_size_of_all() {
    let mut hardware = server();
    hardware.parents.get_mut(&mdev_parent()).unwrap().uniform = true;
    let board = hardware.physical.get_mut(&vgpu_parent()).unwrap();
    board.at_boot = 2;
    board.vgpus.as_mut().unwrap().uniform = true;
    let host = SimHost::new(hardware);
    done(&host, &create(1, "nvidia-470"));
    refused(&host, &create(2, "nvidia-468"), EINVAL);
    done(&host, &create(2, "nvidia-470"));
    let functions = functions_of(&host, vgpu_parent());
    assert_eq!(host.write_vgpu(functions[0], 1157), Ok(()));
    assert_eq!(host.write_vgpu(functions[1], 1155), Err(EINVAL));
    assert_eq!(host.write_vgpu(functions[1], 1157), Ok(()));
}

proptest! {
    /// Arbitrary numbers of virtual functions.
    #[test]
    fn virtual_functions_are_counted(writes in proptest::collection::vec((0..2usize, 0..10u16), 1..30)) {
        let host = SimHost::new(server());
        let mut counts = [0, 0];
        let parents = [(nic(), 8), (nvme(), 4)];
        for (which, wanted) in writes {
            let (parent, total) = parents[which];
            let now = counts[which];
            let expected = if wanted > total {
                Err(ERANGE)
            } else if now == 0 || wanted == 0 || wanted == now {
                counts[which] = wanted;
                Ok(())
            } else {
                Err(EBUSY)
            };
            prop_assert_eq!(host.write_vf_count(parent, wanted), expected);
            let inventory = host.inventory().unwrap();
            let of = |parent| {
                let all = inventory.functions.values();
                all.filter(|f| f.physical_function == Some(parent)).map(|f| f.address).collect::<Vec<_>>()
            };
            for ((parent, _), count) in parents.iter().zip(counts) {
                let present = inventory.function(*parent).unwrap().virtual_functions();
                prop_assert_eq!(present.len(), usize::from(count));
                prop_assert_eq!(&of(*parent)[..], present);
            }
            let grouped: usize = inventory.groups.values().map(|group| group.members.len()).sum();
            prop_assert_eq!(grouped, inventory.functions.len());
        }
    }

    /// The available number is the number that can be created, for every type.
    #[test]
    fn mediated_devices_shrink_together(
        made in proptest::collection::vec((0..3usize, 0..6u128), 0..12),
    ) {
        let play = || {
            let host = SimHost::new(server());
            let mut left = 40;
            for (kind, uuid) in &made {
                let (kind, cost) = TYPES[*kind];
                let exists = host.snapshot().mdevs.get(&Uuid::from_u128(*uuid)).cloned();
                match exists {
                    Some(mdev) => {
                        let cost = TYPES.iter().find(|(id, _)| *id == mdev.type_id).unwrap().1;
                        host.perform(&create(*uuid, &mdev.type_id).inverse().unwrap()).unwrap();
                        left += cost;
                    }
                    None if cost <= left => {
                        host.perform(&create(*uuid, kind)).unwrap();
                        left -= cost;
                    }
                    None => refused(&host, &create(*uuid, kind), ENOSPC),
                }
            }
            host
        };
        let host = play();
        let detail = host.detail(&[mdev_parent()]).unwrap();
        let types = &detail.function(mdev_parent()).unwrap().detail.as_ref().unwrap().mdev_types;
        for kind in types {
            let host = play();
            let more = (100..200).take_while(|uuid| host.perform(&create(*uuid, &kind.id)).is_ok());
            prop_assert_eq!(Some(more.count()), kind.available.map(|n| n as usize), "{}", &kind.id);
        }
    }

    /// The creatable types are those that can be written, on every sibling, within the board's capacity.
    #[test]
    fn vgpus_shrink_together(writes in proptest::collection::vec((0..16usize, 0..4usize), 0..40)) {
        let host = SimHost::seeded(server(), 7);
        host.write_vf_count(vgpu_parent(), 16).unwrap();
        let functions = functions_of(&host, vgpu_parent());
        for (which, kind) in writes {
            let address = functions[which];
            let id = VGPUS.get(kind).map_or(0, |(id, _)| *id);
            let detail = host.detail(&functions).unwrap();
            let vgpu = detail.function(address).unwrap().detail.as_ref().unwrap().vgpu.clone().unwrap();
            let creatable = vgpu.creatable.iter().any(|kind| kind.id == id);
            let current = vgpu.current.unwrap_or(0);
            let step = Step::SetVgpu { address, from: current, to: id };
            let result = host.perform(&step);
            prop_assert_eq!(result.is_ok(), id == 0 || id == current || creatable, "{:?}", result);
            let used: u32 = host
                .snapshot()
                .functions
                .values()
                .filter_map(|state| state.vgpu)
                .filter_map(|id| VGPUS.iter().find(|(kind, _)| *kind == id))
                .map(|(_, cost)| cost)
                .sum();
            prop_assert!(used <= 48);
            let given = host.snapshot().vf_nodes.len();
            let made = host.snapshot().functions.values().filter(|s| s.vgpu.is_some_and(|id| id != 0)).count();
            prop_assert_eq!(given, made, "a vGPU has a node");
        }
    }
}
