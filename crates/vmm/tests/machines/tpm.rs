//! A machine as Windows 11 requires it: Secure Boot and a TPM, with the QEMU, the OVMF and the swtpm that are installed here, if they are.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use model::{
    Cpu, DiskFormat, Display, DisplayProtocol, Execution, Firmware, GuestOs, Launcher, MachineDisk,
    MachineOptions, MachineSpec, Presence,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{Bench, machine};
use crate::real::with;

pub fn all() -> Vec<Trial> {
    vec![Trial::ignorable_test("qemu_swtpm_and_ovmf_give_a_guest_secure_boot_and_a_tpm", || {
        with(&["qemu-system-x86_64", "qemu-img", "swtpm"], has_secure_boot_and_a_tpm)
    })]
}

/// The swtpm with its state in this directory. Its user cannot read its command line while it is sandboxed; root can.
fn swtpm(state: &Path) -> Option<Pid> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find_map(|pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let state = format!("dir={},", state.display());
        let is_it = line.contains("swtpm\0") && line.contains(&state);
        is_it.then(|| Pid::from_raw(pid)).flatten()
    })
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn has_secure_boot_and_a_tpm() -> Result<Completion, Failed> {
    let bench = Bench::real();
    let firmware = Firmware::UefiSecure;
    let display =
        Some(Display { protocol: DisplayProtocol::Vnc, video_memory: None, listen: None });
    let cpu = Cpu { os: GuestOs::Windows, ..Cpu::default() };
    let options = MachineOptions { firmware, tpm: true, display, cpu, ..MachineOptions::default() };
    if let Err(error) = bench.qemu.check(&options) {
        eprintln!("SKIPPED: {error}");
        return Ok(Completion::ignored_with(error.to_string()));
    }
    let base = bench.path().join("base");
    fs::write(&base, vec![0; 1 << 20])?;
    let disk = MachineDisk { base, format: DiskFormat::Raw, size: Some(64 << 20) };
    let spec = MachineSpec { disk: Some(disk), slots: Vec::new(), options, ..machine("tpm") };
    bench.qemu.create_files(&spec)?;
    let dir = bench.path().join("state/machines").join(spec.id.to_string());
    let (nvram, state) = (dir.join("nvram.fd"), dir.join("tpm"));
    let metadata = fs::metadata(&state)?;
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (spec.uid, 0o700));
    let template = fs::read(&nvram)?;

    bench.qemu.launch(&spec)?;
    let file = state.join("tpm2-00.permall");
    wait("swtpm writes its state", || fs::metadata(&file).is_ok_and(|file| file.len() > 0));
    let metadata = fs::metadata(&file)?;
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (spec.uid, 0o600));
    wait("firmware in SMM writes a variable", || fs::read(&nvram).is_ok_and(|now| now != template));
    assert_eq!(bench.qemu.lost(spec.id, &spec.options), None);
    bench.qemu.kill(spec.id)?;
    wait("swtpm ends with its machine", || swtpm(&state).is_none());
    goes_on_without_swtpm(&bench, &spec, &state)?;

    fs::write(state.join("kept"), "")?;
    bench.qemu.create_files(&spec)?;
    bench.qemu.launch(&spec)?;
    assert_eq!(bench.qemu.lost(spec.id, &spec.options), None, "a start brings it back");
    bench.qemu.kill(spec.id)?;
    assert!(state.join("kept").exists() && file.exists(), "a start keeps the state");
    bench.qemu.remove_files(spec.id)?;
    assert!(!dir.exists());
    Ok(Completion::Completed)
}

/// The guest continues, and the machine says what it has lost.
fn goes_on_without_swtpm(bench: &Bench, spec: &MachineSpec, state: &Path) -> Result<(), Failed> {
    bench.qemu.launch(spec)?;
    let pid = swtpm(state).ok_or("no swtpm runs")?;
    kill_process(pid, Signal::KILL)?;
    wait("swtpm ends", || swtpm(state).is_none());
    if fs::read_to_string("/proc/self/mountinfo")?.contains(" - cgroup2 ") {
        let lost = || bench.qemu.lost(spec.id, &spec.options).unwrap_or_default();
        wait("the loss is noticed", || lost().starts_with("swtpm has ended"));
    } else {
        eprintln!("SKIPPED, what has ended: no unified hierarchy is mounted");
    }
    assert!(matches!(bench.qemu.find(spec.id), Presence::Running(_)));
    assert_eq!(bench.qemu.execution(spec.id)?, Execution::Running);
    Ok(bench.qemu.kill(spec.id)?)
}
