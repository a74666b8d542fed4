//! Machines that run as one child process each: what is common to all such VMMs, behind [`model::Launcher`].
//!
//! [`ProcessLauncher`] starts, watches, adopts and ends the processes; a [`Vmm`] has the details of one VMM.

pub(crate) mod affinity;
pub(crate) mod cgroup;
mod choices;
mod control;
mod device_files;
mod disk_layer;
mod files;
mod hot_parts;
mod hot_plug;
mod kvm;
mod log;
mod lost;
mod open_file;
mod order;
pub(crate) mod passt;
mod procfs;
mod programs;
mod run_dir;
mod screen;
mod start;
mod stop;
pub(crate) mod swtpm;
mod usage;
mod vmm;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{
    Availability, CardLinks, Choice, DeviceAccess, Display, Execution, Exit, Forward, GuestSlot,
    KnownMachine, LaunchError, Launcher, LinkError, MachineHandle, MachineOptions, MachineSpec,
    PartPlace, PartPlug, Plug, PluggedFunction, Presence, Rom, ShutDown, Unplugged, Usage,
};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use uuid::Uuid;

use files::Files;
use run_dir::forget;
use watch::Watch;

pub use control::{Control, ControlError};
pub use device_files::{IOMMU_DESCRIPTOR, VSOCK_DESCRIPTOR, device_descriptor};
pub use log::{last_lines, printable};
pub use order::{FD, Helper, HostCard, Loopback, OpenFile, VHOST_FD};
pub use vmm::{MachinePaths, Pin, Vmm, VmmCommand};

pub(crate) use device_files::{DeviceFile, iommu, open as open_device, own as own_node, without};
pub(crate) use kvm::Kvm;
pub(crate) use open_file::{NotOpened, open as open_file};
pub(crate) use order::{Order, with_fd, with_vhost};
pub(crate) use procfs::Proc;
pub(crate) use programs::{VersionText, is_executable, on_path, printed, wait};
pub(crate) use run_dir::{Record, RunDir};

/// How often the sizes of a machine's console and log are checked: while they grow, and while they do not. Hundreds of idle machines
/// must not cost processor time.
const CHECKS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(32));

/// How long a VMM may take to accept a viewer.
const ADD_VIEWER: Duration = Duration::from_secs(10);
/// How long a VMM may take to answer a question that a person waits for.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a VMM may take to pause or resume its guest: it first completes what the disks are doing.
const PAUSE: Duration = Duration::from_secs(30);

/// The directories of machines, and how they are launched.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of locks, records and control sockets; `/run/handover`.
    pub run_dir: PathBuf,
    /// The directory of disks and logs; `/var/lib/handover`. Other users must be able to pass through it.
    pub state_dir: PathBuf,
    /// The directory to search for `qemu-img`, which creates disk layers, before PATH.
    pub image_tool_dir: Option<PathBuf>,
    /// The command that runs [`crate::launch::main`]: `/proc/self/exe launch`.
    pub launch_command: Vec<OsString>,
    /// The root of sysfs, procfs and devfs.
    pub root: PathBuf,
    /// What connects network cards to the host's bridges and interfaces.
    pub links: &'static dyn CardLinks,
    /// Connects to a port (the second number) of the guest with a number on vsock (the first), within a time.
    pub vsock: fn(u32, u32, Duration) -> io::Result<OwnedFd>,
}

impl Config {
    /// The same with absolute paths: the VMM has another working directory.
    fn absolute(mut self) -> Self {
        let paths = [&mut self.run_dir, &mut self.state_dir, &mut self.root];
        for path in paths.into_iter().chain(&mut self.image_tool_dir) {
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute;
            }
        }
        self
    }
}

/// Starts machines as processes that execute one VMM.
#[derive(Debug)]
pub struct ProcessLauncher<V> {
    vmm: V,
    config: Config,
    proc: Proc,
    watches: Mutex<HashMap<Uuid, Arc<Watch>>>,
    /// The machines whose virtual processors could not be pinned at their last start.
    unpinned: Mutex<HashSet<Uuid>>,
}

impl<V: Vmm> ProcessLauncher<V> {
    /// A launcher with this configuration. Programs are searched when they are needed.
    #[must_use]
    pub fn new(config: Config, vmm: V) -> Self {
        let config = config.absolute();
        let proc = Proc::below(&config.root);
        Self { vmm, config, proc, watches: Mutex::default(), unpinned: Mutex::default() }
    }

    fn run_dir(&self, id: Uuid) -> RunDir {
        RunDir::of(&self.config.run_dir, id)
    }

    fn files(&self, id: Uuid) -> Files {
        Files::of(&self.config.state_dir, id, self.vmm.name())
    }

    fn watches(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpinned(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.unpinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch of a machine's VMM: the existing one, or a new one if an earlier daemon started the VMM.
    fn watch(&self, id: Uuid) -> Result<Option<Arc<Watch>>, LaunchError> {
        let known = self.watches().get(&id).cloned();
        if let Some(watch) = &known
            && watch.wait(Some(Duration::ZERO)).map_err(watching)?.is_none()
        {
            return Ok(known);
        }
        match self.run_dir(id).presence(&self.proc) {
            // It still has the exit status.
            Presence::Gone => Ok(known),
            Presence::Unknown(reason) => Err(LaunchError::Monitor { reason }),
            Presence::Running(handle) => self.adopt(&handle),
        }
    }

    /// The machine's VMM, if it runs and this process watches it.
    fn watched(&self, id: Uuid) -> Option<MachineHandle> {
        let watch = self.watches().get(&id).cloned()?;
        let ended = watch.wait(Some(Duration::ZERO));
        matches!(ended, Ok(None)).then(|| watch.handle().clone())
    }

    /// Asks a running VMM something.
    fn ask<T>(
        &self,
        id: Uuid,
        what: &str,
        patience: Duration,
        question: impl FnOnce(&Control<'_>, Instant) -> Result<T, ControlError>,
    ) -> Result<T, LaunchError> {
        if !matches!(self.find(id), Presence::Running(_)) {
            return Err(does_not_run());
        }
        let control = Control::running(self.run_dir(id).control());
        question(&control, Instant::now() + patience).map_err(|error| match error {
            ControlError::Deadline(_) => deadline(what, patience),
            error => {
                self.gone_or(id, LaunchError::Monitor { reason: printable(&error.to_string()) })
            }
        })
    }

    /// Why a machine's monitor failed: the machine may have ended meanwhile.
    fn gone_or(&self, id: Uuid, error: LaunchError) -> LaunchError {
        if matches!(self.find(id), Presence::Gone) { does_not_run() } else { error }
    }

    /// Connects to a socket of a running machine that serves one client at a time; `None` if it has none.
    fn open(&self, id: Uuid, path: &Path, what: &str) -> Result<Option<UnixStream>, LaunchError> {
        if !matches!(self.find(id), Presence::Running(_)) {
            return Err(does_not_run());
        }
        match reach(path) {
            Ok(stream) => Ok(Some(stream)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::AGAIN) => {
                let reason = format!("others are waiting for its {what} already");
                Err(LaunchError::Monitor { reason })
            }
            Err(error) => {
                let reason = format!("cannot connect to its {what}: {error}");
                Err(LaunchError::Monitor { reason })
            }
        }
    }

    /// Watches a process that an earlier daemon started.
    fn adopt(&self, handle: &MachineHandle) -> Result<Option<Arc<Watch>>, LaunchError> {
        let watch = Watch::of_running(&self.proc, handle).map_err(watching)?;
        Ok(watch.map(|watch| {
            let watch = Arc::new(watch);
            self.watches().insert(handle.id, Arc::clone(&watch));
            watch
        }))
    }
}

impl<V: Vmm> Launcher for ProcessLauncher<V> {
    fn name(&self) -> &'static str {
        self.vmm.name()
    }

    fn availability(&self) -> Availability {
        self.vmm.availability(&self.config.root)
    }

    fn check(&self, options: &MachineOptions) -> Result<(), LaunchError> {
        let Config { root, links, .. } = &self.config;
        for card in &options.cards {
            links.check(root, &card.link).map_err(unconnected)?;
        }
        self.vmm.check(root, options)
    }

    fn expect_free_ports(&self, forwards: &[Forward]) -> Result<(), LaunchError> {
        passt::expect_free(&self.config.root, forwards.iter())
    }

    fn expect_free_screen(&self, address: SocketAddr) -> Result<(), LaunchError> {
        screen::expect_free(address)
    }

    fn screen_certificate(&self, id: Uuid) -> Result<Option<String>, LaunchError> {
        screen::certificate(&self.files(id).screen())
    }

    fn rom(&self, id: Uuid, rom: &Rom) -> Result<Option<Vec<u8>>, LaunchError> {
        self.files(id).rom(rom)
    }

    fn create_files(&self, spec: &MachineSpec) -> Result<(), LaunchError> {
        let dir = self.config.image_tool_dir.as_deref();
        let template = || self.vmm.nvram_template(&self.config.root, &spec.options);
        self.files(spec.id).create(spec, || disk_layer::image_tool(dir), template)
    }

    fn forget_firmware(&self, id: Uuid) -> Result<(), LaunchError> {
        self.files(id).remove_nvram()
    }

    fn remove_files(&self, id: Uuid) -> Result<(), LaunchError> {
        let run = self.run_dir(id);
        if self.find(id) != Presence::Gone {
            return Err(LaunchError::File {
                action: "remove".into(),
                path: run.path().display().to_string(),
                reason: "the machine is still running".into(),
            });
        }
        self.watches().remove(&id);
        self.files(id).remove()?;
        // The cgroup remains if the machine ended while no daemon was running.
        run.record()
            .and_then(|record| forget(&run, record.as_ref(), &self.config))
            .map_err(watching)?;
        remove_tree(run.path())
    }

    fn launch(&self, spec: &MachineSpec) -> Result<MachineHandle, LaunchError> {
        match self.find(spec.id) {
            Presence::Gone => {}
            Presence::Unknown(reason) => return Err(LaunchError::Start { reason }),
            Presence::Running(handle) => {
                let pid = handle.pid().unwrap_or_default();
                let reason = format!("the machine's VMM is already running (pid {pid})");
                return Err(LaunchError::Start { reason });
            }
        }
        self.start(spec)
    }

    fn is_pinned(&self, id: Uuid) -> bool {
        !self.unpinned().contains(&id)
    }

    fn find(&self, id: Uuid) -> Presence {
        match self.run_dir(id).presence(&self.proc) {
            // The run directory may have been removed while it runs.
            Presence::Gone => self.watched(id).map_or(Presence::Gone, Presence::Running),
            presence => presence,
        }
    }

    fn pause(&self, id: Uuid) -> Result<Execution, LaunchError> {
        self.ask(id, "pause", PAUSE, |control, until| self.vmm.pause(control, until))
    }

    fn resume(&self, id: Uuid) -> Result<Execution, LaunchError> {
        self.ask(id, "resume", PAUSE, |control, until| self.vmm.resume(control, until))
    }

    fn execution(&self, id: Uuid) -> Result<Execution, LaunchError> {
        let what = "say whether its guest runs";
        self.ask(id, what, ANSWER, |control, until| self.vmm.execution(control, until))
    }

    fn usage(&self, id: Uuid) -> Result<Usage, LaunchError> {
        self.measure(id)
    }

    fn check_space(&self, spec: &MachineSpec) -> Result<(), LaunchError> {
        self.vmm.check_space(spec, &self.config.root)
    }

    fn choices(&self, spec: &MachineSpec) -> Result<Vec<Choice>, LaunchError> {
        self.all_choices(spec)
    }

    fn shut_down(&self, id: Uuid, grace: Duration) -> Result<ShutDown, LaunchError> {
        match self.watch(id)? {
            Some(watch) => self.stop(&watch, grace),
            None => Ok(ShutDown { exit: Exit { code: None }, by_guest: true }),
        }
    }

    fn kill(&self, id: Uuid) -> Result<(), LaunchError> {
        match self.watch(id)? {
            Some(watch) => self.end(&watch).map(|_| ()),
            None => self.clean(id),
        }
    }

    fn wait(&self, handle: &MachineHandle) -> Result<Exit, LaunchError> {
        let known =
            self.watches().get(&handle.id).filter(|watch| watch.handle() == handle).cloned();
        let watch = match known {
            Some(watch) => watch,
            None => match Watch::of_running(&self.proc, handle).map_err(watching)? {
                Some(watch) => Arc::new(watch),
                None => return Ok(Exit { code: None }),
            },
        };
        let files = self.files(handle.id);
        let run = self.run_dir(handle.id);
        let record = run.record().map_err(watching)?.filter(|record| record.handle == *handle);
        let mut record = record.unwrap_or_else(|| Record {
            handle: handle.clone(),
            cgroup: None,
            interfaces: Vec::new(),
            macs: Vec::new(),
        });
        // The first check is at once, for files that an earlier run or an earlier daemon left.
        let (mut size, mut pause) = (None, CHECKS.0);
        loop {
            match files.limit() {
                Ok(now) => {
                    pause = if size == Some(now) { CHECKS.1.min(pause * 2) } else { CHECKS.0 };
                    size = Some(now);
                }
                Err(error) => {
                    tracing::warn!(machine = %handle.id, %error, "cannot truncate the machine's console and log");
                }
            }
            if let Some(exit) = watch.wait(Some(pause)).map_err(watching)? {
                return self.settle(handle).map(|()| exit);
            }
            // It gets and loses network cards.
            if let Ok(Some(now)) = run.record()
                && now.handle == *handle
            {
                record = now;
            }
            if let Err(error) = run.keep_record(&record) {
                tracing::warn!(machine = %handle.id, %error, "cannot restore the machine's record");
            }
        }
    }

    fn console(&self, id: Uuid) -> PathBuf {
        self.files(id).console()
    }

    fn open_console(&self, id: Uuid) -> Result<Option<UnixStream>, LaunchError> {
        self.open(id, &self.run_dir(id).console(), "serial console")
    }

    fn open_agent(&self, id: Uuid) -> Result<Option<UnixStream>, LaunchError> {
        self.open(id, &self.run_dir(id).agent(), "guest's agent")
    }

    fn open_display(&self, id: Uuid, display: Display) -> Result<UnixStream, LaunchError> {
        let monitor = |reason: String| LaunchError::Monitor { reason };
        if !matches!(self.find(id), Presence::Running(_)) {
            return Err(monitor("the machine does not run".into()));
        }
        let (ours, its) = UnixStream::pair().map_err(|error| monitor(error.to_string()))?;
        let control = Control::running(self.run_dir(id).control());
        self.vmm
            .add_viewer(display, its.into(), &control, Instant::now() + ADD_VIEWER)
            .map_err(|error| monitor(format!("cannot connect to its screen: {error}")))?;
        Ok(ours)
    }

    fn has_vsock(&self) -> bool {
        device_files::has_vsock(&self.config.root)
    }

    fn open_vsock(&self, cid: u32, port: u32, within: Duration) -> Result<UnixStream, LaunchError> {
        // A socket is one, whatever its family: only reading, writing and timeouts are used.
        let stream = (self.config.vsock)(cid, port, within).map(UnixStream::from);
        stream.map_err(|error| LaunchError::Monitor { reason: error.to_string() })
    }

    fn guest_result(&self, id: Uuid) -> Result<Option<Vec<u8>>, LaunchError> {
        self.files(id).guest_result()
    }

    fn device_access(&self, slots: &[GuestSlot], running: Option<Uuid>) -> DeviceAccess {
        self.choose_access(slots, running)
    }

    fn free_port(&self, id: Uuid, slot: &GuestSlot, taken: &[u32]) -> Result<u32, LaunchError> {
        self.find_port(id, slot, taken)
    }

    fn plug(&self, plug: &Plug) -> Result<(), LaunchError> {
        self.plug_in(plug)
    }

    fn unplug(
        &self,
        id: Uuid,
        slot: &GuestSlot,
        patience: Duration,
    ) -> Result<Unplugged, LaunchError> {
        self.take_out(id, slot, patience)
    }

    fn plugged(&self, id: Uuid) -> Result<Option<Vec<PluggedFunction>>, LaunchError> {
        self.list_plugged(id)
    }

    fn plug_part(&self, plug: &PartPlug) -> Result<(), LaunchError> {
        self.plug_in_part(plug)
    }

    fn unplug_part(
        &self,
        id: Uuid,
        place: PartPlace,
        patience: Duration,
    ) -> Result<Unplugged, LaunchError> {
        self.take_out_part(id, place, patience)
    }

    fn plugged_parts(&self, id: Uuid) -> Result<Option<Vec<PartPlace>>, LaunchError> {
        self.list_parts(id)
    }

    fn lost(&self, id: Uuid, options: &MachineOptions) -> Option<String> {
        let record = self.run_dir(id).record().ok().flatten()?;
        let Config { root, links, .. } = &self.config;
        let cards = options.cards.iter().enumerate();
        let cards = cards.filter_map(|(number, card)| {
            let name = card.host_interface(id, number);
            // Machines that an earlier version started have none.
            let is_recorded = record.interfaces.contains(&name);
            is_recorded.then(|| links.lost(root, &name, &card.link)).flatten()
        });
        let programs = lost::lost(&self.proc, &record, options);
        let all: Vec<String> = programs.into_iter().chain(cards).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn machines(&self) -> Vec<KnownMachine> {
        let dirs = [&self.config.state_dir, &self.config.run_dir];
        let entries = dirs.iter().filter_map(|dir| std::fs::read_dir(dir.join("machines")).ok());
        let mut known: BTreeMap<Uuid, PathBuf> = BTreeMap::new();
        for entry in entries.flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            known.entry(id).or_insert_with(|| entry.path());
        }
        let machine = |(id, dir)| KnownMachine { id, uid: self.files(id).user(), dir };
        known.into_iter().map(machine).collect()
    }
}

/// A network card that cannot be connected.
fn unconnected(error: LinkError) -> LaunchError {
    match error {
        LinkError::Unusable { reason, remedy } => LaunchError::Network { reason, remedy },
        LinkError::Refused { .. } => {
            let remedy = "see `ip link` and the kernel's log (`dmesg`)".into();
            LaunchError::Network { reason: error.to_string(), remedy }
        }
    }
}

const fn does_not_run() -> LaunchError {
    LaunchError::Gone
}

fn deadline(action: &str, time: Duration) -> LaunchError {
    LaunchError::Deadline { action: action.into(), seconds: time.as_secs() }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn watching(error: io::Error) -> LaunchError {
    LaunchError::Monitor { reason: format!("cannot watch the VMM's process: {error}") }
}

/// Connects to a socket without waiting: a VMM that is stuck, or has a client, must not block this process.
fn reach(path: &Path) -> Result<UnixStream, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// Removes a directory. A missing directory is not an error.
fn remove_tree(path: &Path) -> Result<(), LaunchError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LaunchError::File {
            action: "remove".into(),
            path: path.display().to_string(),
            reason: error.to_string(),
        }),
        _ => Ok(()),
    }
}
