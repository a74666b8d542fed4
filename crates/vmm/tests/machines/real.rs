//! The same with the QEMU that is installed here, if one is.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use model::{
    DiskFormat, Exit, Firmware, Launcher, MachineDisk, MachineOptions, MachineSpec, NetworkCard,
    Presence, Seed,
};

use crate::bench::{Bench, machine};

pub fn all() -> Vec<Trial> {
    vec![
        Trial::ignorable_test("qemu_itself_takes_the_command_line_and_runs_as_a_stranger", || {
            with(&["qemu-system-x86_64", "qemu-img"], runs_as_a_stranger)
        }),
        Trial::ignorable_test("qemu_passt_and_ovmf_make_a_machine_and_end_with_it", || {
            with(&["qemu-system-x86_64", "qemu-img", "passt"], has_firmware_network_and_seed)
        }),
    ]
}

/// Runs a trial if these programs are installed.
fn with(
    programs: &[&str],
    trial: impl FnOnce() -> Result<Completion, Failed>,
) -> Result<Completion, Failed> {
    let installed = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    if programs.iter().all(installed) {
        return trial();
    }
    let needs = format!("needs {}", programs.join(", "));
    eprintln!("SKIPPED: {needs}");
    Ok(Completion::ignored_with(needs))
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

/// OVMF runs until its shell or menu, with a network card, a seed and a disk without a system.
fn has_firmware_network_and_seed() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let base = bench.path().join("base");
    fs::write(&base, vec![0; 1 << 20])?;
    let disk = MachineDisk { base, format: DiskFormat::Raw, size: Some(64 << 20) };
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let forwards = vec![format!("{port}:22").parse()?];
    let mut options = MachineOptions {
        firmware: Firmware::Uefi,
        cards: vec![NetworkCard { mac: "52:54:00:12:34:56".parse()?, forwards }],
        seed: Some(Seed { user_data: "#cloud-config\n".into(), ..Seed::default() }),
        ..MachineOptions::default()
    };
    if let Err(error) = bench.qemu.check(&options) {
        eprintln!("SKIPPED, the part with a network: {error}");
        options.cards.clear();
    }
    if let Err(error) = bench.qemu.check(&options) {
        eprintln!("SKIPPED: {error}");
        return Ok(Completion::ignored_with(error.to_string()));
    }
    let has_network = options.has_user_network();
    let spec = MachineSpec { disk: Some(disk), options, ..machine("firmware") };
    bench.qemu.create_files(&spec)?;
    let dir = bench.path().join("state/machines").join(spec.id.to_string());
    let (nvram, seed) = (dir.join("nvram.fd"), dir.join("seed.iso"));
    assert_eq!(fs::metadata(&seed)?.mode() & 0o777, 0o400, "the seed has a private key");
    let template = fs::read(&nvram)?;
    bench.qemu.launch(&spec)?;
    let is_taken = TcpListener::bind(("127.0.0.1", port)).is_err();
    assert_eq!(is_taken, has_network, "passt listens on the port");
    let until = Instant::now() + Duration::from_secs(60);
    while fs::read(&nvram)? == template {
        assert!(Instant::now() < until, "OVMF has not written a variable");
        std::thread::sleep(Duration::from_millis(100));
    }
    let kept = fs::read(&nvram)?;
    bench.qemu.kill(spec.id)?;
    let until = Instant::now() + Duration::from_secs(10);
    while TcpListener::bind(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "passt outlives its machine");
        std::thread::sleep(Duration::from_millis(20));
    }
    bench.qemu.create_files(&spec)?;
    assert_eq!(fs::read(&nvram)?, kept, "a start keeps the variables");
    bench.qemu.launch(&spec)?;
    bench.qemu.kill(spec.id)?;
    bench.qemu.remove_files(spec.id)?;
    assert!(!dir.exists());
    Ok(Completion::Completed)
}
