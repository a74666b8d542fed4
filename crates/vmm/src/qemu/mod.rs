//! QEMU as a launcher of machines.

mod argv;
mod binary;
mod blame;
mod bring_up;
mod files;
mod qmp;
mod start;
mod window;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{Availability, Exit, LaunchError, Launcher, MachineHandle, MachineSpec, Presence};
use uuid::Uuid;

use crate::identity::{Record, RunDir};
use crate::launcher;
use crate::process::{Proc, Watch};
use binary::{Accelerator, Finder};
use files::Files;

/// When the power button is pressed again, and then after twice the time: a guest that still boots misses a press.
const PRESS_AGAIN: Duration = Duration::from_secs(3);

/// How long QEMU may take to end when it is asked to, with the guest no longer running.
const QUIT: Duration = Duration::from_secs(10);

/// How long a killed QEMU may take: the kernel closes devices, resets them and unpins the guest's memory.
const DIE: Duration = Duration::from_secs(120);

/// How often a machine's console and log are looked at, whether they have become too long.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// How long one command to the monitor may take.
const COMMAND: Duration = Duration::from_secs(10);

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
                return forget(&run, Some(&record)).map_err(watching);
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
        // A machine that ended while no daemon watched it has left its control group.
        run.record().and_then(|record| forget(&run, record.as_ref())).map_err(watching)?;
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
            Err(error) => match self.end(&watch) {
                Ok(_) => Err(error),
                Err(then) => {
                    Err(LaunchError::Start { reason: format!("{error}; and then: {then}") })
                }
            },
        }
    }

    fn find(&self, id: Uuid) -> Presence {
        self.run_dir(id).presence(&self.proc)
    }

    fn shut_down(&self, id: Uuid, grace: Duration) -> Result<Exit, LaunchError> {
        let Some(watch) = self.watch(id)? else { return Ok(Exit { code: None }) };
        let run = self.run_dir(id);
        let ask = |command| {
            let asked = bring_up::ask(&run, command, Instant::now() + COMMAND);
            if let Err(error) = &asked {
                tracing::debug!(machine = %id, command, %error, "the monitor did not take it");
            }
            // A VMM that ends does not always answer.
            asked.is_ok()
        };
        let until = Instant::now() + grace;
        let mut pause = PRESS_AGAIN;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let heard = ask("system_powerdown");
            let patience = left.min(if heard { pause } else { COMMAND });
            if let Some(exit) = watch.wait(Some(patience)).map_err(watching)? {
                return self.settle(watch.handle()).map(|()| exit);
            }
            if !heard {
                break;
            }
            pause *= 2;
        }
        let patience = if ask("quit") { QUIT } else { QUIT.min(COMMAND) };
        if let Some(exit) = watch.wait(Some(patience)).map_err(watching)? {
            return self.settle(watch.handle()).map(|()| exit);
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

/// Clears what is left of a VMM that is gone: its control group, wherever an earlier daemon was when it made it, and its
/// record. To be called with the lock taken, or with the machine gone for good.
fn forget(run: &RunDir, record: Option<&Record>) -> io::Result<()> {
    let cgroup = record.and_then(|record| record.cgroup.as_deref());
    if let Some(Err(error)) = cgroup.map(launcher::remove_cgroup) {
        tracing::warn!(machine = %run.path().display(), %error, "its control group cannot be removed");
    }
    run.clear()
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
