//! The trait for VMMs that run as one process per machine: everything that differs between them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use model::{
    Availability, Choice, DiskUsage, Display, Execution, GuestSlot, LaunchError, MachineOptions,
    MachineSpec, PartPlace, PartPlug, Plug, PluggedFunction, Unplugged,
};
use rustix::fd::OwnedFd;

use super::control::{Control, ControlError};
use super::order::{Helper, HostCard, OpenFile};

/// A VMM that runs as one process per machine. [`ProcessLauncher`](super::ProcessLauncher) calls the methods and does
/// everything else.
pub trait Vmm: Send + Sync {
    /// Its name in the API: `qemu`. A machine's log is named after it.
    fn name(&self) -> &'static str;

    /// Whether it can be used below this root, and if not, why not.
    fn availability(&self, root: &Path) -> Availability;

    /// Checks that what these options need is installed below this root.
    ///
    /// # Errors
    /// `Unavailable`, with the package that is missing.
    fn check(&self, root: &Path, options: &MachineOptions) -> Result<(), LaunchError>;

    /// The file of which a machine gets a copy for its firmware's variables, if it has any.
    ///
    /// # Errors
    /// If the firmware is not installed.
    fn nvram_template(
        &self,
        root: &Path,
        options: &MachineOptions,
    ) -> Result<Option<PathBuf>, LaunchError>;

    /// Checks that the guest's address space has room for the machine's devices. A VMM that makes it large enough by itself
    /// checks nothing.
    ///
    /// # Errors
    /// `AddressSpace` if it has not.
    fn check_space(&self, spec: &MachineSpec, root: &Path) -> Result<(), LaunchError> {
        let _ = (spec, root);
        Ok(())
    }

    /// What the VMM would choose for a machine, in words.
    ///
    /// # Errors
    /// `AddressSpace` as [`check_space`](Self::check_space); `Unavailable` if the VMM cannot be used.
    fn choices(&self, spec: &MachineSpec, root: &Path) -> Result<Vec<Choice>, LaunchError> {
        self.check_space(spec, root).map(|()| Vec::new())
    }

    /// The command that starts a machine with its guest paused.
    ///
    /// # Errors
    /// If the VMM is not installed, or does not support such a machine.
    fn command(&self, spec: &MachineSpec, paths: &MachinePaths) -> Result<VmmCommand, LaunchError>;

    /// Waits for the VMM that was just started, checks that the machine has every device, pins the virtual processors if the
    /// machine's placement says so, and starts the guest.
    ///
    /// # Errors
    /// See [`ControlError`]. The VMM is ended then.
    fn bring_up(
        &self,
        spec: &MachineSpec,
        control: &Control<'_>,
        pin: Pin<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError>;

    /// Whether the guest executes. A VMM that cannot pause a guest says that it does.
    ///
    /// # Errors
    /// If the VMM does not tell.
    fn execution(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Execution, ControlError> {
        let _ = (control, deadline);
        Ok(Execution::Running)
    }

    /// Pauses the guest, and returns what it does then. Idempotent.
    ///
    /// # Errors
    /// If the VMM did not accept it, or cannot do it.
    fn pause(&self, control: &Control<'_>, deadline: Instant) -> Result<Execution, ControlError> {
        let _ = (control, deadline);
        Err(ControlError::Refused("pause".into(), format!("{} cannot pause a guest", self.name())))
    }

    /// Lets the guest continue, also one that the VMM has stopped, and returns what it does then. Idempotent.
    ///
    /// # Errors
    /// If the VMM did not accept it.
    fn resume(&self, control: &Control<'_>, deadline: Instant) -> Result<Execution, ControlError> {
        self.execution(control, deadline)
    }

    /// What the guest has read from and written to its disks; `None` if the VMM does not count it.
    ///
    /// # Errors
    /// If the VMM does not tell.
    fn disk_usage(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Option<DiskUsage>, ControlError> {
        let _ = (control, deadline);
        Ok(None)
    }

    /// Whether the VMM takes devices, and iommufd, as open descriptors when it is started: function by function at
    /// [`device_descriptor`](super::device_descriptor), and [`IOMMU_DESCRIPTOR`](super::IOMMU_DESCRIPTOR).
    fn takes_descriptors(&self) -> bool {
        false
    }

    /// Whether a running VMM takes them.
    ///
    /// # Errors
    /// If the VMM does not tell.
    fn takes_descriptors_now(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<bool, ControlError> {
        let _ = (control, deadline);
        Ok(false)
    }

    /// The first port of a running machine that is free, not among `taken`, and has room for a device.
    ///
    /// # Errors
    /// If the VMM does not tell; `NoPort` inside if there is none.
    fn free_port(
        &self,
        slot: &GuestSlot,
        taken: &[u32],
        root: &Path,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Result<u32, LaunchError>, ControlError> {
        let _ = (slot, taken, root, control, deadline);
        Ok(Err(LaunchError::NoPort {
            reason: format!("{} cannot change the devices of a running machine", self.name()),
            remedy: "stop the instance first".into(),
        }))
    }

    /// Plugs all functions of a device, or some of them and fails.
    ///
    /// # Errors
    /// If the VMM did not accept it, or cannot do it.
    fn plug(
        &self,
        plug: &Plug,
        paths: &MachinePaths,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        let _ = (plug, paths, control, deadline);
        let reason = format!("{} cannot change the devices of a running machine", self.name());
        Err(ControlError::Refused("plug".into(), reason))
    }

    /// Asks the guest to let go of a device, and waits until the deadline. Idempotent.
    ///
    /// # Errors
    /// If the VMM does not answer, or cannot do it.
    fn unplug(
        &self,
        slot: &GuestSlot,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Unplugged, ControlError> {
        let _ = (slot, control, deadline);
        Ok(Unplugged::Kept(format!("{} cannot take a device from a running machine", self.name())))
    }

    /// The functions that a running machine has; `None` if the VMM cannot tell.
    ///
    /// # Errors
    /// If the VMM does not answer.
    fn plugged(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Option<Vec<PluggedFunction>>, ControlError> {
        let _ = (control, deadline);
        Ok(None)
    }

    /// Plugs a disk, whose file is open, or a network card, whose interface and perhaps vhost-net are.
    ///
    /// # Errors
    /// If the VMM did not accept it, or cannot do it. It may have a part of it then.
    fn plug_part(
        &self,
        plug: &PartPlug,
        descriptors: &[OwnedFd],
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        let _ = (plug, descriptors, control, deadline);
        let reason = format!("{} cannot change the hardware of a running machine", self.name());
        Err(ControlError::Refused("plug".into(), reason))
    }

    /// Asks the guest to let go of a disk or network card, waits until the deadline, and closes what is behind it. Idempotent.
    ///
    /// # Errors
    /// If the VMM does not answer, or cannot do it.
    fn unplug_part(
        &self,
        place: PartPlace,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Unplugged, ControlError> {
        let _ = (place, control, deadline);
        Ok(Unplugged::Kept(format!("{} cannot take it from a running machine", self.name())))
    }

    /// The disks and network cards behind ports for devices; `None` if the VMM cannot tell.
    ///
    /// # Errors
    /// If the VMM does not answer.
    fn plugged_parts(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Option<Vec<PartPlace>>, ControlError> {
        let _ = (control, deadline);
        Ok(None)
    }

    /// Asks the guest to shut down. The guest may miss it, so this is repeated.
    ///
    /// # Errors
    /// If the VMM did not accept it.
    fn press_power_button(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError>;

    /// Passes a viewer's connection to the machine's screen.
    ///
    /// # Errors
    /// If the VMM did not accept it, or has no screens.
    fn add_viewer(
        &self,
        display: Display,
        viewer: OwnedFd,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError>;

    /// Asks the VMM to exit at once, cleanly. If it does not, it is killed.
    ///
    /// # Errors
    /// If the VMM did not accept it.
    fn quit(&self, control: &Control<'_>, deadline: Instant) -> Result<(), ControlError>;

    /// Explains why the VMM exited during the start, for messages: the end of its log, and what that means. See
    /// [`last_lines`](super::last_lines) and [`printable`](super::printable).
    fn explain(&self, log: &str) -> String;
}

/// Pins the threads of the virtual processors, which are given in their order.
pub type Pin<'a> = &'a dyn Fn(&[u32]) -> io::Result<()>;

/// The paths for a command line.
#[derive(Clone, Debug)]
pub struct MachinePaths {
    /// The root of sysfs, procfs and devfs.
    pub root: PathBuf,
    /// The machine's disk layer, a qcow2 file over the image, if the machine has a disk.
    pub disk: PathBuf,
    /// The machine's copy of its firmware's variables.
    pub nvram: PathBuf,
    /// The disk that configures the guest at its first boot, if the machine has a seed.
    pub seed: PathBuf,
    /// The configuration disk of the init in the guest, if the machine's root is a container image.
    pub guest_config: PathBuf,
    /// The directory of its TPM's state, if the machine has one. The machine's user owns it.
    pub tpm: PathBuf,
    /// The directory with the ROMs of its devices.
    pub roms: PathBuf,
    /// The directory with the key and the certificate of its screen, if that is encrypted.
    pub screen: PathBuf,
    /// The file for the serial console. The VMM must append to it: it is truncated when it gets too long.
    pub console: PathBuf,
}

/// The command that executes a VMM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmmCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments for the control socket, an inherited listening unix socket, with [`FD`](super::FD) for the
    /// descriptor. They come first. If there are none, there is no control socket.
    pub control_args: Vec<String>,
    /// Its arguments for the serial console's socket, likewise. It must write the output to the console's file whether a
    /// client is connected or not.
    pub console_args: Vec<String>,
    /// Its arguments for the socket of a port that leads to an agent in the guest, likewise.
    pub agent_args: Vec<String>,
    /// Files that it inherits: those that its user cannot open.
    pub files: Vec<OpenFile>,
    /// Its network cards on bridges and interfaces of the host.
    pub cards: Vec<HostCard>,
    /// Programs that serve it.
    pub helpers: Vec<Helper>,
    /// Its other arguments.
    pub args: Vec<String>,
    /// Groups that the machine's user needs, such as that of `/dev/kvm`.
    pub groups: Vec<u32>,
}
