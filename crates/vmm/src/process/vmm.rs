//! The trait that each VMM implements: all that differs between VMMs that run as one process per machine.

use std::path::{Path, PathBuf};
use std::time::Instant;

use model::{Availability, LaunchError, MachineSpec};

use super::control::{Control, ControlError};

/// A VMM that runs as one process per machine. The methods are called by
/// [`ProcessLauncher`](super::ProcessLauncher), which does everything else.
pub trait Vmm: Send + Sync {
    /// Its name on the wire: `qemu`. A machine's log is named after it.
    fn name(&self) -> &'static str;

    /// Whether it can be used below this root, and if not, why.
    fn availability(&self, root: &Path) -> Availability;

    /// The command that starts a machine whose guest does not run yet.
    ///
    /// # Errors
    /// Where the VMM is missing, or cannot have such a machine.
    fn command(&self, spec: &MachineSpec, paths: &MachinePaths) -> Result<VmmCommand, LaunchError>;

    /// Waits for the VMM that was just started, checks that the machine has every device, and lets the guest run.
    ///
    /// # Errors
    /// As [`ControlError`] tells. The VMM is then ended.
    fn bring_up(
        &self,
        spec: &MachineSpec,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError>;

    /// Asks the guest to shut down. It may miss that, and is asked again.
    ///
    /// # Errors
    /// Where the VMM did not take it.
    fn press_power_button(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError>;

    /// Asks the VMM to end at once, in good order. It is killed where it does not.
    ///
    /// # Errors
    /// Where the VMM did not take it.
    fn quit(&self, control: &Control<'_>, deadline: Instant) -> Result<(), ControlError>;

    /// Why the VMM ended while it started, in words for a person: what the end of its log says, and what that means.
    /// [`last_lines`](super::last_lines) and [`printable`](super::printable) help.
    fn explain(&self, log: &str) -> String;
}

/// What a command line depends on beside the machine.
#[derive(Clone, Debug)]
pub struct MachinePaths {
    /// The root of sysfs, procfs and devfs.
    pub root: PathBuf,
    /// The machine's own disk layer, in QCOW2 over the image, where the machine has a disk.
    pub disk: PathBuf,
    /// The file for the serial console. The VMM must append to it: it is emptied when it gets too long.
    pub console: PathBuf,
}

/// How a VMM is executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmmCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments for the control socket, a listening unix socket that it inherits, with
    /// [`CONTROL_FD`](super::CONTROL_FD) for the descriptor. They come first. Without any, there is no control socket.
    pub control_args: Vec<String>,
    /// Its other arguments.
    pub args: Vec<String>,
    /// Groups that the machine's user needs, such as that of `/dev/kvm`.
    pub groups: Vec<u32>,
}
