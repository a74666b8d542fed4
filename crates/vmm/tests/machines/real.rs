//! The same with the QEMU that is installed here, if one is.

use std::fs;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use model::{DiskFormat, Exit, Launcher, MachineDisk, MachineSpec, Presence};

use crate::bench::{Bench, machine};

pub fn all() -> Vec<Trial> {
    vec![Trial::ignorable_test("qemu_itself_takes_the_command_line_and_runs_as_a_stranger", || {
        let installed = |name: &str| Command::new(name).arg("--version").output().is_ok();
        if !installed("qemu-system-x86_64") || !installed("qemu-img") {
            eprintln!("SKIPPED: needs qemu-system-x86 and qemu-utils");
            return Ok(Completion::ignored_with("needs qemu-system-x86 and qemu-utils"));
        }
        runs_as_a_stranger()
    })]
}

/// The firmware runs on a disk layer without a system: enough for QEMU to open all files as the machine's user, under
/// its sandbox, with a guest that executes.
fn runs_as_a_stranger() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let base = bench.path().join("base");
    fs::write(&base, vec![0; 1 << 20])?;
    let disk = MachineDisk { base, format: DiskFormat::Raw, size: Some(64 << 20) };
    let spec =
        MachineSpec { disk: Some(disk), slots: Vec::new(), name: "a,b=\"c".into(), ..machine("") };
    bench.qemu.create_files(&spec)?;
    let handle = bench.qemu.launch(&spec)?;
    assert_eq!(bench.qemu.find(spec.id), Presence::Running(handle));
    // Firmware without a system hears no power button.
    let exit = bench.qemu.shut_down(spec.id, Duration::from_millis(100))?;
    assert_eq!(exit, Exit { code: Some(0) });
    bench.qemu.launch(&spec)?;
    bench.qemu.kill(spec.id)?;
    bench.qemu.remove_files(spec.id)?;
    Ok(Completion::Completed)
}
