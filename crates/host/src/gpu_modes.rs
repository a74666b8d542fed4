//! Modes of NVIDIA's GPUs, as `nvidia-smi` tells them: NVIDIA's driver has no files for them.
//!
//! The program asks the driver, which can wake GPUs, so it is run only while no GPU of this driver sleeps. It runs in a worker,
//! and has less time than that: a program that does not end is killed, and not waited for.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use model::{Address, GpuModes};

use crate::nodes::NVIDIA_GPUS;
use crate::program;
use crate::root::Root;

/// How long the program may take. Without NVIDIA's persistence daemon, the driver starts the GPU for it.
const PATIENCE: Duration = Duration::from_secs(4);

/// The longest output.
const LONGEST: u64 = 4096;

/// The fields that are asked for, in this order (`nvidia-smi --help-query-gpu`).
const FIELDS: &str = "--query-gpu=ecc.mode.current,mig.mode.current";

/// The modes of a GPU on NVIDIA's driver; nothing if they cannot be known without waking a GPU.
pub fn read(root: &Root, address: Address) -> GpuModes {
    let Some(path) = program::find(root, "nvidia-smi") else { return GpuModes::default() };
    if !is_driven(root, address) || !all_awake(root) {
        return GpuModes::default();
    }
    let one = address.to_string();
    let listed = run(root, &path, &["-i", &one, FIELDS, "--format=csv,noheader"]);
    let modes = listed.as_deref().map(of_fields).unwrap_or_default();
    // It is one for all GPUs of the driver.
    let confidential = run(root, &path, &["conf-compute", "-f"]);
    GpuModes { cc: confidential.as_deref().and_then(of_status), ..modes }
}

/// Whether a GPU is on NVIDIA's driver.
pub fn is_driven(root: &Root, address: Address) -> bool {
    root.exists(&format!("{NVIDIA_GPUS}/{address}"))
}

/// Whether no GPU of NVIDIA's driver is suspended.
fn all_awake(root: &Root) -> bool {
    let gpus = root.names(NVIDIA_GPUS).unwrap_or_default();
    gpus.iter().all(|gpu| {
        let status = root.text(&format!("sys/bus/pci/devices/{gpu}/power/runtime_status"));
        let status = status.unwrap_or_default();
        matches!(status.trim(), "" | "active" | "unsupported")
    })
}

/// Reads a line of the fields: `Enabled, Disabled`; `[N/A]` is a mode that the GPU does not have.
fn of_fields(text: &str) -> GpuModes {
    let mut fields = text.lines().next().unwrap_or_default().split(',').map(on);
    let (ecc, mig) = (fields.next().flatten(), fields.next().flatten());
    GpuModes { ecc, mig, cc: None }
}

/// Reads `CC status: ON`.
fn of_status(text: &str) -> Option<bool> {
    on(text.lines().find_map(|line| line.trim().strip_prefix("CC status:"))?)
}

fn on(word: &str) -> Option<bool> {
    match word.trim().to_ascii_lowercase().as_str() {
        "enabled" | "on" => Some(true),
        "disabled" | "off" => Some(false),
        _ => None,
    }
}

/// The output of a program that succeeds in time.
fn run(root: &Root, path: &str, args: &[&str]) -> Option<String> {
    let mut child = Command::new(root.path().join(path))
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let end = Instant::now() + PATIENCE / 2;
    // Its output fits into a pipe, so it can be read after the program has exited.
    let status = loop {
        if let Some(status) = child.try_wait().ok()? {
            break status;
        }
        if Instant::now() > end {
            // One that waits in the driver does not end, and its worker must.
            let _ = child.kill();
            std::thread::spawn(move || child.wait());
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut output = Vec::new();
    child.stdout.take()?.take(LONGEST).read_to_end(&mut output).ok()?;
    status.success().then(|| String::from_utf8_lossy(&output).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn fields_are_modes_or_unknown() {
        let modes = |text| of_fields(text);
        let both = GpuModes { ecc: Some(true), mig: Some(false), cc: None };
        assert_eq!(modes("Enabled, Disabled\n"), both);
        assert_eq!(modes("[N/A], [N/A]\n"), GpuModes::default());
        assert_eq!(modes("No devices were found\n"), GpuModes::default());
        assert_eq!(modes(""), GpuModes::default());
        assert_eq!(of_status("CC status: ON\n"), Some(true));
        assert_eq!((of_status("CC status: off"), of_status("usage: ...")), (Some(false), None));
    }

    /// A host with two GPUs on NVIDIA's driver and a program of this text.
    fn host(program: &str, status: &str) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        for gpu in ["0000:41:00.0", "0000:42:00.0"] {
            write(&format!("proc/driver/nvidia/gpus/{gpu}/information"), "Model: x\n");
        }
        write("sys/bus/pci/devices/0000:41:00.0/power/runtime_status", "active\n");
        write("sys/bus/pci/devices/0000:42:00.0/power/runtime_status", status);
        let path = write("usr/bin/nvidia-smi", program);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    const ANSWERS: &str = "#!/bin/sh\ncase $1 in\n  -i) [ $2 = 0000:41:00.0 ] && echo 'Enabled, Disabled' ;;\n  *) echo 'CC status: OFF' ;;\nesac\n";

    #[test]
    fn the_vendors_program_is_asked_only_while_no_gpu_sleeps() {
        let at = |text: &str| text.parse::<Address>().unwrap();
        let (_dir, root) = host(ANSWERS, "active\n");
        let modes = GpuModes { ecc: Some(true), mig: Some(false), cc: Some(false) };
        assert_eq!(read(&root, at("0000:41:00.0")), modes);
        // One that is on another driver.
        assert_eq!(read(&root, at("0000:43:00.0")), GpuModes::default());
        let (_dir, root) = host(ANSWERS, "suspended\n");
        assert_eq!(read(&root, at("0000:41:00.0")), GpuModes::default());
        let (_dir, root) = host("#!/bin/sh\nexit 9\n", "active\n");
        assert_eq!(read(&root, at("0000:41:00.0")), GpuModes::default());
    }
}
