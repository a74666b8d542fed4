//! A place with a launcher, and machines to start.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use host::{KernelFilter, KernelLinks};
use model::{GuestSlot, Launcher, MachineHandle, MachineSpec};
use tempfile::TempDir;
use uuid::Uuid;
use vmm::process::{Config, ProcessLauncher, Vmm};
use vmm::qemu::Qemu;

use crate::tiny::Tiny;

/// An unused uid; machines get such uids from a configured range.
const MACHINE_UID: u32 = 1_900_000_000;

/// What stands for QEMU: the monitor's socket becomes the standard input of the fake.
const WRAPPER: &str = r#"#!/bin/sh
if [ "$1" = -version ]; then echo 'QEMU emulator version 9.9.9 (fake)'; exit; fi
for argument; do
    case $argument in socket,id=monitor,fd=*) fd=${argument#*fd=}; fd=${fd%%,*} ;; esac
done
eval 'exec "${0%/*}/fake" fake-qemu "$@" <&'"$fd"
"#;

/// A fake qemu-img: it writes its arguments into the new layer.
const IMAGE_TOOL: &str = r#"#!/bin/sh
for argument; do case $argument in /*unfinished) file=$argument ;; esac; done
echo "$@" > "$file"
"#;

pub struct Bench {
    top: TempDir,
    pub qemu: ProcessLauncher<Qemu>,
}

impl Bench {
    /// A bench with the fake QEMU.
    pub fn new() -> Self {
        let top = top();
        executable(&top.path().join("qemu-system-x86_64"), WRAPPER.as_bytes());
        executable(&top.path().join("qemu-img"), IMAGE_TOOL.as_bytes());
        Self { qemu: fake_qemu(top.path()), top }
    }

    /// A bench with the QEMU on PATH.
    pub fn real() -> Self {
        let top = top();
        Self { qemu: launcher(top.path(), Qemu::new(None, &KernelFilter)), top }
    }

    pub fn path(&self) -> &Path {
        self.top.path()
    }

    /// The launcher of a daemon that was started again.
    pub fn restarted(&self) -> ProcessLauncher<Qemu> {
        fake_qemu(self.path())
    }

    /// Another process that starts the machine, as its daemon, and then ends.
    pub fn daemon(&self, spec: &MachineSpec) -> Command {
        daemon_process("qemu", self.path(), spec)
    }

    /// Lets another process start the machine, as its daemon, and end.
    pub fn start_by_a_daemon_that_ends(&self, spec: &MachineSpec) -> MachineHandle {
        started_by(self.daemon(spec))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        kill_all(self.path(), &self.qemu);
    }
}

/// A directory that machines' users can pass through, with this executable to play the VMM.
pub fn top() -> TempDir {
    let top = TempDir::new().unwrap();
    fs::set_permissions(top.path(), Permissions::from_mode(0o711)).unwrap();
    executable(&top.path().join("fake"), &fs::read(std::env::current_exe().unwrap()).unwrap());
    top
}

/// A launcher of machines below this directory.
pub fn launcher<V: Vmm>(top: &Path, vmm: V) -> ProcessLauncher<V> {
    let config = Config {
        run_dir: top.join("run"),
        state_dir: top.join("state"),
        image_tool_dir: Some(top.into()),
        launch_command: vec![std::env::current_exe().unwrap().into(), "launch".into()],
        root: "/".into(),
        links: &KernelLinks,
        vsock: host::vsock::open,
    };
    ProcessLauncher::new(config, vmm)
}

fn fake_qemu(top: &Path) -> ProcessLauncher<Qemu> {
    launcher(top, Qemu::new(Some(top.join("qemu-system-x86_64")), &KernelFilter))
}

/// No machine outlives its trial.
pub fn kill_all(top: &Path, launcher: &dyn Launcher) {
    for entry in fs::read_dir(top.join("run/machines")).into_iter().flatten().flatten() {
        if let Ok(id) = entry.file_name().to_string_lossy().parse() {
            let _ = launcher.kill(id);
        }
    }
}

/// A process that starts the machine with this VMM, as its daemon, and then ends.
pub fn daemon_process(vmm: &str, top: &Path, spec: &MachineSpec) -> Command {
    let mut daemon = Command::new(std::env::current_exe().unwrap());
    daemon.args(["daemon", vmm]).arg(top).arg(serde_json::to_string(spec).unwrap());
    daemon
}

/// Lets such a process start its machine and end.
pub fn started_by(mut daemon: Command) -> MachineHandle {
    let output = daemon.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The part of a daemon that starts a machine and ends.
pub fn daemon(arguments: &[String]) -> ExitCode {
    let top = Path::new(&arguments[3]);
    let spec: MachineSpec = serde_json::from_str(&arguments[4]).unwrap();
    let launcher: Box<dyn Launcher> = match arguments[2].as_str() {
        "tiny" => Box::new(launcher(top, Tiny::in_dir(top))),
        _ => Box::new(fake_qemu(top)),
    };
    launcher.create_files(&spec).unwrap();
    println!("{}", serde_json::to_string(&launcher.launch(&spec).unwrap()).unwrap());
    ExitCode::SUCCESS
}

/// The user that machines run as here: without root there is but one.
pub fn machine_uid() -> u32 {
    let own = rustix::process::getuid().as_raw();
    if own == 0 { MACHINE_UID } else { own }
}

thread_local! {
    /// The id of a trial's machine. Machines of trials that run at once must not share a control group.
    static MACHINE: Uuid = Uuid::new_v4();
}

/// A machine without devices.
pub fn machine(name: &str) -> MachineSpec {
    MachineSpec {
        id: MACHINE.with(|id| *id),
        name: name.into(),
        uid: machine_uid(),
        vcpus: 1,
        memory: 128 << 20,
        huge_pages: None,
        placement: None,
        kernel: None,
        disk: None,
        container: None,
        disks: Vec::new(),
        slots: Vec::new(),
        access: model::DeviceAccess::Groups,
        spare: model::SparePorts::default(),
        usb: Vec::new(),
        options: model::MachineOptions::default(),
    }
}

/// A machine with one device, or `None` if the limit of locked memory cannot be raised on this host.
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
pub fn executable(path: &Path, bytes: &[u8]) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(writer.wait().unwrap().success());
}
