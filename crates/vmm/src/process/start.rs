//! Starting a machine: the order for `handover launch`, that process with the machine's lock, and then the guest.

use std::fs::File;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{DeviceAccess, LaunchError, MachineHandle, MachineSpec};
use uuid::Uuid;

use super::ProcessLauncher;
use super::affinity;
use super::control::{Control, ControlError};
use super::device_files::{self, DeviceFile};
use super::files::expect_reachable;
use super::log::printable;
use super::order::Order;
use super::passt;
use super::run_dir::forget;
use super::screen;
use super::vmm::{MachinePaths, Vmm};
use super::watch::Watch;
use crate::bars;

/// Memory that VFIO pins besides the guest's: the VMM's own, and mapped device memory.
pub(super) const MEMLOCK_MARGIN: u64 = 1 << 30;
pub(super) const MEMLOCK_FUNCTION: u64 = 64 << 20;

/// How long a machine may take to start: for the VMM itself, and for each function. Opening a function can reset it,
/// and the functions are mapped one after another. An emulated host is slow.
pub(super) const START: Duration = Duration::from_secs(60);
pub(super) const START_FUNCTION: Duration = Duration::from_secs(30);
/// For each GiB that is pinned, or allocated in huge pages: the kernel clears it, 0.25 s with small pages.
const START_GIB: Duration = Duration::from_secs(1);

/// How long a VMM may take to exit after it closed its control socket.
const LAST_WORDS: Duration = Duration::from_secs(10);

impl<V: Vmm> ProcessLauncher<V> {
    /// Starts a machine that is not running.
    pub(super) fn start(&self, spec: &MachineSpec) -> Result<MachineHandle, LaunchError> {
        let order = self.order(spec)?;
        let watch = Arc::new(self.spawn(spec, &order)?);
        self.watches().insert(spec.id, Arc::clone(&watch));
        match self.bring_up(spec, &watch) {
            Ok(()) => Ok(watch.handle().clone()),
            Err(error) => match self.end(&watch) {
                Ok(_) => Err(error),
                Err(then) => {
                    let reason = format!("{error}; then ending the VMM failed: {then}");
                    Err(LaunchError::Start { reason })
                }
            },
        }
    }

    /// The paths of a machine's files.
    pub(super) fn paths(&self, id: Uuid) -> MachinePaths {
        let files = self.files(id);
        MachinePaths {
            root: self.config.root.clone(),
            disk: files.disk(),
            nvram: files.nvram(),
            seed: files.seed(),
            guest_config: files.guest_config(),
            tpm: files.tpm(),
            screen: files.screen(),
            roms: files.roms(),
            console: files.console(),
        }
    }

    /// The order for `handover launch`.
    fn order(&self, spec: &MachineSpec) -> Result<Order, LaunchError> {
        let paths = self.paths(spec.id);
        let command = self.vmm.command(spec, &paths)?;
        passt::expect_free(&paths.root, spec.options.forwards())?;
        spec.options.screen().map_or(Ok(()), screen::expect_free)?;
        let base = spec.disk.as_ref().map(|disk| &disk.base);
        let boot = spec.kernel.as_ref();
        let boot = boot.iter().flat_map(|boot| boot.initrd.iter().chain([&boot.kernel]));
        let container = spec.container.iter();
        let container =
            container.flat_map(|boot| boot.modules.iter().chain([&boot.root, &paths.guest_config]));
        for file in base.into_iter().chain(boot).chain(container).chain([&paths.console]) {
            expect_reachable(file, spec.uid)?;
        }
        let bars = bars::memory(&paths.root, spec.slots.iter());
        Ok(Order {
            id: spec.id,
            root: paths.root,
            run_dir: self.config.run_dir.clone(),
            uid: spec.uid,
            groups: command.groups,
            memlock: memlock(spec.memory, functions(spec), bars),
            cpus: spec.placement.as_ref().map(|placed| placed.others.clone()).unwrap_or_default(),
            program: command.program,
            control_args: command.control_args,
            console_args: command.console_args,
            agent_args: command.agent_args,
            files: command.files,
            devices: self.devices(spec)?,
            cards: command.cards,
            helpers: command.helpers,
            args: command.args,
        })
    }

    /// The nodes that the VMM gets as descriptors.
    fn devices(&self, spec: &MachineSpec) -> Result<Vec<DeviceFile>, LaunchError> {
        let mut files = Vec::new();
        if spec.access != DeviceAccess::Groups && !spec.slots.is_empty() {
            files = device_files::of_machine(&self.config.root, &spec.slots)
                .map_err(|reason| LaunchError::Start { reason })?;
        }
        if spec.container.as_ref().is_some_and(|container| container.vsock.is_some()) {
            files.push(device_files::vsock(&self.config.root));
        }
        Ok(files)
    }

    /// Takes the machine's lock, writes the order into its file, and starts `handover launch` with it.
    fn spawn(&self, spec: &MachineSpec, order: &Order) -> Result<Watch, LaunchError> {
        let run = self.run_dir(spec.id);
        let at = run.path().to_owned();
        let failed = |action: &'static str| {
            let at = &at;
            move |error: io::Error| LaunchError::File {
                action: action.into(),
                path: at.display().to_string(),
                reason: error.to_string(),
            }
        };
        run.prepare().map_err(failed("create"))?;
        let Some(lock) = run.take_patiently().map_err(failed("lock"))? else {
            let reason = "the machine's lock is taken: an earlier VMM has not exited yet".into();
            return Err(LaunchError::Start { reason });
        };
        let text = serde_json::to_vec(order)
            .map_err(|error| failed("write the order in")(error.into()))?;
        run.record()
            .and_then(|earlier| forget(&run, earlier.as_ref(), &self.config))
            .and_then(|()| run.write_order(&text))
            .map_err(failed("write the order in"))?;
        let log = self.files(spec.id).open_log()?;
        self.start_launch(spec.id, lock, log).map_err(|error| LaunchError::Start {
            reason: format!("cannot run `handover launch`: {error}"),
        })
    }

    /// Passes the lock as the process's standard input and closes it here: no other child can inherit it, and only the
    /// VMM holds it.
    fn start_launch(&self, id: Uuid, lock: File, log: File) -> io::Result<Watch> {
        let (program, arguments) =
            self.config.launch_command.split_first().ok_or(io::ErrorKind::NotFound)?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::from(lock))
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()?;
        Watch::of_child(&self.proc, id, child.id()).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })
    }

    /// Waits until the guest runs with all its devices.
    fn bring_up(&self, spec: &MachineSpec, watch: &Watch) -> Result<(), LaunchError> {
        let patience = patience(spec.memory, functions(spec), spec.huge_pages.is_some());
        let control = Control::starting(self.run_dir(spec.id).control(), watch);
        let pin = |threads: &[u32]| self.pin(spec, watch, threads);
        self.vmm
            .bring_up(spec, &control, &pin, Instant::now() + patience)
            .map_err(|error| self.start_error(error, watch, patience))
    }

    /// Pins the threads of the virtual processors. A machine that is only to be near its devices does without.
    fn pin(&self, spec: &MachineSpec, watch: &Watch, threads: &[u32]) -> io::Result<()> {
        self.unpinned().remove(&spec.id);
        let Some(placed) = &spec.placement else { return Ok(()) };
        let process = watch.handle().pid().unwrap_or_default();
        let pairs = threads.iter().copied().zip(placed.cpus.iter().copied());
        match affinity::pin(&self.proc, process, spec.uid, &pairs.collect::<Vec<_>>()) {
            Err(error) if !placed.is_bound => {
                tracing::warn!(machine = %spec.id, %error, "cannot pin the machine's virtual processors");
                self.unpinned().insert(spec.id);
                Ok(())
            }
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!(
                    "cannot pin the virtual processors: {error}; `--placement auto` does without"
                ),
            )),
            Ok(()) => Ok(()),
        }
    }

    /// The error of a failed start. If the VMM has exited, the end of its log has the reason.
    fn start_error(&self, error: ControlError, watch: &Watch, patience: Duration) -> LaunchError {
        let last_words = match error {
            ControlError::Closed | ControlError::Io(_) => LAST_WORDS,
            _ => Duration::ZERO,
        };
        if let Ok(Some(_)) = watch.wait(Some(last_words)) {
            let log = self.files(watch.handle().id).log_end();
            return LaunchError::Start { reason: self.vmm.explain(&log) };
        }
        match error {
            ControlError::Deadline(_) => super::deadline("start", patience),
            ControlError::Refused(_, reason) => LaunchError::Start { reason: printable(&reason) },
            error => LaunchError::Monitor { reason: printable(&error.to_string()) },
        }
    }
}

/// How long a machine may take to start, or to take these functions while it runs.
pub(super) fn patience(memory: u64, functions: usize, has_huge_pages: bool) -> Duration {
    let functions = u32::try_from(functions).unwrap_or(u32::MAX);
    let is_cleared = functions > 0 || has_huge_pages;
    let gib = if is_cleared { u32::try_from(memory >> 30).unwrap_or(u32::MAX) } else { 0 };
    START
        .saturating_add(START_FUNCTION.saturating_mul(functions))
        .saturating_add(START_GIB.saturating_mul(gib))
}

pub(super) fn functions(spec: &MachineSpec) -> usize {
    spec.slots.iter().map(|slot| slot.functions.len()).sum()
}

/// The limit of locked memory. VFIO pins all guest memory, accounted to the process (vfio_iommu_type1) or the user (iommufd),
/// each of which is the machine's alone. iommufd also accounts the BARs, which functions map to each other. A machine without
/// devices pins nothing.
pub(super) fn memlock(memory: u64, functions: usize, bars: u64) -> Option<u64> {
    let functions = u64::try_from(functions).ok().filter(|functions| *functions > 0)?;
    let margin = MEMLOCK_MARGIN.saturating_add(functions.saturating_mul(MEMLOCK_FUNCTION));
    Some(memory.saturating_add(bars).saturating_add(margin))
}
