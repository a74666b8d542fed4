//! Hosts from public reports of people who handed a device over, each as a recording (`fixtures/reports`), and what Handover
//! must say of them. The numbers are those of the collection that they come from.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;

const REPORTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/reports");

fn recording(name: &str) -> PathBuf {
    PathBuf::from(REPORTS).join(format!("{name}.tar.gz"))
}

/// The output of a reading command, without line breaks within sentences.
fn said(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_handover"))
        .args(arguments)
        .arg("--root")
        .arg(recording(name))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The words, without line breaks.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The row of a function in a listing.
fn row(listing: &str, address: &str) -> String {
    let row = listing.lines().find(|line| line.starts_with(address));
    row.map(ToOwned::to_owned).unwrap_or_default()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// SPDK 480 and 1360, Qubes 6932: a drive behind VMD could not be assigned.
#[test]
fn case_07_a_drive_behind_vmd_needs_its_controller() {
    let ls = said("07-vmd-nvme", &["ls"]);
    for drive in ["10000:e1:00.0", "10000:e2:00.0"] {
        assert!(row(&ls, drive).ends_with("not possible, see [1]"), "{ls}");
        assert!(
            ls.contains(&format!("{drive}  nvme     144d:a80a  5      nvme      goes away")),
            "{ls}"
        );
    }
    assert!(row(&ls, "0000:00:0e.0").ends_with("free"), "{ls}");
    let why = one_line(&ls);
    assert!(why.contains("exist only as long as it is on vmd"), "{ls}");
    assert!(why.contains("hand over 0000:00:0e.0 as a whole"), "{ls}");
    assert!(!why.contains("ACS") && !why.contains("[2]"), "{ls}");
    let drive = said("07-vmd-nvme", &["show", "10000:e1:00.0"]);
    assert!(!drive.contains("held"), "{drive}");
    let controller = said("07-vmd-nvme", &["show", "0000:00:0e.0"]);
    assert!(controller.contains("10000:e1:00.0  dependent"), "{controller}");
    assert!(!said("07-vmd-nvme", &["catalog", "suggest"]).contains("a80a"));
}

/// Harvester 7340 and 8702: "ineligible for IOMMU domain attach due to platform RMRR requirement".
#[test]
fn case_09_memory_of_the_firmware_is_an_obstacle() {
    let ls = said("09-rmrr", &["ls"]);
    for port in ["0000:04:00.0", "0000:04:00.1"] {
        assert!(row(&ls, port).contains("not possible"), "{ls}");
    }
    assert!(ls.contains("RMRR") && ls.contains("iommu_groups/25/reserved_regions"), "{ls}");
    assert!(row(&ls, "0000:00:1d.0").ends_with("free"), "relaxable regions: {ls}");
    let doctor = one_line(&said("09-rmrr", &["doctor", "--for", "04:00.1", "--all"]));
    assert!(doctor.contains("0000:04:00.1 cannot be handed over yet"), "{doctor}");
}

/// xCuri0/ReBarUEFI 10: a card without addresses for its memory.
#[test]
fn case_10_a_bar_without_an_address_is_an_obstacle() {
    let ls = said("10-bar-unassigned", &["ls"]);
    assert!(row(&ls, "0000:01:00.0").contains("not possible"), "{ls}");
    let why = one_line(&ls);
    assert!(why.contains("no address for BAR 1 (128 GB) and BAR 3 (32 MB)"), "{ls}");
    assert!(why.contains("Above 4G Decoding") && why.contains("pci=realloc"), "{ls}");
    let show = said("10-bar-unassigned", &["show", "01:00.0"]);
    assert!(show.contains("1: 128 GB, 64-bit, prefetchable, without an address"), "{show}");
}

/// NVIDIA/open-gpu-kernel-modules 853, gnif/vendor-reset 49: a card that is dead after its first machine.
#[test]
fn case_12_a_card_that_does_not_respond_is_not_offered() {
    let ls = said("12-dead-config", &["ls"]);
    assert!(row(&ls, "0000:01:00.0").contains("not possible"), "{ls}");
    assert!(ls.contains("its configuration space reads as all ones"), "{ls}");
    let show = one_line(&said("12-dead-config", &["show", "01:00.0"]));
    assert!(show.contains("Can it be handed over? no"), "{show}");
    let doctor = one_line(&said("12-dead-config", &["doctor", "--for", "01:00.0"]));
    assert!(doctor.contains("0000:01:00.0 cannot be handed over yet"), "{doctor}");
}

/// isc30/ryzen-gpu-passthrough-proxmox 82, Harvester 10499: the slot of the graphics has the board's USB and sound.
#[test]
fn case_13_graphics_in_a_processor_take_only_their_own_audio() {
    let ls = said("13-apu-igpu", &["ls"]);
    assert!(ls.contains("└ 0000:0e:00.1  audio"), "{ls}");
    for own in ["0000:0e:00.2", "0000:0e:00.3", "0000:0e:00.4", "0000:0e:00.5", "0000:0e:00.6"] {
        assert!(row(&ls, own).ends_with("free"), "{own}: {ls}");
    }
    assert_eq!(ls.matches("same card").count(), 1, "{ls}");
}

/// tinygrad 18199: a function-level reset leaves the card dead.
#[test]
fn case_15_a_reset_that_is_known_to_fail_is_a_warning() {
    let doctor = one_line(&said("15-reset-blackwell", &["doctor", "--for", "01:00.0", "--all"]));
    assert!(doctor.contains("! reset-bug: 0000:01:00.0 is 10de:2b85"), "{doctor}");
    assert!(!doctor.contains("✓ reset "), "{doctor}");
    assert!(doctor.contains("choose another method (bus)"), "{doctor}");
}

/// KubeVirt 17642 and 16890: a vGPU by vendor-specific VFIO is given as the VF that it is.
#[test]
fn case_33_an_existing_vgpu_of_a_vendors_vfio_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let machine = directory.path().join("vm.yaml");
    let text = "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata: {name: v}\nspec: {domain: {memory: \
                {guest: 1Gi}, devices: {gpus: [{name: g, deviceName: nvidia.com/NVIDIA_L40S-8Q}]}}}\n";
    std::fs::write(&machine, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_handover"))
        .args(["pod", "--devices=vfio", "--host"])
        .arg(recording("33-vgpu-vendor-existing"))
        .arg(&machine)
        .output()
        .unwrap();
    let pod = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(pod.contains("name: PCI_RESOURCE_NVIDIA_COM_NVIDIA_L40S-8Q"), "{pod}");
    assert!(pod.contains("0000:41:00.4"), "{pod}");
    assert!(!pod.contains("MDEV"), "{pod}");
}

/// KubeVirt 17642: vfio-pci cannot be bound to such a VF.
#[test]
fn case_34_a_vgpu_stays_on_its_vendors_driver() {
    let show = |function: &str| said("34-vgpu-vf-driver", &["show", function]);
    for (function, can) in [("41:00.4", "yes"), ("41:00.5", "no"), ("41:00.6", "no")] {
        let text = show(function);
        assert!(text.contains("VFIO driver       nvidia"), "{text}");
        assert!(text.contains(&format!("Can it be handed over?\n  {can}\n")), "{text}");
    }
    assert!(one_line(&show("41:00.5")).contains("has no room for another"));
    assert!(one_line(&show("41:00.6")).contains("handover claim profile=NAME@0000:41:00.0"));
    let doctor = one_line(&said("34-vgpu-vf-driver", &["doctor", "--for", "41:00.4", "--all"]));
    assert!(doctor.contains("stays on NVIDIA's driver"), "{doctor}");
}

/// A virtual function without a type is counted nowhere: the tables, the catalog and claims agree.
#[test]
fn case_34_functions_that_are_no_vgpus_yet_are_not_available() {
    let ls = said("34-vgpu-vf-driver", &["ls"]);
    let free = |address: &str| row(&ls, address).ends_with("free");
    let all = ["0000:41:00.4", "0000:41:00.5", "0000:41:00.6", "0000:41:00.7"];
    assert_eq!(all.map(free), [true, false, false, false], "{ls}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("devices.yaml");
    let vendor = row(&ls, all[1]).split_whitespace().nth(2).unwrap().to_owned();
    let (vendor, device) = vendor.split_once(':').unwrap();
    let text = format!(
        "vendors:\n  - id: \"0x{vendor}\"\n    name: nvidia\n    devices:\n      - {{id: \"0x{device}\", name: vf, type: gpu}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let check = said("34-vgpu-vf-driver", &["catalog", "check", file.to_str().unwrap(), "--json"]);
    let check: serde_json::Value = serde_json::from_str(&check).unwrap();
    let found = &check["resources"][0];
    let states = found["devices"].as_array().unwrap();
    let free = states.iter().filter(|one| one["state"]["is"] == "free");
    let free: Vec<&str> = free.map(|one| one["address"].as_str().unwrap()).collect();
    assert_eq!((free.len(), found["available"].as_u64()), (1, Some(1)), "{check}");
    let free_rows = ls.lines().filter(|line| line.ends_with("free")).count();
    assert_eq!(free_rows, 1, "{ls}");
}

/// Class 0c80 is USB-C only on a display card; elsewhere it can be the flash with the firmware.
#[test]
fn case_39_serial_buses_of_the_board_are_no_usb_controllers() {
    let ls = said("39-kind-serial-bus", &["ls"]);
    for (address, kind) in [
        ("0000:00:14.0", "usb"),
        ("0000:00:15.0", "other"),
        ("0000:00:1e.0", "other"),
        ("0000:00:1f.5", "other"),
        ("0000:07:00.0", "accelerator"),
    ] {
        assert_eq!(row(&ls, address).split_whitespace().nth(1), Some(kind), "{ls}");
    }
}

fn unpack(name: &str, to: &std::path::Path) {
    let file = std::fs::File::open(recording(name)).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(to).unwrap();
}

/// What would be claimed is known from a recording, too.
#[test]
fn a_claim_can_be_planned_on_a_recorded_host() {
    let plan = |name: &str, what: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_handover"))
            .args(["claim", "--dry-run", "--root"])
            .arg(recording(name))
            .args(what)
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (status, text) = plan("13-apu-igpu", &["0e:00.0"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("0000:0e:00.1") && !text.contains("0000:0e:00.2"), "{text}");
    assert!(text.contains("bind 0000:0e:00.0"), "{text}");
    let (status, text) = plan("07-vmd-nvme", &["10000:e1:00.0"]);
    assert_eq!(status, 7, "{text}");
    assert!(text.contains("exist only as long as it is on vmd"), "{text}");
    // A drive that is mounted keeps its controller.
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    unpack("07-vmd-nvme", &tree);
    let mounts = tree.join("proc/self/mountinfo");
    let mounted = "30 1 259:0 / /data rw - ext4 /dev/nvme0n1 rw\n";
    std::fs::write(&mounts, std::fs::read_to_string(&mounts).unwrap_or_default() + mounted)
        .unwrap();
    for what in ["0000:00:0e.0", "storage"] {
        let output = Command::new(env!("CARGO_BIN_EXE_handover"))
            .args(["claim", "--dry-run", what, "--root"])
            .arg(&tree)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("mounted at /data"), "{what}: {text}");
    }
    // A card that does not respond.
    for what in ["gpu", "01:00.0"] {
        let (status, text) = plan("12-dead-config", &[what]);
        assert_ne!(status, 0, "{what}: {text}");
        assert!(text.contains("reads as all ones"), "{what}: {text}");
    }
    // A recording does not have the present settings, and the plan does not need them.
    let (status, text) = plan("../recordings/server-vfs", &["vf@0000:01:00.0,vlan=5"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("vlan"), "{text}");
    // The name of the device, and no module that is loaded.
    let (status, text) = plan("../recordings/workstation-held", &["0000:04:00.0"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("QEMU NVM Express Controller"), "{text}");
    // One that another tool made is not to be freed for a virtual function.
    let (status, text) = plan("34-vgpu-vf-driver", &["vf@41:00.0"]);
    assert_ne!(status, 0, "{text}");
    assert!(text.contains("claim it as the vGPU that it is") && !text.contains("echo 0"), "{text}");
    // An NVIDIA vGPU that exists is taken as it is.
    let (status, text) = plan("34-vgpu-vf-driver", &["41:00.4"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("vGPU L40S-8Q") && !text.contains("set the vGPU type"), "{text}");
}

/// `ls` and `doctor` have one way out for a virtual machine without an IOMMU: its firmware has nothing to enable.
#[test]
fn a_virtual_machine_gets_its_iommu_from_outside() {
    for command in [&["ls"][..], &["doctor"]] {
        let text = joined(&said("../recordings/bare", command));
        assert!(text.contains(model::VIRTUAL_IOMMU), "{command:?}: {text}");
        assert!(!text.contains("in the firmware;"), "{command:?}: {text}");
    }
}

/// The same long advice is given once.
#[test]
fn the_way_to_a_tool_for_the_initial_ramdisk_is_told_once() {
    let text = joined(&said("../recordings/bare", &["doctor"]));
    assert_eq!(text.matches("apt install initramfs-tools").count(), 1, "{text}");
    assert!(text.contains("first install such a tool, as above"), "{text}");
    // A kernel without security modules has no list of them.
    assert!(!text.contains("security/lsm"), "{text}");
    // Equal devices share a finding; its words say what to do for each.
    let text = joined(&said("../recordings/server", &["doctor"]));
    assert!(text.contains("do the same for 0000:24:00.0 and 0000:43:00.0"), "{text}");
}

/// `-` is standard output, or refused: never a file of that name.
#[test]
fn a_dash_is_no_file() {
    let place = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        command.current_dir(place.path()).args(arguments).output().unwrap()
    };
    let host = recording("../recordings/bare").canonicalize().unwrap();
    let host = host.to_str().unwrap();
    let picture = run(&["topo", "--svg", "-", "--root", host]);
    assert!(picture.stdout.starts_with(b"<svg") && picture.status.success(), "{picture:?}");
    for command in ["backup", "restore"] {
        let refused = run(&[command, "-", "--state-dir", "state"]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8(refused.stderr).unwrap().contains("file named -"));
    }
    let watched = run(&["watch", "--root", host]);
    assert_eq!(watched.status.code(), Some(2), "{watched:?}");
    assert!(
        String::from_utf8(watched.stderr).unwrap().contains("a recording or another tree has none")
    );
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn an_unreadable_token_file_is_no_token() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(["claims", "--url", "http://127.0.0.1:9", "--token-file", "/nonexistent/token"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("(unauthorized)") && error.contains("/nonexistent/token"), "{error}");
}

/// `doctor --for` accepts the beginning of an address, as `show` does.
#[test]
fn the_beginning_of_an_address_is_enough() {
    let text = joined(&said("../recordings/bare", &["doctor", "--for", "03:"]));
    assert!(text.contains("0000:03:00.0 cannot be handed over yet"), "{text}");
    let output = Command::new(env!("CARGO_BIN_EXE_handover"))
        .args(["doctor", "--for", "01:", "--root"])
        .arg(recording("../recordings/bare"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("0000:01:00.0 and 0000:01:00.1"), "{error}");
}

/// What belongs to another device is not missing from the host.
#[test]
fn a_kind_that_only_goes_with_others_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_handover"))
        .args(["claim", "--dry-run", "audio", "--root"])
        .arg(format!("{REPORTS}/../recordings/workstation.tar.gz"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("0000:01:00.1 is handed over with 0000:01:00.0"), "{text}");
}
