//! A place with a launcher, and machines to start.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use model::{GuestSlot, Launcher, MachineHandle, MachineSpec};
use tempfile::TempDir;
use uuid::Uuid;
use vmm::qemu::{Config, Qemu};

/// A user that nobody is; machines get such users from a configured range.
const MACHINE_UID: u32 = 1_900_000_000;

/// What stands for QEMU: the monitor's socket becomes the standard input of the fake.
const WRAPPER: &str = r#"#!/bin/sh
if [ "$1" = -version ]; then echo 'QEMU emulator version 9.9.9 (fake)'; exit; fi
for argument; do
    case $argument in socket,id=monitor,fd=*) fd=${argument#*fd=}; fd=${fd%%,*} ;; esac
done
eval 'exec "${0%/*}/fake" fake-qemu "$@" <&'"$fd"
"#;

/// What stands for qemu-img: it writes what it was asked into the new layer.
const IMAGE_TOOL: &str = r#"#!/bin/sh
for argument; do case $argument in /*unfinished) file=$argument ;; esac; done
echo "$@" > "$file"
"#;

pub struct Bench {
    top: TempDir,
    pub qemu: Qemu,
}

impl Bench {
    /// A bench with the fake QEMU.
    pub fn new() -> Self {
        let top = Self::top();
        executable(&top.path().join("qemu-system-x86_64"), WRAPPER.as_bytes());
        executable(&top.path().join("qemu-img"), IMAGE_TOOL.as_bytes());
        executable(&top.path().join("fake"), &fs::read(std::env::current_exe().unwrap()).unwrap());
        let binary = Some(top.path().join("qemu-system-x86_64"));
        Self { qemu: Qemu::new(config(top.path(), binary)), top }
    }

    /// A bench with the QEMU on PATH.
    pub fn real() -> Self {
        let top = Self::top();
        Self { qemu: Qemu::new(config(top.path(), None)), top }
    }

    /// Machines' users must be able to pass through.
    fn top() -> TempDir {
        let top = TempDir::new().unwrap();
        fs::set_permissions(top.path(), Permissions::from_mode(0o711)).unwrap();
        top
    }

    pub fn path(&self) -> &Path {
        self.top.path()
    }

    /// The launcher of a daemon that was started again.
    pub fn restarted(&self) -> Qemu {
        Qemu::new(config(self.path(), Some(self.path().join("qemu-system-x86_64"))))
    }

    /// Another process that starts the machine, as its daemon, and then ends.
    pub fn daemon(&self, spec: &MachineSpec) -> Command {
        let mut daemon = Command::new(std::env::current_exe().unwrap());
        daemon.arg("daemon").arg(self.path()).arg(serde_json::to_string(spec).unwrap());
        daemon
    }

    /// Lets another process start the machine, as its daemon, and end.
    pub fn start_by_a_daemon_that_ends(&self, spec: &MachineSpec) -> MachineHandle {
        let output = self.daemon(spec).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Bench {
    /// No machine outlives its trial.
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path().join("run/machines")).into_iter().flatten().flatten()
        {
            if let Ok(id) = entry.file_name().to_string_lossy().parse() {
                let _ = self.qemu.kill(id);
            }
        }
    }
}

fn config(top: &Path, binary: Option<PathBuf>) -> Config {
    Config {
        run_dir: top.join("run"),
        state_dir: top.join("state"),
        binary,
        launcher: vec![std::env::current_exe().unwrap().into(), "launch".into()],
        root: "/".into(),
    }
}

/// The part of a daemon that starts a machine and ends.
pub fn daemon(arguments: &[String]) -> ExitCode {
    let top = Path::new(&arguments[2]);
    let spec: MachineSpec = serde_json::from_str(&arguments[3]).unwrap();
    let qemu = Qemu::new(config(top, Some(top.join("qemu-system-x86_64"))));
    qemu.create_files(&spec).unwrap();
    println!("{}", serde_json::to_string(&qemu.launch(&spec).unwrap()).unwrap());
    ExitCode::SUCCESS
}

/// The user that machines run as here: without root there is but one.
pub fn machine_uid() -> u32 {
    let own = rustix::process::getuid().as_raw();
    if own == 0 { MACHINE_UID } else { own }
}

/// A machine without devices.
pub fn machine(name: &str) -> MachineSpec {
    MachineSpec {
        id: Uuid::from_u128(7),
        name: name.into(),
        uid: machine_uid(),
        vcpus: 1,
        memory: 128 << 20,
        kernel: None,
        disk: None,
        slots: Vec::new(),
    }
}

/// A machine with one device, or `None` where this host lets nobody raise the limit of locked memory.
pub fn machine_with_device(name: &str) -> Option<MachineSpec> {
    let slots = vec![GuestSlot::place(["0000:01:00.0".parse().unwrap()])];
    let raised = Command::new("sh").args(["-c", "ulimit -l 2000000"]).output().unwrap();
    if !raised.status.success() {
        eprintln!("SKIPPED: the limit of locked memory cannot be raised here");
    }
    raised.status.success().then(|| MachineSpec { slots, ..machine(name) })
}

/// Written by another program: a process that another thread forks meanwhile has our open files for a moment, and what
/// is open for writing cannot be executed (ETXTBSY, execve(2)).
fn executable(path: &Path, bytes: &[u8]) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(writer.wait().unwrap().success());
}
