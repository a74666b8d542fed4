//! The ports for devices of a running machine, with the QEMU that is installed here, if one is. It has no device to plug.

use std::fs;
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use model::{
    DeviceAccess, DiskFormat, GuestSlot, LaunchError, Launcher, MachineDisk, MachineSpec, Plug,
    SparePorts, Unplugged,
};

use crate::bench::{Bench, machine};
use crate::real::with;

pub fn all() -> Vec<Trial> {
    vec![Trial::ignorable_test("qemu_has_spare_ports_for_devices", || {
        with(&["qemu-system-x86_64", "qemu-img"], has_spare_ports)
    })]
}

fn has_spare_ports() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let base = bench.path().join("base");
    fs::write(&base, vec![0; 1 << 20])?;
    let disk = MachineDisk { base, format: DiskFormat::Raw, size: None };
    let spare = SparePorts { count: 2, devices: Vec::new() };
    let spec = MachineSpec { disk: Some(disk), spare, ..machine("ports") };
    bench.qemu.create_files(&spec)?;
    bench.qemu.launch(&spec)?;
    let slot = GuestSlot::place(["0000:ff:1f.7".parse()?]);
    assert_eq!(bench.qemu.free_port(spec.id, &slot, &[])?, 0);
    assert_eq!(bench.qemu.free_port(spec.id, &slot, &[0])?, 1);
    let none = bench.qemu.free_port(spec.id, &slot, &[0, 1]);
    assert!(matches!(none, Err(LaunchError::NoPort { .. })), "{none:?}");
    assert_eq!(bench.qemu.plugged(spec.id)?, Some(Vec::new()));
    let out = bench.qemu.unplug(spec.id, &slot, Duration::from_secs(10))?;
    assert_eq!(out, Unplugged::Out, "it is not there");
    let access = DeviceAccess::Groups;
    let others = Vec::new();
    let plug = Plug { id: spec.id, slot, roms: Vec::new(), memory: 0, others, access };
    let refused = bench.qemu.plug(&plug);
    let Err(LaunchError::Plug { reason }) = refused else {
        return Err(format!("{refused:?}").into());
    };
    bench.qemu.kill(spec.id)?;
    if reason.contains("limit of locked memory") {
        return Ok(Completion::ignored_with("this user may not raise the limit of locked memory"));
    }
    assert!(reason.contains("0000:ff:1f.7"), "{reason}");
    Ok(Completion::Completed)
}
