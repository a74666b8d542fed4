//! QEMU: command line, monitor (QMP), versions and error messages.

mod argv;
mod binary;
pub mod blockstats;
mod bring_up;
mod choices;
mod error_text;
pub mod execution;
mod firmware;
mod hot_parts;
mod hot_plug;
mod mmio_window;
pub mod qmp;

use std::path::{Path, PathBuf};
use std::time::Instant;

use model::{
    Availability, Choice, DiskUsage, Display, DisplayProtocol, Execution, GuestSlot, LaunchError,
    LoopbackFilter, MachineOptions, MachineSpec, PartPlace, PartPlug, Plug, PluggedFunction,
    Unplugged,
};
use rustix::fd::OwnedFd;

use crate::process::{
    Control, ControlError, FD, Helper, MachinePaths, Pin, Vmm, VmmCommand, is_executable, passt,
    swtpm,
};
use argv::Environment;
use binary::{Accelerator, Finder};
use firmware::Kind;
use qmp::Monitor;

/// The command that installs QEMU and its tools.
const INSTALL: &str = "apt install qemu-system-x86 qemu-utils";

/// QEMU, for [`ProcessLauncher`](crate::process::ProcessLauncher).
#[derive(Debug)]
pub struct Qemu {
    binary: Option<PathBuf>,
    finder: Finder,
    passt: passt::Passt,
}

impl Qemu {
    /// The emulator in this file, or the one on PATH. It is searched when it is needed. The filter is for the network of
    /// machines.
    #[must_use]
    pub fn new(binary: Option<PathBuf>, filter: &'static dyn LoopbackFilter) -> Self {
        // The VMM has another working directory.
        let binary = binary.map(|path| std::path::absolute(&path).unwrap_or(path));
        Self { finder: Finder::new(binary.clone()), binary, passt: passt::Passt::new(filter) }
    }

    /// Checks a configured file: a typing error is noticed when the daemon starts, not when a machine does.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn check(binary: &Path) -> Result<(), String> {
        let path = binary.display();
        match std::fs::metadata(binary) {
            Err(error) => Err(format!("cannot use {path} as QEMU: {error}")),
            Ok(_) if !is_executable(binary) => {
                Err(format!("cannot use {path} as QEMU: it is not an executable file"))
            }
            Ok(_) => Ok(()),
        }
    }

    /// The programs that serve a machine.
    fn helpers(
        &self,
        spec: &MachineSpec,
        paths: &MachinePaths,
    ) -> Result<Vec<Helper>, LaunchError> {
        let mut helpers = Vec::new();
        let cards = spec.options.cards.iter().enumerate();
        for (number, card) in cards.filter(|(_, card)| card.link.is_user()) {
            let name_server = passt::name_server(&paths.root);
            let passt = self.passt.usable(&paths.root, spec.options.forwards())?;
            helpers.push(passt::helper(passt, card, name_server, argv::netdev(number)));
        }
        if spec.options.tpm {
            helpers.push(swtpm::helper(swtpm::usable()?, &paths.tpm, argv::tpm_backend())?);
        }
        Ok(helpers)
    }

    /// The directory of the configured file; `qemu-img` is beside it.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.binary.as_deref().and_then(Path::parent)
    }
}

impl Vmm for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn availability(&self, root: &Path) -> Availability {
        let accelerator = Some(Accelerator::here(root).as_str().to_owned());
        let remedy = Some(INSTALL.to_owned());
        match self.finder.find() {
            Ok(binary) => {
                let version = Some(binary.version);
                Availability { available: true, version, accelerator, reason: None, remedy: None }
            }
            Err(reason) => {
                let reason = Some(reason);
                Availability { available: false, version: None, accelerator, reason, remedy }
            }
        }
    }

    fn check(&self, root: &Path, options: &MachineOptions) -> Result<(), LaunchError> {
        if let Some(kind) = Kind::of(options.firmware) {
            firmware::find(root, kind, None)?;
        }
        if options.tpm {
            swtpm::usable()?;
        }
        if options.display.is_some_and(|display| display.protocol == DisplayProtocol::Spice) {
            self.finder.expect_spice()?;
        }
        if options.has_user_network() {
            self.passt.usable(root, options.forwards())?;
            self.finder.expect_streams()?;
        }
        Ok(())
    }

    fn nvram_template(
        &self,
        root: &Path,
        options: &MachineOptions,
    ) -> Result<Option<PathBuf>, LaunchError> {
        match Kind::of(options.firmware) {
            None => Ok(None),
            Some(kind) => Ok(Some(firmware::find(root, kind, None)?.template)),
        }
    }

    fn check_space(&self, spec: &MachineSpec, root: &Path) -> Result<(), LaunchError> {
        let is_emulated = Accelerator::here(root) == Accelerator::Tcg;
        mmio_window::plan(root, spec, is_emulated).expect_fit()
    }

    fn choices(&self, spec: &MachineSpec, root: &Path) -> Result<Vec<Choice>, LaunchError> {
        let unusable = |reason| LaunchError::Unavailable { reason, remedy: INSTALL.into() };
        let binary = self.finder.find().map_err(unusable)?;
        let firmware = Kind::of(spec.options.firmware);
        let firmware = firmware.map(|kind| firmware::find(root, kind, None)).transpose()?;
        let accelerator = Accelerator::here(root);
        let space = mmio_window::plan(root, spec, accelerator == Accelerator::Tcg);
        space.expect_fit()?;
        Ok(choices::of(spec, root, &binary.version, accelerator, firmware.as_ref(), &space))
    }

    fn command(&self, spec: &MachineSpec, paths: &MachinePaths) -> Result<VmmCommand, LaunchError> {
        let program = self
            .finder
            .path()
            .map_err(|reason| LaunchError::Unavailable { reason, remedy: INSTALL.into() })?;
        let accelerator = Accelerator::here(&paths.root);
        let firmware = match Kind::of(spec.options.firmware) {
            None => None,
            Some(kind) => {
                let nvram = std::fs::metadata(&paths.nvram).map(|file| file.len()).ok();
                Some((firmware::find(&paths.root, kind, nvram)?.code, paths.nvram.clone()))
            }
        };
        let environment = Environment {
            root: &paths.root,
            accelerator,
            disk: paths.disk.clone(),
            seed: paths.seed.clone(),
            guest_config: paths.guest_config.clone(),
            screen: paths.screen.clone(),
            roms: paths.roms.clone(),
            firmware,
            space: mmio_window::plan(&paths.root, spec, accelerator == Accelerator::Tcg),
        };
        let unfit = |error: argv::NotUtf8| LaunchError::Start { reason: error.to_string() };
        let args = argv::arguments(spec, &environment).map_err(unfit)?;
        let group = match accelerator {
            Accelerator::Kvm { group } => group,
            Accelerator::Tcg => None,
        };
        Ok(VmmCommand {
            program,
            files: argv::disk_files(spec).into_iter().chain(argv::usb_files(spec)).collect(),
            cards: argv::host_cards(spec),
            helpers: self.helpers(spec, paths)?,
            control_args: monitor_args(),
            console_args: argv::console_socket(&paths.console).map_err(unfit)?,
            agent_args: if spec.options.agent { argv::agent_socket() } else { Vec::new() },
            args,
            groups: group.into_iter().collect(),
        })
    }

    fn bring_up(
        &self,
        spec: &MachineSpec,
        control: &Control<'_>,
        pin: Pin<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        bring_up::bring_up(spec, control, pin, deadline)
    }

    fn execution(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Execution, ControlError> {
        execution::execution(&mut monitor(control, deadline)?, deadline)
    }

    fn pause(&self, control: &Control<'_>, deadline: Instant) -> Result<Execution, ControlError> {
        execution::pause(&mut monitor(control, deadline)?, deadline)
    }

    fn resume(&self, control: &Control<'_>, deadline: Instant) -> Result<Execution, ControlError> {
        execution::resume(&mut monitor(control, deadline)?, deadline)
    }

    fn disk_usage(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Option<DiskUsage>, ControlError> {
        blockstats::disk_usage(&mut monitor(control, deadline)?, deadline).map(Some)
    }

    fn takes_descriptors(&self) -> bool {
        self.finder.takes_descriptors()
    }

    fn takes_descriptors_now(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<bool, ControlError> {
        hot_plug::takes_descriptors(&mut monitor(control, deadline)?, deadline)
    }

    fn free_port(
        &self,
        slot: &GuestSlot,
        taken: &[u32],
        root: &Path,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Result<u32, LaunchError>, ControlError> {
        let room = mmio_window::Room::of(root, slot);
        hot_plug::free_port(room, slot.bus, taken, &mut monitor(control, deadline)?, deadline)
    }

    fn plug(
        &self,
        plug: &Plug,
        paths: &MachinePaths,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        hot_plug::plug(plug, paths, &mut monitor(control, deadline)?, deadline)
    }

    fn unplug(
        &self,
        slot: &GuestSlot,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Unplugged, ControlError> {
        hot_plug::unplug(slot, control, deadline)
    }

    fn plugged(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Option<Vec<PluggedFunction>>, ControlError> {
        hot_plug::plugged(&mut monitor(control, deadline)?, deadline).map(Some)
    }

    fn plug_part(
        &self,
        plug: &PartPlug,
        descriptors: &[OwnedFd],
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        hot_parts::plug(plug, descriptors, &mut monitor(control, deadline)?, deadline)
    }

    fn unplug_part(
        &self,
        place: PartPlace,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Unplugged, ControlError> {
        hot_parts::unplug(place, control, deadline)
    }

    fn plugged_parts(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<Option<Vec<PartPlace>>, ControlError> {
        hot_parts::plugged(&mut monitor(control, deadline)?, deadline).map(Some)
    }

    fn press_power_button(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        bring_up::send(control, "system_powerdown", deadline)
    }

    fn add_viewer(
        &self,
        display: Display,
        viewer: OwnedFd,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        bring_up::add_viewer(control, display, &viewer, deadline)
    }

    fn quit(&self, control: &Control<'_>, deadline: Instant) -> Result<(), ControlError> {
        bring_up::send(control, "quit", deadline)
    }

    fn explain(&self, log: &str) -> String {
        error_text::explain(log)
    }
}

/// Connects to a machine's monitor.
fn monitor(control: &Control<'_>, deadline: Instant) -> Result<Monitor, ControlError> {
    Monitor::begin(control.connect(deadline)?, deadline)
}

/// The arguments for a monitor on an inherited socket.
fn monitor_args() -> Vec<String> {
    let socket = format!("socket,id=monitor,fd={FD},server=on,wait=off");
    vec!["-chardev".into(), socket, "-qmp".into(), "chardev:monitor".into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monitor_is_an_inherited_socket() {
        assert_eq!(
            monitor_args().join(" ").replace(FD, "4"),
            "-chardev socket,id=monitor,fd=4,server=on,wait=off -qmp chardev:monitor"
        );
    }
}
