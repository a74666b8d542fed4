//! A running L1, for programs: boot it once, run many commands in it.

use std::{
    fs::{self, File},
    io::Read,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Pid;

use crate::{
    agent::{Client, Session, Start, client::Event},
    folder::{self, Folder},
    images::{Choice, Images},
    machine::{Machine, argv::Plan},
    process::last_lines,
    progress,
    topology::Topology,
};

/// The default timeout of a command.
const PATIENCE: Duration = Duration::from_secs(120);

/// Options for a lab.
#[derive(Debug, Clone)]
pub struct Options {
    /// The topology's name, or the path of a topology file.
    pub topology: String,
    /// The kernel.
    pub kernel: Choice,
    /// A directory that L1 mounts at `/host`.
    pub share: Option<PathBuf>,
    /// The `handover` program; default: the one that was built beside this program, if any.
    pub handover: Option<PathBuf>,
    /// A file for a disk with an ext4 file system at L1's `/var/lib/handover`; created with 128 MiB if it is missing,
    /// and kept when L1 ends.
    pub state: Option<PathBuf>,
    /// An initial ramdisk that a tool of [`ramdisk_tools`](crate::images::ramdisk_tools) built in an L1 with the same
    /// kernel; L1 boots with it instead of the lab's first stage.
    pub ramdisk: Option<PathBuf>,
    /// How long L1 may take to boot.
    pub boot_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            topology: "workstation".to_owned(),
            kernel: Choice::Auto,
            share: None,
            handover: None,
            state: None,
            ramdisk: None,
            boot_deadline: Duration::from_secs(120),
        }
    }
}

/// The result of a command in L1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 plus the number of a signal that ended it.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Its standard output; if it failed, an error with its whole output.
    pub fn success(self) -> Result<String> {
        ensure!(
            self.status == 0,
            "the command failed with status {}:\n{}{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }
}

/// A running L1. It ends when this is dropped, or when the program exits for any reason.
#[derive(Debug)]
pub struct Lab {
    // The fields are dropped in this order: the machine before its folder.
    agent: Client,
    machine: Machine,
    folder: Folder,
}

impl Lab {
    /// Boots this topology and waits until commands can run. Builds missing images first.
    pub fn boot(topology: &str) -> Result<Self> {
        Self::start(&Options { topology: topology.to_owned(), ..Options::default() })
    }

    /// Boots with these options.
    pub fn start(options: &Options) -> Result<Self> {
        let topology = Topology::load(&options.topology)?;
        let images = Images::ready(options.kernel)?;
        let folder = Folder::make("run")?;
        fill(&folder.path().join("inside"), options.handover.as_deref())?;
        let share = options
            .share
            .as_ref()
            .map(|s| s.canonicalize().with_context(|| format!("cannot find {}", s.display())));
        let share = share.transpose()?;
        // QEMU runs in the lab's own folder.
        let state = options.state.as_ref().map(std::path::absolute).transpose()?;
        let ramdisk = options.ramdisk.as_deref();
        let ramdisk = ramdisk.map(|own| join(&images.initrd.base, own, &folder)).transpose()?;
        let plan = Plan {
            topology: &topology,
            images: &images,
            folder: folder.path(),
            share: share.as_deref(),
            state: state.as_deref(),
            ramdisk: ramdisk.as_deref(),
        };
        let start = Instant::now();
        let (machine, stream) = Machine::start(&plan)?;
        match Client::connect(stream, start + options.boot_deadline) {
            Ok(agent) => {
                let kernel = &images.kernel.version;
                progress::note(format_args!(
                    "L1 ({}, {kernel}) is up in {}",
                    options.topology,
                    progress::seconds(start.elapsed())
                ));
                Ok(Self { agent, machine, folder })
            }
            Err(error) => {
                let lost = Lost { folder: &folder, machine: &machine };
                Err(error.context(lost.explain()))
            }
        }
    }

    /// Runs a bash script as root and returns its output, with a timeout of two minutes.
    pub fn exec(&self, script: &str) -> Result<Output> {
        self.exec_within(script, PATIENCE)
    }

    /// Runs a bash script as root and returns its output. After the deadline it is killed, with all its child
    /// processes.
    pub fn exec_within(&self, script: &str, deadline: Duration) -> Result<Output> {
        let mut session = self.agent.start(&Start::script(script))?;
        session.input().end()?;
        self.collect(&mut session, deadline).with_context(|| format!("in L1: {script}"))
    }

    /// Runs a bash script as root and returns its standard output; a failure is an error.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.exec(script)?.success().with_context(|| format!("in L1: {script}"))
    }

    /// Opens a session with a program or a socket in L1.
    pub fn open(&self, start: &Start) -> Result<Session> {
        self.agent.start(start)
    }

    /// Copies a file into L1, with its permissions.
    pub fn put(&self, from: &Path, to: &str) -> Result<()> {
        let mut file =
            File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        let script =
            format!("set -e; mkdir -p \"$(dirname '{to}')\"; cat > '{to}'; chmod {mode:o} '{to}'");
        let mut session = self.agent.start(&Start::script(&script))?;
        session.input().copy(&mut file)?;
        self.collect(&mut session, PATIENCE)?
            .success()
            .with_context(|| format!("cannot write {to} in L1"))?;
        Ok(())
    }

    /// Reads a file in L1.
    pub fn get(&self, from: &str) -> Result<Vec<u8>> {
        let mut session = self
            .agent
            .start(&Start::Run { argv: vec!["cat".to_owned(), from.to_owned()], env: vec![] })?;
        let (status, stdout, stderr) = self.gather(&mut session, PATIENCE)?;
        ensure!(status == 0, "cannot read {from} in L1: {}", String::from_utf8_lossy(&stderr));
        Ok(stdout)
    }

    /// Forwards a port of this host's loopback to an address in L1 (`127.0.0.1:8080`, or a unix socket's path), and
    /// returns the port. Port 0 means a free one.
    pub fn forward(&self, port: u16, address: &str) -> Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("cannot listen on port {port} of this host's loopback"))?;
        let port = listener.local_addr()?.port();
        let (agent, address) = (self.agent.clone(), address.to_owned());
        thread::Builder::new().name(format!("forward {port}")).spawn(move || {
            for stream in listener.incoming().flatten() {
                let (agent, address) = (agent.clone(), address.clone());
                thread::spawn(move || connect(&agent, &address, &stream));
            }
        })?;
        Ok(port)
    }

    /// From now on the state disk acknowledges writes and loses them, like the cache of a disk before a power cut.
    /// Earlier writes are kept. Stock kernel only: the slim one has no device mapper.
    pub fn lose_writes(&self) -> Result<()> {
        self.sh("/opt/lab/lose-writes").map(drop)
    }

    /// Ends L1 like a power cut, and returns when it is gone: data that was not written to its disks is lost. Commands
    /// of other threads in L1 fail.
    pub fn cut_power(&self) {
        self.machine.kill();
    }

    /// The agent, for a relay.
    pub fn agent(&self) -> &Client {
        &self.agent
    }

    /// The lab's directory: logs, disks, sockets.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// QEMU's process.
    pub fn pid(&self) -> Pid {
        self.machine.pid()
    }

    /// The exit status of L1's QEMU, if it has exited.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.machine.ended()
    }

    /// Explains why L1 is gone or does not answer, from its console; keeps the logs.
    pub fn explain(&self) -> String {
        Lost { folder: &self.folder, machine: &self.machine }.explain()
    }

    fn collect(&self, session: &mut Session, deadline: Duration) -> Result<Output> {
        let (status, stdout, stderr) = self.gather(session, deadline)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
    }

    fn gather(&self, session: &mut Session, deadline: Duration) -> Result<(i32, Vec<u8>, Vec<u8>)> {
        let at = Instant::now() + deadline;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match session.next(Some(at))? {
                Event::Output(data) => stdout.extend(data),
                Event::Error(data) => stderr.extend(data),
                Event::Exit(status) => return Ok((status, stdout, stderr)),
                Event::Timeout => bail!(
                    "timed out after {}; output so far:\n{}{}",
                    progress::seconds(deadline),
                    String::from_utf8_lossy(&stdout),
                    String::from_utf8_lossy(&stderr)
                ),
                Event::Gone => bail!("{}", self.explain()),
            }
        }
    }
}

/// A machine that is gone or does not answer.
struct Lost<'a> {
    folder: &'a Folder,
    machine: &'a Machine,
}

impl Lost<'_> {
    fn explain(&self) -> String {
        let what = match self.machine.ended() {
            Some(status) => format!("L1 has exited ({status})"),
            None => format!("L1 does not answer; its threads:\n{}", self.machine.threads()),
        };
        let read = |name: &str| {
            let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
            last_lines(&String::from_utf8_lossy(&bytes), 40)
        };
        let kept = match self.folder.keep_logs() {
            Ok(path) => format!("logs: {}", path.display()),
            Err(error) => format!("cannot keep the logs: {error:#}"),
        };
        format!(
            "{what}\n{kept}\n--- console\n{}\n--- QEMU\n{}",
            read("console.log"),
            read("qemu.log")
        )
    }
}

/// Prepends the archive that mounts L1's root to another tool's ramdisk: the kernel unpacks concatenated archives.
fn join(base: &Path, ramdisk: &Path, folder: &Folder) -> Result<PathBuf> {
    let whole = folder.path().join("initrd");
    fs::copy(base, &whole)?;
    let mut from = File::open(ramdisk)
        .with_context(|| format!("cannot read the ramdisk {}", ramdisk.display()))?;
    std::io::copy(&mut from, &mut File::options().append(true).open(&whole)?)?;
    Ok(whole)
}

/// Fills the directory that L1 mounts at `/lab`: the agent and the program under test. They are copied because a build
/// may replace the originals while the lab is running.
fn fill(inside: &Path, handover: Option<&Path>) -> Result<()> {
    let bin = inside.join("bin");
    fs::create_dir_all(&bin)?;
    fs::copy(
        folder::beside("lab")
            .context("the program `lab` is not built; run `cargo build -p lab`")?,
        bin.join("lab"),
    )?;
    let handover = match handover {
        Some(path) => Some(path.to_owned()),
        None => folder::beside("handover"),
    };
    match handover {
        Some(path) => {
            fs::copy(&path, bin.join("handover"))
                .with_context(|| format!("cannot copy {}", path.display()))?;
            // The init of container images, where it looks for it.
            let place = Path::new("lib/handover/handover-guest");
            let prefix = path.parent().and_then(Path::parent);
            if let Some(guest) = prefix.map(|prefix| prefix.join(place)).filter(|one| one.exists())
            {
                let to = inside.join(place);
                fs::create_dir_all(to.parent().unwrap_or(inside))?;
                fs::copy(&guest, to).with_context(|| format!("cannot copy {}", guest.display()))?;
            }
        }
        None => progress::note("`handover` is not built; L1 starts without it"),
    }
    Ok(())
}

fn connect(agent: &Client, address: &str, stream: &TcpStream) {
    let Ok(mut session) = agent.start(&Start::Connect(address.to_owned())) else { return };
    let input = session.input();
    let Ok(mut from) = stream.try_clone() else { return };
    thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if input.write(buffer.get(..count).unwrap_or_default()).is_err() {
                return;
            }
        }
        let _ = input.end();
    });
    let mut to = stream;
    while let Ok(Event::Output(data)) = session.next(None) {
        if std::io::Write::write_all(&mut to, &data).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
}
