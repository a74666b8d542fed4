//! What goes away with a device, such as a drive behind a controller that makes its bus (VMD).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{Access, ClaimRequest, ClaimStep};
use model::{Code, Holder, HolderKind};
use support::{NIC, NVME, Rig, at, refused, request};

/// A drive behind a controller (VMD) disappears when the controller is handed over. So a claim on the controller is refused
/// while the drive is in use, also if the use began after the claim was reserved.
#[test]
fn users_of_what_goes_away_with_a_device_are_in_the_way() {
    let mut inventory = sim::workstation();
    let (controller, drive) = (at(NIC), at(NVME));
    let group = inventory.functions[&controller].iommu_group;
    let behind = inventory.functions.get_mut(&drive).unwrap();
    let old = behind.iommu_group.unwrap();
    behind.behind = Some(controller);
    behind.iommu_group = group;
    inventory.groups.get_mut(&old).unwrap().members.clear();
    inventory.groups.get_mut(&group.unwrap()).unwrap().members.push(drive);
    let rig = Rig::on(inventory);
    let (engine, _) = rig.open_recovered();
    let reserve = ClaimRequest { step: ClaimStep::Reserve, ..request("one", &[NIC]) };
    engine.claims().claim(&reserve).unwrap();
    rig.host.hold(Holder {
        address: drive,
        kind: HolderKind::Process,
        pid: Some(4711),
        started: Some(1),
        program: Some("dpdk".into()),
        user: "dpdk (pid 4711)".into(),
        by: "/dev/nvme0".into(),
        mdev: None,
        interface: None,
    });
    let refusal = engine.claims().prepare("job/one", &Access::default()).unwrap_err();
    assert_eq!(refusal.code, Code::InUse, "{refusal}");
    assert!(refusal.message.contains(NVME), "{refusal}");
    engine.claims().release("job/one", None).unwrap();
    let refusal = refused(&engine, "two", &[NIC]);
    assert_eq!(refusal.code, Code::InUse, "{refusal}");
    rig.assert_untouched("the drive behind it is in use");
}
