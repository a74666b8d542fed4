//! QEMU as a child process, with the servers of its GPUs.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::argv::Plan;
use crate::{gpu::Listening, process::last_lines};

/// A running QEMU.
#[derive(Debug)]
pub struct Machine {
    pid: Pid,
    pidfd: OwnedFd,
    /// Its exit status, once it has exited.
    ended: Arc<Mutex<Option<ExitStatus>>>,
    keeper: Option<thread::JoinHandle<()>>,
}

impl Machine {
    /// Starts L1 and returns it with the connection to its agent's port.
    pub fn start(plan: &Plan) -> Result<(Self, UnixStream)> {
        for drive in &plan.topology.drive {
            File::create(plan.drive(&drive.id))?.set_len(bytes(&drive.size)?)?;
        }
        if let Some(state) = plan.state.filter(|state| !state.exists()) {
            File::create(state)?.set_len(bytes("128M")?)?;
        }
        for gpu in &plan.topology.gpu {
            let server = Listening::on(&plan.gpu(gpu), &gpu.settings)?;
            let id = gpu.id.clone();
            thread::Builder::new().name(id.clone()).spawn(move || {
                if let Err(error) = server.serve() {
                    eprintln!("lab: emulated GPU {id} failed: {error:#}");
                }
            })?;
        }
        let listener =
            UnixListener::bind(plan.agent()).context("cannot create the agent's socket")?;
        listener.set_nonblocking(true)?;
        let machine = Self::spawn(plan)?;
        let agent = machine.accept(&listener, plan)?;
        Ok((machine, agent))
    }

    /// Starts QEMU in a separate thread, which also waits for it. QEMU ends with the thread that started it
    /// (`exit-with-parent` is `PR_SET_PDEATHSIG`, which is per thread), and a test's thread may end while others still
    /// use the machine.
    fn spawn(plan: &Plan) -> Result<Self> {
        let mut command = plan.images.tools.qemu()?;
        let log = File::create(plan.folder.join("qemu.log"))?;
        command
            .args(plan.argv())
            .current_dir(plan.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // Not in our process group: it must not get the terminal's Ctrl-C.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        fs::write(plan.folder.join("command"), format!("{command:?}\n"))?;
        let ended = Arc::new(Mutex::new(None));
        let set = Arc::clone(&ended);
        let (tell, started) = mpsc::channel();
        let keeper = thread::Builder::new().name("qemu".to_owned()).spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(tell.send(Err(error))),
            };
            let _ = tell.send(handles(&child));
            let status = wait(&mut child);
            *set.lock().unwrap_or_else(PoisonError::into_inner) = status;
        })?;
        let (pid, pidfd) = started
            .recv()
            .context("the thread that starts QEMU has ended")?
            .context("cannot start QEMU")?;
        Ok(Self { pid, pidfd, ended, keeper: Some(keeper) })
    }

    fn accept(&self, listener: &UnixListener, plan: &Plan) -> Result<UnixStream> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(status) = self.ended() {
                let log = fs::read_to_string(plan.folder.join("qemu.log")).unwrap_or_default();
                bail!("QEMU exited at once ({status}):\n{}", last_lines(&log, 20));
            }
            if Instant::now() > deadline {
                bail!("timed out while waiting for QEMU to connect to the agent's socket");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// QEMU's exit status, if it has exited.
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills it without a shutdown, and returns when it is gone.
    pub fn kill(&self) {
        // By its pidfd: the pid may be reused after the keeper has waited. An error means that it has exited already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        // Waits for the keeper, which sets the exit status.
        while self.keeper.as_ref().is_some_and(|keeper| !keeper.is_finished()) {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What each thread of QEMU does: its name, its state, where it waits in the kernel, and the clock ticks that it ran in
    /// the last second (proc_pid_stat(5)). A processor that runs all the time is one whose guest hangs.
    pub fn threads(&self) -> String {
        let tasks = format!("/proc/{}/task", self.pid.as_raw_nonzero());
        let before = thread_times(&tasks);
        thread::sleep(Duration::from_secs(1));
        let thread = |(id, (what, ticks)): (String, (String, u64))| {
            let ran = before.get(&id).map_or(0, |(_, earlier)| ticks.saturating_sub(*earlier));
            let waits = fs::read_to_string(format!("{tasks}/{id}/wchan")).unwrap_or_default();
            format!("{what} {waits} ran {ran}")
        };
        thread_times(&tasks).into_iter().map(thread).collect::<Vec<_>>().join("\n")
    }

    /// QEMU's process.
    pub fn pid(&self) -> Pid {
        self.pid
    }
}

/// The threads of a process: name, state and used processor time in clock ticks.
fn thread_times(tasks: &str) -> BTreeMap<String, (String, u64)> {
    let entries = fs::read_dir(tasks).into_iter().flatten().flatten();
    let thread = |entry: fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let time = |field: usize| fields.get(field)?.parse::<u64>().ok();
        let what = format!("{name} {}", fields.first()?);
        Some((entry.file_name().into_string().ok()?, (what, time(11)? + time(12)?)))
    };
    entries.filter_map(thread).collect()
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    child.wait().ok()
}

/// The pid and pidfd of the child, before the keeper waits for it.
fn handles(child: &Child) -> std::io::Result<(Pid, OwnedFd)> {
    let pid = Pid::from_child(child);
    Ok((pid, pidfd_open(pid, PidfdFlags::empty())?))
}

/// Parses a size in QEMU's format.
fn bytes(size: &str) -> Result<u64> {
    let (digits, shift) = match size.chars().last() {
        Some('K') => (&size[..size.len() - 1], 10),
        Some('M') => (&size[..size.len() - 1], 20),
        Some('G') => (&size[..size.len() - 1], 30),
        _ => (size, 0),
    };
    let number: u64 = digits.parse().with_context(|| format!("{size:?} is not a size"))?;
    number.checked_mul(1 << shift).with_context(|| format!("{size} is too large"))
}
