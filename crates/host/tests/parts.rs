//! Steps on a fake host: virtual functions, mediated devices, vGPUs, nodes, resets, units, processes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod fake;

use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use fake::Fake;
use fake::parts::{vf_address, write_whole};
use host::worker_pool::{PoolConfig, WorkerCommand};
use host::{HostConfig, LinuxHost};
use libtest_mimic::{Arguments, Trial};
use model::{
    Address, Checked, Host, HostError, LinkBaseline, Lock, NodeAccess, Observed, PowerControl,
    Step, VfSettings, VfioNode,
};
use uuid::Uuid;

const NIC: &str = "0000:00:02.0";
const GPU: &str = "0000:00:04.0";
const MDEV: Uuid = Uuid::from_u128(0x83b8_f4f2_509f_382f_3c1e_e6bf_e0fa_1001);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return host::worker::main();
    }
    let trials: [(&str, fn()); 18] = [
        ("virtual_functions_are_made_and_removed", virtual_functions_are_made_and_removed),
        ("a_number_changes_through_none", a_number_changes_through_none),
        ("fewer_virtual_functions_than_requested", fewer_virtual_functions_than_requested),
        ("virtual_functions_in_use_stay", virtual_functions_in_use_stay),
        ("nvidia_makes_its_virtual_functions", nvidia_makes_its_virtual_functions),
        ("settings_need_an_interface", settings_need_an_interface),
        ("a_mediated_device_comes_and_goes", a_mediated_device_comes_and_goes),
        ("a_mediated_device_in_use_stays", a_mediated_device_in_use_stays),
        ("attributes_stay_below_their_device", attributes_stay_below_their_device),
        ("a_definition_is_written_and_removed", a_definition_is_written_and_removed),
        ("a_reservation_is_written_and_removed", a_reservation_is_written_and_removed),
        ("a_vgpu_is_made_and_freed", a_vgpu_is_made_and_freed),
        ("nodes_are_granted", nodes_are_granted),
        ("a_reset_is_checked", a_reset_is_checked),
        ("a_reset_has_its_whole_domain", a_reset_has_its_whole_domain),
        ("physical_functions_wait_for_one_another", physical_functions_wait_for_one_another),
        ("services_and_modes_are_switched", services_and_modes_are_switched),
        ("a_process_is_evicted", a_process_is_evicted),
    ];
    let trials = trials.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn machine() -> Fake {
    let fake = Fake::new();
    fake.function(NIC, "8086:10c9", "020000").group(2).driver("igb");
    fake.function(GPU, "10de:26b9", "030200").group(4).driver("nvidia");
    fake
}

fn open_at(root: &std::path::Path, fake: &Fake) -> LinuxHost {
    let command =
        WorkerCommand { program: std::env::current_exe().unwrap(), args: vec!["worker".into()] };
    LinuxHost::new(HostConfig {
        root: root.to_owned(),
        run_dir: fake.path("run/handover"),
        workers: PoolConfig::new(command),
        longest_step: None,
    })
    .unwrap()
}

fn open(fake: &Fake) -> LinuxHost {
    open_at(fake.root(), fake)
}

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

/// Performs a step; the host must show it, and it must be idempotent.
fn must(host: &LinuxHost, step: &Step) {
    host.perform(step).unwrap();
    assert_eq!(host.observe(step).unwrap(), Observed::After, "{}", step.describe());
    host.perform(step).unwrap();
}

/// The error of a step that must fail.
fn fails(host: &LinuxHost, step: &Step) -> String {
    host.perform(step).unwrap_err().to_string()
}

fn count(from: u16, to: u16) -> Step {
    Step::SetVfCount { address: at(NIC), from, to }
}

fn text(fake: &Fake, path: &str) -> String {
    std::fs::read_to_string(fake.path(path)).unwrap().trim().to_owned()
}

fn numvfs(fake: &Fake) -> String {
    text(fake, &format!("sys/bus/pci/devices/{NIC}/sriov_numvfs"))
}

fn virtual_functions_are_made_and_removed() {
    let fake = machine();
    fake.sriov(NIC, 7, 7);
    let host = open(&fake);
    let autoprobe = Step::SetAutoprobe { address: at(NIC), from: true, to: false };
    assert_eq!(host.observe(&autoprobe).unwrap(), Observed::Before);
    must(&host, &autoprobe);
    assert_eq!(host.observe(&count(0, 4)).unwrap(), Observed::Before);
    must(&host, &count(0, 4));
    let inventory = host.inventory().unwrap();
    assert_eq!(inventory.function(at(NIC)).unwrap().virtual_functions().len(), 4);
    // A number that another tool set is not changed.
    assert_eq!(host.observe(&count(2, 6)).unwrap(), Observed::Other("4 virtual functions".into()));
    assert!(fails(&host, &count(2, 6)).contains("4 virtual functions"));
    for step in model::restoring(&[autoprobe, count(0, 4)]) {
        must(&host, &step);
    }
    assert_eq!(numvfs(&fake), "0");
    // The number is limited, and not every function supports virtual functions.
    let gone = Step::SetVfCount { address: at("0000:7f:00.0"), from: 0, to: 1 };
    assert_eq!(host.observe(&gone).unwrap(), Observed::Absent);
    let none = Step::SetVfCount { address: at(GPU), from: 0, to: 1 };
    assert!(fails(&host, &none).contains("does not support virtual functions"));
}

fn a_number_changes_through_none() {
    let fake = machine();
    fake.sriov(NIC, 7, 7);
    let host = open(&fake);
    must(&host, &count(0, 2));
    // The fake kernel refuses to change a number other than 0.
    must(&host, &count(2, 5));
    must(&host, &count(5, 2));
    assert_eq!(numvfs(&fake), "2");
    // A removed function is detected.
    let virtfn = fake.path(&format!("sys/bus/pci/devices/{}", vf_address(NIC, 1)));
    std::fs::remove_file(virtfn).unwrap();
    let found = Observed::Other("1 of 2 virtual functions".into());
    assert_eq!(host.observe(&count(0, 2)).unwrap(), found);
}

fn fewer_virtual_functions_than_requested() {
    let fake = machine();
    fake.sriov(NIC, 7, 3);
    let host = open(&fake);
    let error = fails(&host, &count(0, 5));
    assert!(error.contains("3 virtual functions instead of 5"), "{error}");
    assert_eq!(numvfs(&fake), "0");
    must(&host, &count(0, 2));
    let error = fails(&host, &count(2, 5));
    assert!(error.contains("3 virtual functions instead of 5"), "{error}");
    // Rolled back.
    assert_eq!(numvfs(&fake), "2");
    assert_eq!(host.observe(&count(2, 5)).unwrap(), Observed::Before);
    // The host's lock is free again.
    assert!(!host.is_locked(&Lock::Host).unwrap());
}

fn virtual_functions_in_use_stay() {
    let fake = machine();
    fake.sriov(NIC, 7, 7);
    let host = open(&fake);
    must(&host, &count(0, 2));
    let vf = vf_address(NIC, 1);
    fake.link(
        &format!("sys/bus/pci/devices/{vf}/iommu_group"),
        "../../../../kernel/iommu_groups/9",
    );
    fake.virtual_device("virtual/vfio/9", "char", "241:9");
    fake.file("proc/4711/comm", "qemu-system-x86\n");
    fake.link("proc/4711/fd/12", "/dev/vfio/9");
    let error = fails(&host, &count(2, 0));
    let why = format!("qemu-system-x86 (pid 4711) uses its virtual function {vf} (/dev/vfio/9)");
    assert!(error.contains(&why), "{error}");
    std::fs::remove_dir_all(fake.path("proc/4711")).unwrap();
    fake.file(&format!("sys/bus/pci/devices/{vf}/nvidia/current_vgpu_type"), "1155\n");
    assert!(fails(&host, &count(2, 0)).contains("is a vGPU of type 1155"));
    fake.file(&format!("sys/bus/pci/devices/{vf}/nvidia/current_vgpu_type"), "0\n");
    assert_eq!(numvfs(&fake), "2");
    must(&host, &count(2, 0));
}

fn nvidia_makes_its_virtual_functions() {
    let fake = machine();
    fake.sriov(GPU, 4, 4);
    let device = fake.path(&format!("sys/bus/pci/devices/{GPU}"));
    let device = device.display();
    // Like the real program, it always reports success.
    let script = |number: &str| {
        format!(
            "echo \"$1 $2\"\n[ $1 = -e ] && echo {number} > {device}/sriov_numvfs\n[ $1 = -d ] && echo 0 > {device}/sriov_numvfs\nexit 0\n"
        )
    };
    fake.program("usr/lib/nvidia/sriov-manage", &script("4"));
    let host = open(&fake);
    let step = |from, to| Step::SetVfCount { address: at(GPU), from, to };
    let error = fails(&host, &step(0, 2));
    assert!(error.contains("creates all 4 or none"), "{error}");
    must(&host, &step(0, 4));
    must(&host, &step(4, 0));
    fake.program("usr/lib/nvidia/sriov-manage", &script("3"));
    let error = fails(&host, &step(0, 4));
    let why = format!("3 virtual functions instead of 4; sriov-manage: -e {GPU}");
    assert!(error.contains(&why), "{error}");
}

fn settings_need_an_interface() {
    let fake = machine();
    fake.sriov(NIC, 7, 7);
    let host = open(&fake);
    must(&host, &count(0, 1));
    let (address, parent) = (at(&vf_address(NIC, 0)), at(NIC));
    let from = VfSettings { trust: Some(false), ..VfSettings::default() };
    let to = VfSettings { trust: Some(true), ..VfSettings::default() };
    let step = Step::SetVf { address, parent, index: 0, from, to };
    assert!(fails(&host, &step).contains("has no network interface here"));
    let error = host.vf_settings(parent, 0).unwrap_err().to_string();
    assert!(error.contains("has no network interface here"), "{error}");
    // Nothing is done for a virtual function that is gone.
    must(&host, &count(1, 0));
    assert_eq!(host.observe(&step).unwrap(), Observed::Absent);
}

fn mdev(kind: &str) -> (Step, Step) {
    let (address, uuid, type_id) = (at(GPU), MDEV, kind.to_owned());
    let made = Step::CreateMdev { address, uuid, type_id };
    let removed = made.inverse().unwrap();
    (made, removed)
}

fn a_mediated_device_comes_and_goes() {
    let fake = machine();
    fake.mdev_parent(GPU, &["nvidia-558", "nvidia-559"]);
    let host = open(&fake);
    let (made, removed) = mdev("nvidia-558");
    // A device that was never created counts as removed.
    assert_eq!(host.observe(&removed).unwrap(), Observed::After);
    assert_eq!(host.observe(&made).unwrap(), Observed::Before);
    must(&host, &made);
    assert_eq!(host.inventory().unwrap().function(at(GPU)).unwrap().mdevs[0].uuid, MDEV);
    // A device of another type, or on another parent, belongs to another tool.
    let (other, remove_other) = mdev("nvidia-559");
    let found = Observed::Other(format!("{MDEV} of type nvidia-558"));
    assert_eq!(host.observe(&other).unwrap(), found);
    assert_eq!(host.observe(&remove_other).unwrap(), found);
    let elsewhere = Step::RemoveMdev { address: at(NIC), uuid: MDEV, type_id: "nvidia-558".into() };
    let found = Observed::Other(format!("{MDEV} on {GPU}"));
    assert_eq!(host.observe(&elsewhere).unwrap(), found);
    // While it is created or removed it has no type: it neither exists nor is gone, nor is it another device.
    let link = fake.path(&format!("sys/bus/mdev/devices/{MDEV}/mdev_type"));
    let target = std::fs::read_link(&link).unwrap();
    std::fs::remove_file(&link).unwrap();
    assert_eq!(host.observe(&made).unwrap(), Observed::Before);
    assert_eq!(host.observe(&removed).unwrap(), Observed::Before);
    std::os::unix::fs::symlink(target, link).unwrap();
    must(&host, &removed);
    let error = fails(&host, &mdev("nvidia-1").0);
    assert!(error.contains("offers no type nvidia-1, but nvidia-558, nvidia-559"), "{error}");
    assert!(fails(&host, &mdev("../../../x").0).contains("cannot be the name of a type"));
    // The parent and its mediated devices are gone.
    std::fs::remove_file(fake.path(&format!("sys/bus/pci/devices/{GPU}"))).unwrap();
    assert_eq!(host.observe(&made).unwrap(), Observed::Absent);
    assert_eq!(host.observe(&removed).unwrap(), Observed::Absent);
}

fn a_mediated_device_in_use_stays() {
    let fake = machine();
    fake.mdev_parent(GPU, &["nvidia-558"]);
    let host = open(&fake);
    let (made, removed) = mdev("nvidia-558");
    must(&host, &made);
    fake.virtual_device("virtual/vfio/40", "char", "241:40");
    fake.file("proc/4711/comm", "qemu-system-x86\n");
    fake.link("proc/4711/fd/12", "/dev/vfio/40");
    let error = fails(&host, &removed);
    let why = "qemu-system-x86 (pid 4711) has /dev/vfio/40 open; stop it first";
    assert!(error.contains(why), "{error}");
    std::fs::remove_dir_all(fake.path("proc/4711")).unwrap();
    must(&host, &removed);
}

fn a_definition_is_written_and_removed() {
    let fake = machine();
    let host = open(&fake);
    let define = |type_id: &str| Step::DefineMdev {
        address: at(GPU),
        uuid: MDEV,
        type_id: type_id.into(),
        attributes: vec![("nvidia/vgpu_params".into(), "frame_rate_limiter=0".into())],
    };
    let ours = define("nvidia-558");
    assert_eq!(host.observe(&ours).unwrap(), Observed::Before);
    must(&host, &ours);
    assert_eq!(host.mdev_definitions(), [ours.definition().unwrap()]);
    // Another format does not matter; other contents belong to another tool, and are neither overwritten nor removed.
    let path = format!("etc/mdevctl.d/{GPU}/{MDEV}");
    let written = text(&fake, &path);
    fake.file(&path, written.replace('\n', " "));
    assert_eq!(host.observe(&ours).unwrap(), Observed::After);
    let removed = ours.inverse().unwrap();
    for theirs in [written.replace("manual", "auto"), "{".into(), written.replace("558", "559")] {
        fake.file(&path, &theirs);
        for step in [&ours, &removed] {
            assert!(fails(&host, step).contains("another definition in"));
        }
        assert_eq!(text(&fake, &path), theirs);
    }
    fake.file(&path, written);
    // The parent may be gone.
    std::fs::remove_file(fake.path(&format!("sys/bus/pci/devices/{GPU}"))).unwrap();
    must(&host, &removed);
    assert!(!fake.path(&format!("etc/mdevctl.d/{GPU}")).exists(), "nothing else was in it");
}

fn a_reservation_is_written_and_removed() {
    let fake = machine();
    let host = open(&fake);
    let ours = Step::AddToBootList {
        address: at(GPU),
        vendor: "10de".parse().unwrap(),
        device: "2204".parse().unwrap(),
        driver: "vfio-pci".into(),
    };
    let removed = ours.inverse().unwrap();
    assert_eq!(host.observe(&ours).unwrap(), Observed::Before);
    fake.file("etc/hostname", "host\n");
    let error = fails(&host, &ours);
    assert!(error.contains("no tool that builds an initial ramdisk is installed"), "{error}");
    assert!(!fake.path("etc/handover").exists(), "nothing is begun that cannot work");
    fake.file("usr/sbin/mkinitramfs", "#!/bin/sh\n");
    // An administrator's own line is kept.
    let theirs = "# mine\n0000:77:00.0 0x1af4 0x1041 vfio-pci\n";
    fake.file("etc/handover/reserve", theirs);
    must(&host, &ours);
    let list = format!("{theirs}{GPU} 0x10de 0x2204 vfio-pci\n");
    assert_eq!(text(&fake, "etc/handover/reserve"), list.trim_end());
    let script = "etc/initramfs-tools/scripts/init-top/handover";
    assert!(text(&fake, script).contains("Written by Handover"));
    // An interrupted change does not count as done, and its inverse works.
    std::fs::remove_file(fake.path(script)).unwrap();
    let cut_off = "without the files that apply the boot list";
    assert!(matches!(host.observe(&ours).unwrap(), Observed::Other(why) if why.contains(cut_off)));
    must(&host, &removed);
    must(&host, &ours);
    // Another entry for the function belongs to another tool, and is neither changed nor removed.
    let others = list.replace("0x2204 vfio-pci", "0x2204 pci-stub");
    fake.file("etc/handover/reserve", &others);
    for step in [&ours, &removed] {
        assert!(fails(&host, step).contains("0x2204 pci-stub"));
    }
    assert_eq!(text(&fake, "etc/handover/reserve"), others.trim_end());
    // The function may be gone.
    fake.file("etc/handover/reserve", &list);
    std::fs::remove_file(fake.path(&format!("sys/bus/pci/devices/{GPU}"))).unwrap();
    must(&host, &removed);
    assert_eq!(text(&fake, "etc/handover/reserve"), theirs.trim_end());
    assert!(fake.path(script).exists(), "the person's line needs it");
    must(&host, &ours);
    fake.file("etc/handover/reserve", format!("{GPU} 0x10de 0x2204 vfio-pci\n"));
    must(&host, &removed);
    assert!(!fake.path(script).exists() && !fake.path("etc/handover").exists(), "the last one");
}

fn attributes_stay_below_their_device() {
    let fake = machine();
    fake.mdev_parent(GPU, &["nvidia-558"]);
    let host = open(&fake);
    let set = |name: &str, value: &str| Step::SetMdevAttribute {
        address: at(GPU),
        uuid: MDEV,
        name: name.into(),
        value: value.into(),
    };
    let params = set("nvidia/vgpu_params", "frame_rate_limiter=0");
    assert_eq!(host.observe(&params).unwrap(), Observed::Absent);
    assert!(fails(&host, &params).contains("no mediated device"));
    must(&host, &mdev("nvidia-558").0);
    must(&host, &params);
    let own = format!("sys/bus/mdev/devices/{MDEV}");
    assert_eq!(text(&fake, &format!("{own}/nvidia/vgpu_params")), "frame_rate_limiter=0");
    fake.file("sys/outside", "as it was\n");
    fake.link(&format!("{own}/way_out"), "../../../../outside");
    for name in
        ["../mdev_type", "/sys/outside", "a//b", ".", "", "remove", "nvidia/../remove", "a\nb"]
    {
        let error = fails(&host, &set(name, "1"));
        assert!(error.contains("cannot be the name of an attribute"), "{name}: {error}");
    }
    for name in ["way_out", "mdev_type/create", "nothing"] {
        assert!(host.perform(&set(name, "1")).is_err(), "{name}");
    }
    assert!(fails(&host, &set("nvidia/vgpu_params", "")).contains("1 to 4095 bytes"));
    assert_eq!(text(&fake, "sys/outside"), "as it was");
}

fn a_vgpu_is_made_and_freed() {
    let fake = machine();
    let host = open(&fake);
    let step = Step::SetVgpu { address: at(GPU), from: 0, to: 1155 };
    assert_eq!(host.observe(&step).unwrap(), Observed::Absent);
    assert!(fails(&host, &step).contains("no nvidia/current_vgpu_type"));
    let nvidia = format!("sys/bus/pci/devices/{GPU}/nvidia");
    fake.file(&format!("{nvidia}/current_vgpu_type"), "0\n");
    fake.file(&format!("{nvidia}/creatable_vgpu_types"), "ID : vGPU Name\n1155 : NVIDIA L40S-1Q\n");
    must(&host, &step);
    let other = Step::SetVgpu { address: at(GPU), from: 0, to: 1156 };
    let found = Observed::Other("vGPU type 1155".into());
    assert_eq!(host.observe(&other).unwrap(), found);
    must(&host, &step.inverse().unwrap());
    assert!(fails(&host, &other).contains("only NVIDIA L40S-1Q (1155)"));
}

fn nodes_are_granted() {
    let fake = machine();
    fake.mdev_parent(GPU, &["nvidia-558"]);
    let host = open(&fake);
    fake.file("dev/vfio/devices/vfio3", "").file("dev/vfio/40", "");
    let status = host.root().stat("dev/vfio/40").unwrap();
    let from = NodeAccess { uid: status.uid, gid: status.gid, mode: status.mode };
    let to = NodeAccess { mode: 0o640, ..from };
    let device = Step::GrantNode { address: at(NIC), node: VfioNode::Device, from, to };
    assert_eq!(host.observe(&device).unwrap(), Observed::Absent);
    assert!(fails(&host, &device).contains("no node in /dev/vfio/devices"));
    fake.file(&format!("sys/bus/pci/devices/{NIC}/vfio-dev/vfio3/dev"), "511:3\n");
    let node = VfioNode::MdevGroup(MDEV);
    let group = Step::GrantNode { address: at(GPU), node, from, to };
    assert_eq!(host.observe(&group).unwrap(), Observed::Absent);
    must(&host, &mdev("nvidia-558").0);
    for (step, path) in [(device, "dev/vfio/devices/vfio3"), (group, "dev/vfio/40")] {
        assert_eq!(host.observe(&step).unwrap(), Observed::Before);
        must(&host, &step);
        assert_eq!(host.root().stat(path).unwrap().mode, 0o640);
        must(&host, &step.inverse().unwrap());
    }
}

/// Configuration space of an endpoint with a link of this speed and width.
fn config(speed: u16, width: u16) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    let link = speed | width << 4;
    for (at, word) in [
        (0, 0x8086),
        (6, 0x10),
        (0x34, 0x40),
        (0x40, 0x10),
        (0x42, 2),
        (0x4c, 4 | 16 << 4),
        (0x52, link),
    ] {
        bytes[at..at + 2].copy_from_slice(&u16::to_le_bytes(word));
    }
    bytes
}

fn a_reset_is_checked() {
    let fake = machine();
    fake::kernel::set_driver(fake.root(), NIC, Some("vfio-pci"));
    let own = format!("sys/bus/pci/devices/{NIC}");
    fake.file(&format!("{own}/config"), config(4, 16)).file(&format!("{own}/reset"), "");
    let host = open(&fake);
    let link = host.as_found(&[at(NIC)]).unwrap()[0].link;
    assert_eq!(link, Some(LinkBaseline { speed: 160, width: 16 }));
    assert_eq!(host.check(at(NIC), link).unwrap(), Checked::Well);
    let step = Step::Reset { address: at(NIC), domain: vec![at(NIC), at(GPU)], link };
    // Its bus has a GPU that the host uses.
    assert!(fails(&host, &step).contains("0000:00:04.0 is bound to nvidia"));
    assert_eq!(text(&fake, &format!("{own}/reset")), "");
    let step = Step::Reset { address: at(NIC), domain: vec![at(NIC)], link };
    host.perform(&step).unwrap();
    assert_eq!(text(&fake, &format!("{own}/reset")), "1");
    fake.file("proc/4711/comm", "qemu-system-x86\n").link("proc/4711/fd/12", "/dev/vfio/2");
    fake.virtual_device("virtual/vfio/2", "char", "241:2");
    assert!(fails(&host, &step).contains("qemu-system-x86 (pid 4711) has /dev/vfio/2 open"));
    std::fs::remove_dir_all(fake.path("proc/4711")).unwrap();
    // Its link comes up slower, and then not at all.
    fake.file(&format!("{own}/config"), config(1, 8));
    let now = LinkBaseline { speed: 25, width: 8 };
    assert_eq!(host.check(at(NIC), link).unwrap(), Checked::Slower { now });
    let error = fails(&host, &step);
    assert!(error.contains("a link of 2.5 GT/s x8 instead of a link of 16.0 GT/s x16"), "{error}");
    fake.file(&format!("{own}/config"), [0xff; 256]);
    assert_eq!(host.check(at(NIC), link).unwrap(), Checked::Silent);
    assert!(fails(&host, &step).contains("does not respond"));
    let gone = at("0000:7f:00.0");
    assert_eq!(host.check(gone, None), Err(HostError::Gone { address: gone }));
}

fn a_reset_has_its_whole_domain() {
    let fake = machine();
    let other = "0000:00:05.0";
    fake.function(other, "8086:10c9", "020000").group(5);
    fake::kernel::set_driver(fake.root(), NIC, Some("vfio-pci"));
    let own = format!("sys/bus/pci/devices/{NIC}");
    fake.file(&format!("{own}/config"), config(4, 16)).fifo(&format!("{own}/reset"));
    let host = open(&fake);
    let step = Step::Reset { address: at(NIC), domain: vec![at(other), at(NIC)], link: None };
    let (from, to) = (PowerControl::On, PowerControl::Auto);
    let power = Step::SetPower { address: at(other), from, to };
    thread::scope(|scope| {
        let resetting = scope.spawn(|| host.perform(&step));
        while !host.is_locked(&Lock::Function(at(other))).unwrap() {
            thread::sleep(Duration::from_millis(5));
        }
        // Longer than a child process that is being started may keep a lock.
        let waiting = scope.spawn(|| host.perform(&power));
        thread::sleep(Duration::from_millis(1500));
        assert!(!resetting.is_finished() && !waiting.is_finished());
        assert_eq!(text(&fake, &format!("{own}/reset")), "1");
        resetting.join().unwrap().unwrap();
        waiting.join().unwrap().unwrap();
    });
}

fn physical_functions_wait_for_one_another() {
    let fake = machine();
    let nics = ["0000:00:06.0", "0000:00:07.0", "0000:00:08.0"];
    for nic in nics {
        fake.function(nic, "8086:10c9", "020000").driver("igb");
        fake.sriov(nic, 7, 7);
    }
    let host = open(&fake);
    thread::scope(|scope| {
        for nic in nics {
            let step = Step::SetVfCount { address: at(nic), from: 0, to: 3 };
            let host = &host;
            scope.spawn(move || must(host, &step));
        }
    });
    let inventory = host.inventory().unwrap();
    assert_eq!(inventory.functions.values().filter(|f| f.physical_function.is_some()).count(), 9);
}

fn services_and_modes_are_switched() {
    let fake = machine();
    let host = open(&fake);
    let unit =
        |name: &str, to: bool| Step::SetUnit { address: at(GPU), unit: name.into(), from: !to, to };
    let service = "nvidia-persistenced.service";
    let error = fails(&host, &unit(service, false));
    assert!(error.contains("not booted with systemd"), "{error}");
    let units = fake.systemd(&[(service, "active"), ("broken.service", "inactive")]);
    assert_eq!(host.observe(&unit(service, true)).unwrap(), Observed::After);
    must(&host, &unit(service, false));
    assert_eq!(units.lock().unwrap()[service], "inactive");
    must(&host, &unit(service, true));
    assert_eq!(units.lock().unwrap()[service], "active");
    assert!(fails(&host, &unit("broken.service", true)).contains("failed; see `systemctl status"));
    assert!(fails(&host, &unit("other.service", true)).contains("no unit other.service"));
    assert!(fails(&host, &unit("a b", true)).contains("cannot be the name of a unit"));
    let mode =
        |address: &str, to: bool| Step::SetPersistence { address: at(address), from: !to, to };
    assert!(fails(&host, &mode(GPU, true)).contains("install NVIDIA's utilities"));
    assert_eq!(host.observe(&mode(NIC, true)).unwrap(), Observed::Absent);
    let state = fake.path("state");
    write_whole(&state, "Disabled\n");
    let state = state.display();
    fake.program(
        "usr/bin/nvidia-smi",
        &format!(
            "[ \"$1\" = --query-gpu=persistence_mode ] && exec cat {state}\n\
             [ \"$1 $2 $3\" = '-i {GPU} -pm' ] || exit 6\n\
             [ $4 = 1 ] && echo Enabled > {state} || echo Disabled > {state}\n"
        ),
    );
    assert_eq!(host.observe(&mode(GPU, true)).unwrap(), Observed::Before);
    must(&host, &mode(GPU, true));
    must(&host, &mode(GPU, false));
}

fn a_process_is_evicted() {
    let fake = Fake::new();
    // Processes exist only on the running system.
    let host = open_at("/".as_ref(), &fake);
    let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    let step = |started: u64| Step::Evict {
        address: at("0000:7f:00.0"),
        pid: child.id(),
        started,
        user: "sleep".into(),
    };
    let started: u64 = started.parse().unwrap();
    must(&host, &step(started + 1));
    assert_eq!(host.observe(&step(started)).unwrap(), Observed::Before);
    must(&host, &step(started));
    assert_eq!(child.wait().unwrap().to_string(), "signal: 15 (SIGTERM)");
    let elsewhere = open(&fake);
    fake.file("proc/4711/stat", "4711 (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 77 0 0\n");
    let step = Step::Evict { address: at(GPU), pid: 4711, started: 77, user: "x".into() };
    assert!(fails(&elsewhere, &step).contains("is not the running system"));
}
