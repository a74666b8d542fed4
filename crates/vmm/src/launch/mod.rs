//! The process that becomes the VMM: `handover` executing itself as `handover launch`.
//!
//! The daemon starts it with the machine's lock as its standard input. The order is in that file, and the VMM inherits
//! the open file description, so it holds the lock while it lives. Everything that the VMM must not be able to do
//! itself is done here, in this order: session, limits, sockets, files, record, network cards, cgroup and its filter; then the
//! privileges are dropped, the helpers are started, and the VMM is executed.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use model::shown::escaped;
use model::{
    CardLinks, LinkError, LoopbackFilter, MachineHandle, MachineRun, OpenCard, VmmProcess,
};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Gid, Resource, Rlimit, Uid};

use crate::process::{
    DeviceFile, Helper, HostCard, Loopback, NotOpened, Order, Proc, Record, RunDir, affinity,
    cgroup, open_device, open_file, wait, with_fd, with_vhost,
};

/// The longest order.
const MOST_ORDER_BYTES: u64 = 1 << 20;

/// The limit of open files: a VMM needs an event descriptor for each interrupt of its devices.
const OPEN_FILES: u64 = 16 * 1024;

/// How long a helper may take until it is ready: less than a start may take. An emulated host is slow.
const HELPER: Duration = Duration::from_secs(30);

/// Why a machine was not launched. It is written to the machine's log, where the daemon reads it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no order on standard input; only the daemon starts this command")]
    NoOrder(#[source] serde_json::Error),
    #[error("a machine never runs as root: the order has uid 0")]
    Root,
    #[error("{0} did not start: {1}")]
    Helper(String, String),
    #[error("cannot open {0:?}: {1}")]
    File(PathBuf, #[source] io::Error),
    #[error(transparent)]
    NotOpened(#[from] NotOpened),
    #[error(
        "cannot keep the guest from this host's loopback, as this version of passt requires: {0}"
    )]
    Loopback(String),
    #[error(transparent)]
    Card(#[from] LinkError),
    #[error("cannot {0}: {1}")]
    Step(&'static str, #[source] io::Error),
}

/// Executes the order on standard input and becomes the VMM. Call it first in a process, before any other thread is
/// started: it sets user and groups for the calling thread only. The filter is for programs that could reach this host's
/// loopback; `links` connect network cards.
#[must_use]
pub fn main(filter: &dyn LoopbackFilter, links: &dyn CardLinks) -> ExitCode {
    let failure = match read_order() {
        Ok(order) => execute(&order, filter, links),
        Err(failure) => failure,
    };
    report(&failure.to_string());
    ExitCode::from(126)
}

/// Prints a line to standard error, which is the machine's log.
#[allow(clippy::disallowed_macros, reason = "the launcher has no terminal of its own")]
fn report(text: &str) {
    eprintln!("handover launch: {}", escaped(text));
}

fn read_order() -> Result<Order, Failure> {
    let mut text = Vec::new();
    step("read the order", io::stdin().lock().take(MOST_ORDER_BYTES).read_to_end(&mut text))?;
    serde_json::from_slice(&text).map_err(Failure::NoOrder)
}

/// Returns only after a failure.
fn execute(order: &Order, filter: &dyn LoopbackFilter, links: &dyn CardLinks) -> Failure {
    match prepare(order, filter, links) {
        Err(failure) => failure,
        Ok(inherited) => {
            let mut vmm = Command::new(&order.program);
            vmm.env_clear();
            for (socket, args) in &inherited.listeners {
                vmm.args(with_fd(args, socket.as_raw_fd()));
            }
            for (file, descriptor) in order.files.iter().zip(&inherited.files) {
                vmm.args(with_fd(&file.vmm_args, descriptor.as_raw_fd()));
            }
            for (card, open) in order.cards.iter().zip(&inherited.cards) {
                vmm.args(card_args(card, open));
            }
            for (helper, socket) in order.helpers.iter().zip(&inherited.helpers) {
                vmm.args(with_fd(&helper.vmm_args, socket.as_raw_fd()));
            }
            if let Err(error) = inherited.keep() {
                return Failure::Step("pass on the sockets and files", error);
            }
            Failure::Step("execute the VMM", vmm.args(&order.args).exec())
        }
    }
}

/// What the VMM inherits besides the standard descriptors. Nothing else does: not the helpers.
struct Inherited<'a> {
    lock: OwnedFd,
    /// The sockets on which the VMM listens, with its arguments for them.
    listeners: Vec<(UnixListener, &'a [String])>,
    /// The open files, in the order of those of the order.
    files: Vec<OwnedFd>,
    /// The nodes of devices.
    devices: Vec<OwnedFd>,
    /// The network cards, in the order of those of the order.
    cards: Vec<OpenCard>,
    /// The VMM's ends of the pairs, in the order of the helpers.
    helpers: Vec<UnixStream>,
}

impl Inherited<'_> {
    /// Keeps the descriptors open when the VMM is executed.
    fn keep(&self) -> io::Result<()> {
        fcntl_setfd(&self.lock, FdFlags::empty())?;
        self.listeners.iter().try_for_each(|(socket, _)| fcntl_setfd(socket, FdFlags::empty()))?;
        self.files.iter().try_for_each(|file| fcntl_setfd(file, FdFlags::empty()))?;
        self.devices.iter().try_for_each(|file| fcntl_setfd(file, FdFlags::empty()))?;
        let cards = self.cards.iter().flat_map(|open| [Some(&open.card), open.vhost.as_ref()]);
        cards.flatten().try_for_each(|card| fcntl_setfd(card, FdFlags::empty()))?;
        Ok(self.helpers.iter().try_for_each(|socket| fcntl_setfd(socket, FdFlags::empty()))?)
    }
}

/// Everything before the VMM is executed.
fn prepare<'a>(
    order: &'a Order,
    filter: &dyn LoopbackFilter,
    links: &dyn CardLinks,
) -> Result<Inherited<'a>, Failure> {
    if order.uid == 0 {
        return Err(Failure::Root);
    }
    close_fds::set_fds_cloexec(3, &[]);
    let lock = keep_lock(&order.root)?;
    step("create a session", rustix::process::setsid().map_err(Into::into))?;
    step("change to the root directory", std::env::set_current_dir(&order.root))?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    if let Some(memlock) = order.memlock {
        step("raise the limit of locked memory", set_limit(Resource::Memlock, memlock))?;
    }
    if let Err(error) = affinity::keep_on(&order.cpus) {
        report(&format!("continuing on all processors: {error}"));
    }
    if let Err(error) = set_limit(Resource::Nofile, OPEN_FILES) {
        report(&format!("cannot raise the limit of open files: {error}"));
    }
    let run = RunDir::of(&order.run_dir, order.id);
    let sockets = [
        (run.control(), &order.control_args),
        (run.console(), &order.console_args),
        (run.agent(), &order.agent_args),
    ];
    let used = sockets.iter().filter(|(_, args)| !args.is_empty());
    let listeners: io::Result<_> =
        used.map(|(path, args)| Ok((listen(path)?, args.as_slice()))).collect();
    let listeners = step("open the VMM's sockets", listeners)?;
    let files = order.files.iter().map(open_file).collect::<Result<_, _>>()?;
    let devices = order.devices.iter().map(open_at).collect::<Result<_, _>>()?;
    let cgroup = cgroup::place(&order.root, order.id);
    // Recorded before they are created, so that they are always removed later.
    step("record the process", record(order, &run, cgroup.as_ref().ok().cloned()))?;
    let open = |card: &HostCard| links.open(&order.root, &card.interface, &card.link, card.mac);
    let cards = order.cards.iter().map(open).collect::<Result<_, _>>()?;
    let entered = cgroup.and_then(|cgroup| cgroup::enter(&cgroup).map(|()| cgroup));
    confine(order, filter, entered)?;
    step("drop privileges", drop_privileges(order))?;
    let helpers = order.helpers.iter().map(start_helper).collect::<Result<_, _>>()?;
    Ok(Inherited { lock, listeners, files, devices, cards, helpers })
}

/// The VMM's arguments for a network card.
fn card_args(card: &HostCard, open: &OpenCard) -> Vec<String> {
    let fd = open.card.as_raw_fd();
    match &open.vhost {
        Some(vhost) => with_vhost(&card.vhost_args, fd, vhost.as_raw_fd()).collect(),
        None => with_fd(&card.vmm_args, fd).collect(),
    }
}

/// Opens a node of a device at its descriptor.
fn open_at(file: &DeviceFile) -> Result<OwnedFd, Failure> {
    let failed = |error: io::Error| Failure::File(file.path.clone(), error);
    let opened = open_device(file).map_err(failed)?;
    // The lowest one from there on: no other is open there.
    let placed = rustix::io::fcntl_dupfd_cloexec(&opened, file.descriptor);
    let placed = placed.map_err(|error| failed(error.into()))?;
    if placed.as_raw_fd() == file.descriptor {
        return Ok(placed);
    }
    Err(failed(io::Error::other(format!("descriptor {} is taken", file.descriptor))))
}

/// Closes this host's loopback to the machine's cgroup, which this process has entered, if a helper requires it.
fn confine(
    order: &Order,
    filter: &dyn LoopbackFilter,
    entered: Result<PathBuf, String>,
) -> Result<(), Failure> {
    let closed = order.helpers.iter().find_map(|helper| match helper.loopback {
        Loopback::Open => None,
        Loopback::Closed { name_server } => Some(name_server),
    });
    match (closed, entered) {
        (Some(name_server), Ok(cgroup)) => filter
            .attach(&cgroup, name_server)
            .map_err(|error| Failure::Loopback(error.to_string())),
        (Some(_), Err(why)) => Err(Failure::Loopback(why)),
        (None, Ok(_)) => Ok(()),
        (None, Err(why)) => {
            report(&format!("continuing without a cgroup for the machine: {why}"));
            Ok(())
        }
    }
}

/// Starts a helper, waits until it is in the background, and returns the VMM's end of the pair. Its messages are in the
/// machine's log. The helper alone inherits the other end: this process has one thread.
fn start_helper(helper: &Helper) -> Result<UnixStream, Failure> {
    let (ours, its) = step("create a pair of sockets", UnixStream::pair())?;
    step("pass on a socket", fcntl_setfd(&its, FdFlags::empty()).map_err(Into::into))?;
    let mut command = Command::new(&helper.program);
    command.args(with_fd(&helper.args, its.as_raw_fd())).env_clear().stdin(Stdio::null());
    let status = command.spawn().and_then(|mut child| wait(&mut child, HELPER));
    let failed = |reason| Err(Failure::Helper(helper.program.display().to_string(), reason));
    match status {
        Ok(Some(status)) if status.success() => Ok(ours),
        Ok(Some(status)) => failed(status.to_string()),
        Ok(None) => failed(format!("it was not ready within {} s", HELPER.as_secs())),
        Err(error) => failed(error.to_string()),
    }
}

/// Keeps the lock in another descriptor, and replaces standard input with `/dev/null`.
fn keep_lock(root: &Path) -> Result<OwnedFd, Failure> {
    let lock = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3);
    let lock = step("keep the lock", lock.map_err(Into::into))?;
    let null = root.join("dev/null");
    let null = rustix::fs::open(null, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(rustix::stdio::dup2_stdin);
    step("open /dev/null", null.map_err(Into::into))?;
    Ok(lock)
}

/// Creates a socket of the VMM, in a directory that its user cannot enter: only root can connect to it.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Records this process. Executing the VMM changes neither the pid nor the start time.
fn record(order: &Order, run: &RunDir, cgroup: Option<PathBuf>) -> io::Result<()> {
    let proc = Proc::below(&order.root);
    let stat = proc.stat("self")?.ok_or(io::ErrorKind::NotFound)?;
    let process = VmmProcess { pid: std::process::id(), start_time: stat.start_time };
    let handle =
        MachineHandle { id: order.id, run: MachineRun::Process(process), boot_id: proc.boot_id()? };
    let interfaces = order.cards.iter().map(|card| card.interface.clone()).collect();
    let macs = order.cards.iter().map(|card| card.mac).collect();
    run.write_record(&Record { handle, cgroup, interfaces, macs })
}

/// Raises a limit, soft and hard, unless it is high enough.
fn set_limit(resource: Resource, least: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(resource);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= least);
    if enough(limit.current) {
        return Ok(());
    }
    let maximum = if enough(limit.maximum) { limit.maximum } else { Some(least) };
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(least), maximum })?)
}

/// Switches permanently to the machine's user and groups. Leaving uid 0 drops all capabilities (capabilities(7)).
fn drop_privileges(order: &Order) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let (uid, gid) = (Uid::from_raw(order.uid), Gid::from_raw(order.uid));
    if rustix::process::getuid() == uid && rustix::process::geteuid() == uid {
        return Ok(());
    }
    let groups: Vec<Gid> = order.groups.iter().copied().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

fn step<T>(action: &'static str, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Step(action, error))
}
