//! The boot list, with real boots: a distribution's tool builds the initial ramdisk, and its scripts and udev start the
//! host.

use std::time::Duration;

use lab::{Lab, Options, images::ramdisk_tools, tree::Tree};

use crate::support::{AUDIO, GPU, NIC, NVME, thoroughly, wanted};

/// The drivers of the devices, in this order: the GPU, its audio function, the NIC, the NVMe drive.
fn drivers(lab: &Lab) -> Vec<String> {
    let of = |address: &str| {
        let link = format!("basename \"$(readlink /sys/bus/pci/devices/{address}/driver)\"");
        lab.sh(&link).unwrap().trim().to_owned()
    };
    [GPU, AUDIO, NIC, NVME].map(of).into()
}

/// Boots, and installs a tool that builds initial ramdisks.
fn with_tool(tool: &Tree) -> Lab {
    let options = Options { share: Some(tool.root().to_owned()), ..Options::default() };
    let lab = Lab::start(&options).unwrap();
    lab.sh("cp -a /host/. / && mkdir -p /boot").unwrap();
    lab
}

/// Runs a tool that builds an initial ramdisk, which is slow on an emulated machine.
fn make(lab: &Lab, script: &str) -> String {
    lab.exec_within(script, Duration::from_secs(300)).unwrap().success().unwrap()
}

/// Boots with this initial ramdisk.
fn boot(image: &[u8]) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ramdisk");
    std::fs::write(&path, image).unwrap();
    Lab::start(&Options { ramdisk: Some(path), ..Options::default() }).unwrap()
}

/// No other driver was ever bound to it.
fn expect_unprobed(lab: &Lab) {
    let probed = lab.sh(&format!("dmesg | grep -c 'e1000e {NIC}' || true")).unwrap();
    assert_eq!(probed.trim(), "0");
}

#[test]
fn boot_list_devices_are_on_vfio_from_the_start_of_the_next_boot() {
    if !wanted() {
        return;
    }
    let first = with_tool(&ramdisk_tools::initramfs_tools().unwrap());
    // The tool makes again what is there: as if an installer had made one.
    first.sh("touch /boot/initrd.img-$(uname -r)").unwrap();

    let native = ["labgpu", "labaudio", "e1000e", "nvme"];
    let said = first
        .sh(&format!("handover claim {NIC} --at-boot --owner job/one 2>&1 >/dev/null"))
        .unwrap();
    assert!(said.contains("after the initial ramdisk is rebuilt"), "{said}");
    assert_eq!(drivers(&first), ["labgpu", "labaudio", "vfio-pci", "nvme"]);
    make(&first, &format!("handover reserve {GPU} --rebuild"));
    assert_eq!(drivers(&first)[0], "labgpu", "nothing of it changes before the boot");
    let listed = first.sh("handover reserve --list").unwrap();
    for address in [GPU, AUDIO, NIC] {
        assert!(listed.contains(address), "{listed}");
    }
    let image = first.sh("echo /boot/initrd.img-$(uname -r)").unwrap();
    let reserving = first.get(image.trim()).unwrap();

    let said = first.sh("handover release --owner job/one 2>&1").unwrap();
    assert!(said.contains("after the initial ramdisk is rebuilt"), "{said}");
    assert_eq!(drivers(&first), native);
    make(&first, &format!("handover reserve --remove {GPU} --rebuild"));
    first.sh("[ ! -e /etc/handover ]").unwrap();
    let plain = first.get(image.trim()).unwrap();
    drop(first);

    let second = boot(&reserving);
    assert_eq!(drivers(&second), ["vfio-pci", "vfio-pci", "vfio-pci", "nvme"]);
    expect_unprobed(&second);
    // It was found on vfio, so it stays there.
    second.sh(&format!("handover claim {NIC} {GPU} --owner test/1")).unwrap();
    second.sh("handover release --owner test/1").unwrap();
    assert_eq!(drivers(&second), ["vfio-pci", "vfio-pci", "vfio-pci", "nvme"]);
    drop(second);

    assert_eq!(drivers(&boot(&plain)), native, "what is reserved no longer is its driver's again");
}

/// In `make lab-long` only: dracut takes minutes on an emulated processor. The gate boots what initramfs-tools builds.
#[test]
fn dracut_reserves_too() {
    if !wanted() || !thoroughly() {
        return;
    }
    let first = with_tool(&ramdisk_tools::dracut().unwrap());
    let said = first.sh(&format!("handover reserve {GPU} {NIC}")).unwrap();
    assert!(said.contains("dracut"), "it says what to run: {said}");
    // What is said makes the ramdisks of all kernels in /boot; there is none of the lab's.
    make(&first, "dracut --force /tmp/ramdisk $(uname -r)");
    let image = first.get("/tmp/ramdisk").unwrap();
    drop(first);
    let second = boot(&image);
    assert_eq!(drivers(&second), ["vfio-pci", "vfio-pci", "vfio-pci", "nvme"]);
    expect_unprobed(&second);
}
