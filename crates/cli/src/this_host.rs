//! This host and its launchers, for the daemon and for commands without one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{HostConfig, KernelFilter, KernelLinks, LinuxHost, OWN_EXECUTABLE};
use model::{Code, Launcher, Refusal};
use vmm::process::{Config, ProcessLauncher};
use vmm::qemu::Qemu;

/// The usual directory of the journal.
pub const STATE_DIR: &str = "/var/lib/handover";

/// The executable that is the init in the guests of container images.
const GUEST: &str = "lib/handover/handover-guest";

/// Opens the host at a root directory.
pub fn host(root: &Path, run_dir: &Path) -> Result<LinuxHost, Refusal> {
    let config = HostConfig { root: root.into(), ..HostConfig::this_host(run_dir.into()) };
    LinuxHost::new(config).map_err(|error| {
        Refusal::new(
            Code::Internal,
            format!("cannot open the host: {error}"),
            "run as root, on Linux with sysfs and procfs",
        )
    })
}

/// Refuses a QEMU executable that does not exist.
pub fn check_qemu(path: &Path) -> Result<(), Refusal> {
    Qemu::check(path).map_err(|reason| {
        Refusal::new(
            Code::HypervisorMissing,
            reason,
            "correct --qemu, or omit it to use the QEMU on PATH (apt install qemu-system-x86)",
        )
    })
}

/// All launchers, the default first; `qemu` is the QEMU executable, `None` for the one on PATH.
pub fn launchers(
    root: &Path,
    run_dir: &Path,
    state_dir: &Path,
    qemu: Option<PathBuf>,
) -> Vec<Arc<dyn Launcher>> {
    let qemu = Qemu::new(qemu, &KernelFilter);
    let config = Config {
        run_dir: run_dir.into(),
        state_dir: state_dir.into(),
        image_tool_dir: qemu.dir().map(Path::to_owned),
        launch_command: vec![OWN_EXECUTABLE.into(), "launch".into()],
        root: root.into(),
        links: &KernelLinks,
        vsock: host::vsock::open,
    };
    vec![Arc::new(ProcessLauncher::new(config, qemu))]
}

/// The executable that is the init in the guests of container images. It is not beside this one: what cargo puts there is not static.
pub fn guest_init() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let path = own.parent()?.parent()?.join(GUEST);
    path.is_file().then_some(path)
}
