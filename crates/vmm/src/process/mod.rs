//! Machines that are one process of ours each: what is common to every such VMM, behind [`model::Launcher`].
//!
//! [`ProcessLauncher`] starts, watches, adopts and ends the processes; a [`Vmm`] says what is particular to one VMM.

pub(crate) mod cgroup;
mod control;
mod disk_layer;
mod files;
mod kvm;
mod log;
mod order;
mod procfs;
mod programs;
mod run_dir;
mod start;
mod stop;
mod vmm;
mod watch;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Availability, Exit, LaunchError, Launcher, MachineHandle, MachineSpec, Presence};
use uuid::Uuid;

use files::Files;
use run_dir::forget;
use watch::Watch;

pub use control::{Control, ControlError};
pub use log::{last_lines, printable};
pub use order::CONTROL_FD;
pub use vmm::{MachinePaths, Vmm, VmmCommand};

pub(crate) use kvm::Kvm;
pub(crate) use order::Order;
pub(crate) use procfs::Proc;
pub(crate) use programs::{is_executable, on_path};
pub(crate) use run_dir::{Record, RunDir};

/// How often a machine's console and log are looked at, whether they have become too long.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// Where machines are kept, and how they are launched.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where locks, records and control sockets are; `/run/handover`.
    pub run_dir: PathBuf,
    /// Where disks and logs are; `/var/lib/handover`. Others must be able to pass through it.
    pub state_dir: PathBuf,
    /// Where `qemu-img`, which makes disk layers, is looked for before PATH.
    pub image_tool_dir: Option<PathBuf>,
    /// The command that runs [`crate::launch::main`]: `/proc/self/exe launch`.
    pub launch_command: Vec<OsString>,
    /// The root of sysfs, procfs and devfs.
    pub root: PathBuf,
}

impl Config {
    /// The same with absolute paths: the VMM works in another directory.
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
}

impl<V: Vmm> ProcessLauncher<V> {
    /// A launcher with this configuration. Nothing is looked for before it is needed.
    #[must_use]
    pub fn new(config: Config, vmm: V) -> Self {
        let config = config.absolute();
        let proc = Proc::below(&config.root);
        Self { vmm, config, proc, watches: Mutex::default() }
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

    /// The watch over a machine's VMM: the one that started it, or a new one where it was started by an earlier daemon.
    fn watch(&self, id: Uuid) -> Result<Option<Arc<Watch>>, LaunchError> {
        let known = self.watches().get(&id).cloned();
        if let Some(watch) = &known
            && watch.wait(Some(Duration::ZERO)).map_err(watching)?.is_none()
        {
            return Ok(known);
        }
        match self.run_dir(id).presence(&self.proc) {
            // One that has ended still tells how.
            Presence::Gone => Ok(known),
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
}

impl<V: Vmm> Launcher for ProcessLauncher<V> {
    fn name(&self) -> &'static str {
        self.vmm.name()
    }

    fn availability(&self) -> Availability {
        self.vmm.availability(&self.config.root)
    }

    fn create_files(&self, spec: &MachineSpec) -> Result<(), LaunchError> {
        let dir = self.config.image_tool_dir.as_deref();
        self.files(spec.id).create(spec, || disk_layer::image_tool(dir))
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
        // A machine that ended while no daemon watched it has left its control group.
        run.record().and_then(|record| forget(&run, record.as_ref())).map_err(watching)?;
        remove_tree(run.path())
    }

    fn launch(&self, spec: &MachineSpec) -> Result<MachineHandle, LaunchError> {
        match self.find(spec.id) {
            Presence::Gone => {}
            Presence::Unknown(reason) => return Err(LaunchError::Start { reason }),
            Presence::Running(handle) => {
                let pid = handle.pid().unwrap_or_default();
                let reason = format!("its VMM runs already, as process {pid}");
                return Err(LaunchError::Start { reason });
            }
        }
        self.start(spec)
    }

    fn find(&self, id: Uuid) -> Presence {
        self.run_dir(id).presence(&self.proc)
    }

    fn shut_down(&self, id: Uuid, grace: Duration) -> Result<Exit, LaunchError> {
        match self.watch(id)? {
            Some(watch) => self.stop(&watch, grace),
            None => Ok(Exit { code: None }),
        }
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
        let files = self.files(handle.id);
        // The first look is at once: what an earlier run or an earlier daemon left is bounded, too.
        loop {
            if let Err(error) = files.bound() {
                tracing::warn!(machine = %handle.id, %error, "its console cannot be kept short");
            }
            if let Some(exit) = watch.wait(Some(BETWEEN_LOOKS)).map_err(watching)? {
                return self.settle(handle).map(|()| exit);
            }
        }
    }

    fn console(&self, id: Uuid) -> PathBuf {
        self.files(id).console()
    }
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
