//! The parts that both the daemon and a command without one are put together of: this host and what starts machines on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{HostConfig, LinuxHost, OWN_EXECUTABLE};
use model::{Code, Launcher, Refusal};
use vmm::process::{Config, ProcessLauncher};
use vmm::qemu::Qemu;

/// The host under a root.
pub fn host(root: &Path, run_dir: &Path) -> Result<LinuxHost, Refusal> {
    let config = HostConfig { root: root.into(), ..HostConfig::this_host(run_dir.into()) };
    LinuxHost::new(config).map_err(|error| {
        Refusal::new(
            Code::Internal,
            format!("the host cannot be worked on: {error}"),
            "run as root, on Linux with sysfs and procfs",
        )
    })
}

/// All that starts machines, the default first; `qemu` is QEMU, where it is not the one on PATH.
pub fn launchers(
    root: &Path,
    run_dir: &Path,
    state_dir: &Path,
    qemu: Option<PathBuf>,
) -> Vec<Arc<dyn Launcher>> {
    let qemu = Qemu::new(qemu);
    let config = Config {
        run_dir: run_dir.into(),
        state_dir: state_dir.into(),
        image_tool_dir: qemu.dir().map(Path::to_owned),
        launch_command: vec![OWN_EXECUTABLE.into(), "launch".into()],
        root: root.into(),
    };
    vec![Arc::new(ProcessLauncher::new(config, qemu))]
}
