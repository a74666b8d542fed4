//! QEMU as a launcher of machines.

mod argv;
mod binary;
mod blame;
mod bring_up;
mod files;
mod qmp;
mod window;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{Availability, Exit, LaunchError, Launcher, MachineHandle, MachineSpec, Presence};
use uuid::Uuid;

use crate::identity::RunDir;
use crate::launcher::{self, Order};
use crate::process::{Proc, Watch};
use argv::{Place, arguments};
use binary::{Accelerator, Finder};
use files::{Files, expect_reachable};

/// How long QEMU may take to end when it is asked to, with the guest no longer running.
const QUIT: Duration = Duration::from_secs(10);

/// How long a killed QEMU may take: the kernel closes devices, resets them and unpins the guest's memory.
const DIE: Duration = Duration::from_secs(120);

/// How long one command to the monitor may take.
const COMMAND: Duration = Duration::from_secs(10);

/// What VFIO pins beside the guest's memory: QEMU's own, and the device memory that is mapped.
const MEMLOCK_MARGIN: u64 = 1 << 30;
const MEMLOCK_FUNCTION: u64 = 64 << 20;

/// How QEMU is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where locks, records and monitors are; `/run/handover`.
    pub run_dir: PathBuf,
    /// Where disks and logs are; `/var/lib/handover`. Others must be able to pass through it.
    pub state_dir: PathBuf,
    /// The emulator, where it is not the one on PATH.
    pub binary: Option<PathBuf>,
    /// The command that runs [`crate::launcher::main`]: `/proc/self/exe launch`.
    pub launcher: Vec<OsString>,
    /// The root of sysfs, procfs and devfs.
    pub root: PathBuf,
}

impl Config {
    /// The same with absolute paths: the VMM works in another directory.
    fn absolute(mut self) -> Self {
        let paths = [&mut self.run_dir, &mut self.state_dir, &mut self.root];
        for path in paths.into_iter().chain(&mut self.binary) {
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute;
            }
        }
        self
    }
}

/// Starts machines by QEMU.
#[derive(Debug)]
pub struct Qemu {
    config: Config,
    finder: Finder,
    proc: Proc,
    watches: Mutex<HashMap<Uuid, Arc<Watch>>>,
}

impl Qemu {
    /// A launcher with this configuration. Nothing is looked for before it is needed.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let config = config.absolute();
        let finder = Finder::new(config.binary.clone());
        let proc = Proc::below(&config.root);
        Self { config, finder, proc, watches: Mutex::default() }
    }

    fn run_dir(&self, id: Uuid) -> RunDir {
        RunDir::of(&self.config.run_dir, id)
    }

    fn files(&self, id: Uuid) -> Files {
        Files::of(&self.config.state_dir, id)
    }

    fn watches(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch over a machine's VMM: the one that started it, or a new one where it was started by an earlier daemon.
    fn watch(&self, id: Uuid) -> Result<Option<Arc<Watch>>, LaunchError> {
        if let Some(watch) = self.watches().get(&id) {
            return Ok(Some(Arc::clone(watch)));
        }
        match self.run_dir(id).presence(&self.proc) {
            Presence::Gone => Ok(None),
            Presence::Unknown(reason) => Err(LaunchError::Monitor { reason }),
            Presence::Running(handle) => self.adopt(&handle),
        }
    }

    /// Watches a process that was started earlier.
    fn adopt(&self, handle: &MachineHandle) -> Result<Option<Arc<Watch>>, LaunchError> {
        let watch = Watch::of_running(&self.proc, handle).map_err(watching)?;
        Ok(watch.map(|watch| {
            let watch = Arc::new(watch);
            self.watches().insert(handle.id, Arc::clone(&watch));
            watch
        }))
    }

    /// Orders for the launcher.
    fn order(&self, spec: &MachineSpec) -> Result<Order, LaunchError> {
        let binary = self.finder.find().map_err(|reason| LaunchError::Unavailable { reason })?;
        let files = self.files(spec.id);
        let accelerator = Accelerator::here(&self.config.root);
        let place = Place {
            root: &self.config.root,
            accelerator,
            disk: files.disk(),
            console: files.console(),
            mmio_window: window::needed(&self.config.root, spec),
        };
        let own = spec.disk.as_ref().map(|disk| &disk.base);
        let boot = spec.kernel.as_ref();
        let boot = boot.iter().flat_map(|boot| boot.initrd.iter().chain([&boot.kernel]));
        for file in own.into_iter().chain(boot).chain([&place.console]) {
            expect_reachable(file, spec.uid)?;
        }
        let args = arguments(spec, &place)
            .map_err(|error| LaunchError::Start { reason: error.to_string() })?;
        let group = match accelerator {
            Accelerator::Kvm { group } => group,
            Accelerator::Tcg => None,
        };
        Ok(Order {
            id: spec.id,
            root: self.config.root.clone(),
            run_dir: self.config.run_dir.clone(),
            uid: spec.uid,
            groups: group.into_iter().collect(),
            memlock: memlock(spec),
            program: binary.path,
            args,
        })
    }

    /// Takes the machine's lock, writes the order into it, and starts the launcher with it.
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
        run.prepare().map_err(failed("make"))?;
        let Some(lock) = run.take_patiently().map_err(failed("lock"))? else {
            let reason = "something holds its lock: an earlier VMM is not yet gone".into();
            return Err(LaunchError::Start { reason });
        };
        let text = serde_json::to_vec(order)
            .map_err(|error| failed("write the order in")(error.into()))?;
        run.clear().and_then(|()| run.write_order(&text)).map_err(failed("write the order in"))?;
        let log = self.files(spec.id).open_log()?;
        self.start_launcher(spec.id, lock, log).map_err(|error| LaunchError::Start {
            reason: format!("the launcher cannot be run: {error}"),
        })
    }

    /// The lock becomes the launcher's standard input and is closed here: no other child can inherit it, and the VMM
    /// alone holds it.
    fn start_launcher(&self, id: Uuid, lock: File, log: File) -> io::Result<Watch> {
        let (program, arguments) =
            self.config.launcher.split_first().ok_or(io::ErrorKind::NotFound)?;
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

    /// Kills a VMM and returns when it is provably gone.
    fn end(&self, watch: &Watch) -> Result<Exit, LaunchError> {
        watch.kill().map_err(watching)?;
        match watch.wait(Some(DIE)).map_err(watching)? {
            Some(exit) => self.settle(watch.handle()).map(|()| exit),
            None => Err(deadline("end", DIE)),
        }
    }

    /// After a VMM's process has ended: checks that its lock is free, and clears what is left of it. A machine that was
    /// started again meanwhile is left alone.
    fn settle(&self, handle: &MachineHandle) -> Result<(), LaunchError> {
        let run = self.run_dir(handle.id);
        let until = Instant::now() + QUIT;
        loop {
            let record = run.record().map_err(watching)?;
            let Some(record) = record.filter(|record| record.handle == *handle) else {
                return Ok(());
            };
            if let Some(_lock) = run.take().map_err(watching)? {
                if let Some(Err(error)) = record.cgroup.as_deref().map(launcher::remove_cgroup) {
                    tracing::warn!(machine = %handle.id, %error, "its control group cannot be removed");
                }
                return run.clear().map_err(watching);
            }
            if Instant::now() > until {
                return Err(deadline("let go of its lock", QUIT));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Launcher for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn availability(&self) -> Availability {
        let accelerator = Some(Accelerator::here(&self.config.root).as_str().to_owned());
        match self.finder.find() {
            Ok(binary) => {
                let version = Some(binary.version);
                Availability { available: true, version, accelerator, reason: None }
            }
            Err(reason) => {
                Availability { available: false, version: None, accelerator, reason: Some(reason) }
            }
        }
    }

    fn create_files(&self, spec: &MachineSpec) -> Result<(), LaunchError> {
        let image_tool =
            || self.finder.image_tool().map_err(|reason| LaunchError::Unavailable { reason });
        self.files(spec.id).create(spec, image_tool)
    }

    fn remove_files(&self, id: Uuid) -> Result<(), LaunchError> {
        let run = self.run_dir(id);
        if self.find(id) != Presence::Gone {
            return Err(LaunchError::File {
                action: "remove".into(),
                path: run.path().display().to_string(),
                reason: "its machine still runs".into(),
            });
        }
        self.watches().remove(&id);
        self.files(id).remove()?;
        remove_tree(run.path())
    }

    fn launch(&self, spec: &MachineSpec) -> Result<MachineHandle, LaunchError> {
        match self.find(spec.id) {
            Presence::Gone => {}
            Presence::Unknown(reason) => return Err(LaunchError::Start { reason }),
            Presence::Running(handle) => {
                let reason = format!("its VMM runs already, as process {}", handle.pid);
                return Err(LaunchError::Start { reason });
            }
        }
        let order = self.order(spec)?;
        let watch = Arc::new(self.spawn(spec, &order)?);
        self.watches().insert(spec.id, Arc::clone(&watch));
        let started =
            bring_up::bring_up(spec, &watch, &self.run_dir(spec.id), &self.files(spec.id));
        match started {
            Ok(()) => Ok(watch.handle().clone()),
            Err(error) => {
                self.end(&watch)?;
                self.watches().remove(&spec.id);
                Err(error)
            }
        }
    }

    fn find(&self, id: Uuid) -> Presence {
        self.run_dir(id).presence(&self.proc)
    }

    fn shut_down(&self, id: Uuid, grace: Duration) -> Result<Exit, LaunchError> {
        let Some(watch) = self.watch(id)? else { return Ok(Exit { code: None }) };
        let run = self.run_dir(id);
        for (command, patience) in [("system_powerdown", grace), ("quit", QUIT)] {
            let asked = bring_up::ask(&run, command, Instant::now() + COMMAND);
            if let Err(error) = &asked {
                tracing::debug!(machine = %id, command, %error, "the monitor did not take it");
            }
            // A VMM that ends does not always answer.
            let patience = if asked.is_ok() { patience } else { patience.min(COMMAND) };
            if let Some(exit) = watch.wait(Some(patience)).map_err(watching)? {
                return self.settle(watch.handle()).map(|()| exit);
            }
        }
        self.end(&watch)
    }

    fn kill(&self, id: Uuid) -> Result<(), LaunchError> {
        match self.watch(id)? {
            Some(watch) => self.end(&watch).map(|_| ()),
            None => Ok(()),
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
        let exit = watch.wait(None).map_err(watching)?.unwrap_or(Exit { code: None });
        self.settle(handle).map(|()| exit)
    }

    fn console(&self, id: Uuid) -> PathBuf {
        self.files(id).console()
    }
}

/// VFIO pins all of the guest's memory, counted for the process (vfio_iommu_type1) or the user (iommufd). A machine
/// without devices pins nothing.
fn memlock(spec: &MachineSpec) -> Option<u64> {
    let functions: usize = spec.slots.iter().map(|slot| slot.functions.len()).sum();
    let functions = u64::try_from(functions).ok().filter(|functions| *functions > 0)?;
    let margin = MEMLOCK_MARGIN.saturating_add(functions.saturating_mul(MEMLOCK_FUNCTION));
    Some(spec.memory.saturating_add(margin))
}

fn deadline(action: &str, time: Duration) -> LaunchError {
    LaunchError::Deadline { action: action.into(), seconds: time.as_secs() }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn watching(error: io::Error) -> LaunchError {
    LaunchError::Monitor { reason: format!("its process cannot be watched: {error}") }
}

/// Removes a directory. Nothing there is no error.
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
