//! Worker processes: deadlines, locks that outlive the daemon, and whole hand-overs on a fake host.
#![allow(clippy::unwrap_used, clippy::panic)]

mod fake;

use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fake::Fake;
use host::worker_pool::{PoolConfig, WorkerCommand, WorkerPool};
use host::{HostConfig, LinuxHost};
use libtest_mimic::{Arguments, Trial};
use model::{
    Address, Host, HostError, HostLockError, Lock, NodeAccess, Observed, PowerControl, Step,
};

const NIC: &str = "0000:00:02.0";
const DISK: &str = "0000:00:03.0";

/// Long enough for a slow machine, short enough to wait for.
const SHORT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("worker") => return host::worker::main(),
        Some("daemon") => return daemon(&words),
        Some("stubborn") => return stubborn(),
        _ => {}
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("a_worker_answers", a_worker_answers),
        trial("a_worker_that_was_killed_is_replaced", a_worker_that_was_killed_is_replaced),
        trial("workers_end_with_their_pool", workers_end_with_their_pool),
        trial("a_missed_deadline_keeps_its_lock", a_missed_deadline_keeps_its_lock),
        trial("a_lock_outlives_the_daemon", a_lock_outlives_the_daemon),
        trial("the_hosts_lock_ends_with_the_daemon", the_hosts_lock_ends_with_the_daemon),
        trial("devices_do_not_wait_for_one_another", devices_do_not_wait_for_one_another),
        trial("steps_on_one_device_wait_for_one_another", steps_on_one_device_wait),
        trial("a_hand_over_and_back", a_hand_over_and_back),
        trial("changes_by_another_tool_are_left_alone", changes_by_another_tool_are_left_alone),
        trial("a_bind_that_does_not_take_is_an_error", a_bind_that_does_not_take_is_an_error),
        trial("an_open_vfio_device_is_not_unbound", an_open_vfio_device_is_not_unbound),
        trial("an_nvidia_gpu_in_use_is_not_unbound", an_nvidia_gpu_in_use_is_not_unbound),
        trial("a_function_that_is_gone_is_reported", a_function_that_is_gone_is_reported),
        trial("thousands_of_functions_can_be_requested", thousands_of_functions_can_be_requested),
        trial("modules_wait_for_virtual_functions", modules_wait_for_virtual_functions),
        trial("a_reader_changes_nothing", a_reader_changes_nothing),
        trial("names_lead_no_path_astray", names_lead_no_path_astray),
        trial("a_device_that_hangs_hides_no_other", a_device_that_hangs_hides_no_other),
    ];
    // One after another: some list and kill this process's children.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn command() -> WorkerCommand {
    WorkerCommand { program: std::env::current_exe().unwrap(), args: vec!["worker".into()] }
}

/// The fake host with a NIC on e1000e and a disk on nvme.
fn machine() -> Fake {
    let fake = Fake::new();
    fake.function(NIC, "8086:10d3", "020000").group(2).driver("e1000e");
    fake.function(DISK, "1b36:0010", "010802").group(3).driver("nvme");
    fake
}

fn config(fake: &Fake) -> HostConfig {
    HostConfig {
        root: fake.root().to_owned(),
        run_dir: fake.path("run"),
        workers: PoolConfig::new(command()),
        longest_step: None,
    }
}

fn open(fake: &Fake) -> LinuxHost {
    LinuxHost::new(config(fake)).unwrap()
}

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

fn unbind(address: &str, driver: &str) -> Step {
    Step::Unbind { address: at(address), driver: driver.into() }
}

/// Waits until other processes have made a condition true.
fn eventually(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what} did not come about");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The processes whose parent is this one.
fn children() -> Vec<u32> {
    let mut children = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    children
}

fn a_worker_answers() {
    let pool = WorkerPool::new(PoolConfig::new(command()));
    for _ in 0..3 {
        pool.round_trip().unwrap();
    }
    let nothing = WorkerCommand { program: "/nowhere".into(), args: Vec::new() };
    let failure = WorkerPool::new(PoolConfig::new(nothing)).round_trip().unwrap_err();
    assert!(failure.to_string().contains("cannot start /nowhere"), "{failure}");
    let silent = WorkerCommand { program: "/bin/true".into(), args: Vec::new() };
    let failure = WorkerPool::new(PoolConfig::new(silent)).round_trip().unwrap_err();
    assert!(matches!(failure, host::worker_pool::Failure::Died(_)), "{failure}");
}

fn a_worker_that_was_killed_is_replaced() {
    let before = children();
    let pool = WorkerPool::new(PoolConfig::new(command()));
    pool.round_trip().unwrap();
    let mut killed = 0;
    let ours: Vec<u32> = children().into_iter().filter(|pid| !before.contains(pid)).collect();
    for pid in ours {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
        // Signals that end a daemon do not end its worker.
        if name.is_ok_and(|name| name.trim() == "handover-worker") {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            pool.round_trip().unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            eventually("another worker", || pool.round_trip().is_ok());
            killed += 1;
        }
    }
    assert_eq!(killed, 1);
}

fn workers_end_with_their_pool() {
    let pool = WorkerPool::new(PoolConfig { command: command(), spare: 3, most_idle: 3 });
    let before = children();
    pool.warm().unwrap();
    let started: Vec<u32> = children().into_iter().filter(|pid| !before.contains(pid)).collect();
    assert_eq!(started.len(), 3);
    drop(pool);
    assert_eq!(children(), before);
}

fn a_missed_deadline_keeps_its_lock() {
    let fake = machine();
    fake.fifo("sys/bus/pci/drivers/e1000e/unbind");
    let host = LinuxHost::new(HostConfig { longest_step: Some(SHORT), ..config(&fake) }).unwrap();
    let step = unbind(NIC, "e1000e");
    let error = host.perform(&step).unwrap_err();
    assert!(matches!(error, HostError::Deadline { .. }), "{error}");
    assert!(host.is_locked(&Lock::Function(at(NIC))).unwrap());
    assert!(!host.is_locked(&Lock::Function(at(DISK))).unwrap());
    assert_eq!(host.missed().len(), 1);
    // Neither changed nor read while the worker is in the kernel; other devices work.
    let error = host.perform(&step).unwrap_err();
    assert!(matches!(&error, HostError::Locked { lock, .. } if lock == NIC), "{error}");
    assert!(matches!(host.as_found(&[at(NIC)]), Err(HostError::Locked { .. })));
    assert_eq!(host.as_found(&[at(DISK)]).unwrap()[0].driver.as_deref(), Some("nvme"));
    assert_eq!(host.inventory().unwrap().functions.len(), 2);
    // The kernel returns at last: the worker finishes its step, and is no longer listed.
    fake::kernel::set_driver(fake.root(), NIC, None);
    let said = std::fs::read_to_string(fake.path("sys/bus/pci/drivers/e1000e/unbind")).unwrap();
    assert_eq!(said, NIC);
    eventually("the worker's return", || host.missed().is_empty());
    assert!(!host.is_locked(&Lock::Function(at(NIC))).unwrap());
    assert_eq!(host.observe(&step).unwrap(), Observed::After);
}

/// The daemon that `a_lock_outlives_the_daemon` and `the_hosts_lock_ends_with_the_daemon` kill.
fn daemon(words: &[String]) -> ExitCode {
    let host = LinuxHost::new(HostConfig {
        root: words[1].clone().into(),
        run_dir: words[2].clone().into(),
        workers: PoolConfig::new(command()),
        longest_step: None,
    });
    let host = host.unwrap();
    let _lock = host.lock_host(&host.root().path().join("state")).unwrap();
    let _ = host.perform(&unbind(NIC, "e1000e"));
    ExitCode::SUCCESS
}

fn start_daemon(fake: &Fake) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg("daemon")
        .args([fake.root(), &fake.path("run")])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// A worker that is stuck in the kernel blocks only its device.
fn the_hosts_lock_ends_with_the_daemon() {
    let fake = machine();
    fake.fifo("sys/bus/pci/drivers/e1000e/unbind");
    let mut daemon = start_daemon(&fake);
    let host = open(&fake);
    let lock = Lock::Function(at(NIC));
    eventually("the daemon's step", || host.is_locked(&lock).unwrap());
    // Until the worker is inside: the daemon could be killed before it has sent anything.
    thread::sleep(Duration::from_millis(200));
    match host.lock_host(&fake.path("other")).err() {
        Some(HostLockError::Held(holder)) => assert_eq!(holder.pid, Some(daemon.id())),
        other => panic!("{other:?}"),
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(host.is_locked(&lock).unwrap());
    drop(host.lock_host(&fake.path("other")).unwrap());
    fake::kernel::set_driver(fake.root(), NIC, None);
    std::fs::read_to_string(fake.path("sys/bus/pci/drivers/e1000e/unbind")).unwrap();
    eventually("the end of the orphaned worker", || !host.is_locked(&lock).unwrap());
}

fn a_lock_outlives_the_daemon() {
    let fake = machine();
    fake.fifo("sys/bus/pci/drivers/e1000e/unbind");
    let mut daemon = start_daemon(&fake);
    let host = open(&fake);
    let lock = Lock::Function(at(NIC));
    eventually("the daemon's step", || host.is_locked(&lock).unwrap());
    // Until the worker is inside: the daemon could be killed before it has sent anything.
    thread::sleep(Duration::from_millis(200));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(host.is_locked(&lock).unwrap());
    assert!(matches!(host.perform(&unbind(NIC, "e1000e")), Err(HostError::Locked { .. })));
    fake::kernel::set_driver(fake.root(), NIC, None);
    std::fs::read_to_string(fake.path("sys/bus/pci/drivers/e1000e/unbind")).unwrap();
    eventually("the end of the orphaned worker", || !host.is_locked(&lock).unwrap());
}

fn devices_do_not_wait_for_one_another() {
    let fake = machine();
    fake.animate(&["nvme", "vfio-pci"], "nvme");
    fake.fifo("sys/bus/pci/drivers/e1000e/unbind");
    let host = open(&fake);
    thread::scope(|scope| {
        let stuck = scope.spawn(|| host.perform(&unbind(NIC, "e1000e")));
        eventually("the first step", || host.is_locked(&Lock::Function(at(NIC))).unwrap());
        host.perform(&unbind(DISK, "nvme")).unwrap();
        assert!(!stuck.is_finished());
        fake::kernel::set_driver(fake.root(), NIC, None);
        std::fs::read_to_string(fake.path("sys/bus/pci/drivers/e1000e/unbind")).unwrap();
        stuck.join().unwrap().unwrap();
    });
}

fn steps_on_one_device_wait() {
    let fake = machine();
    fake.animate(&["e1000e", "vfio-pci"], "e1000e");
    let host = open(&fake);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| host.perform(&unbind(NIC, "e1000e")).unwrap());
            scope.spawn(|| host.as_found(&[at(NIC)]).unwrap());
        }
    });
    assert_eq!(host.observe(&unbind(NIC, "e1000e")).unwrap(), Observed::After);
}

fn a_hand_over_and_back() {
    let fake = machine();
    fake.animate(&["e1000e", "vfio-pci"], "e1000e");
    for module in ["vfio_pci", "vfio_iommu_type1"] {
        fake.file(&format!("sys/module/{module}/refcnt"), "0\n");
    }
    fake.file("dev/vfio/2", "");
    let host = open(&fake);
    let found = host.as_found(&[at(NIC)]).unwrap();
    let address = at(NIC);
    let vfio = || "vfio-pci".to_owned();
    let mine = host.group_nodes(&[2, 3]).unwrap();
    let from = mine[&2];
    assert_eq!(mine.len(), 1);
    let to = NodeAccess { mode: 0o640, ..from };
    let steps = [
        Step::LoadModule { module: "vfio_iommu_type1".into() },
        Step::LoadModule { module: "vfio_pci".into() },
        Step::SetPower { address, from: PowerControl::On, to: PowerControl::On },
        Step::SetOverride { address, from: None, to: Some(vfio()) },
        unbind(NIC, "e1000e"),
        Step::Bind { address, driver: vfio() },
        Step::GrantGroup { address, group: 2, from, to },
    ];
    for step in &steps {
        host.perform(step).unwrap();
        assert_eq!(host.observe(step).unwrap(), Observed::After, "{}", step.describe());
        // It is idempotent.
        host.perform(step).unwrap();
    }
    let inventory = host.inventory().unwrap();
    assert!(inventory.function(address).unwrap().on_vfio());
    assert_eq!(host.group_nodes(&[2]).unwrap()[&2], to);
    for step in model::restoring(&steps) {
        host.perform(&step).unwrap();
        host.perform(&step).unwrap();
    }
    assert_eq!(host.as_found(&[address]).unwrap(), found);
    assert_eq!(host.group_nodes(&[2]).unwrap()[&2], from);
}

fn changes_by_another_tool_are_left_alone() {
    let fake = machine();
    let host = open(&fake);
    let nic = format!("sys/bus/pci/devices/{NIC}");
    fake.file(&format!("{nic}/driver_override"), "pci-stub\n");
    let address = at(NIC);
    let step = Step::SetOverride { address, from: None, to: Some("vfio-pci".into()) };
    let error = host.perform(&step).unwrap_err().to_string();
    assert!(error.contains("driver_override pci-stub"), "{error}");
    let kept = std::fs::read_to_string(fake.path(&format!("{nic}/driver_override"))).unwrap();
    assert_eq!(kept, "pci-stub\n");
    let error = host.perform(&unbind(NIC, "igb")).unwrap_err().to_string();
    assert!(error.contains("the host shows driver e1000e"), "{error}");
    // The group's number has changed.
    let (from, to) = (NodeAccess::KERNEL_DEFAULT, NodeAccess { uid: 5, gid: 5, mode: 0o600 });
    let step = Step::GrantGroup { address, group: 7, from, to };
    let error = host.perform(&step).unwrap_err().to_string();
    assert!(error.contains("in IOMMU group 2"), "{error}");
}

fn a_bind_that_does_not_take_is_an_error() {
    let fake = machine();
    let host = open(&fake);
    fake::kernel::set_driver(fake.root(), NIC, None);
    let address = at(NIC);
    let step = Step::Bind { address, driver: "vfio-pci".into() };
    let error = host.perform(&step).unwrap_err().to_string();
    assert!(error.contains("driver vfio-pci is not loaded; run `modprobe vfio_pci`"), "{error}");
    // The kernel's files accept everything and have no effect.
    fake.file("sys/bus/pci/drivers_probe", "").file("sys/bus/pci/drivers/vfio-pci/bind", "");
    let error = host.perform(&step).unwrap_err();
    assert!(matches!(error, HostError::Check { .. }), "{error}");
    assert_eq!(host.observe(&step).unwrap(), Observed::Before);
}

fn an_open_vfio_device_is_not_unbound() {
    let fake = machine();
    fake::kernel::set_driver(fake.root(), NIC, Some("vfio-pci"));
    fake.file("sys/bus/pci/drivers/vfio-pci/unbind", "");
    fake.virtual_device("virtual/vfio/2", "char", "241:2");
    fake.file("proc/4711/comm", "qemu-system-x86\n");
    fake.file("proc/4711/cgroup", "0::/system.slice/libvirtd.service\n");
    fake.link("proc/4711/fd/12", "/dev/vfio/2");
    let error = open(&fake).perform(&unbind(NIC, "vfio-pci")).unwrap_err().to_string();
    let why = "qemu-system-x86 (pid 4711, libvirtd.service) has /dev/vfio/2 open; stop it first";
    assert!(error.contains(why), "{error}");
    let written = std::fs::read(fake.path("sys/bus/pci/drivers/vfio-pci/unbind")).unwrap();
    assert_eq!(written, b"");
}

fn an_nvidia_gpu_in_use_is_not_unbound() {
    let fake = machine();
    let gpu = "0000:00:04.0";
    fake.function(gpu, "10de:20b0", "030200").group(4).driver("nvidia");
    fake.animate(&["nvidia"], "nvidia");
    let card = format!("proc/driver/nvidia/gpus/{gpu}");
    fake.file(&format!("{card}/information"), "Device Minor: \t 0\n");
    fake.file("proc/99/comm", "nvidia-persiste\n").file("proc/99/maps", "");
    fake.link("proc/99/fd/3", "/dev/nvidia0");
    // A lock that cannot be written, like one that stays 0 while the GPU is in use.
    std::fs::create_dir(fake.path(&format!("{card}/unbindLock"))).unwrap();
    let host = open(&fake);
    let error = host.perform(&unbind(gpu, "nvidia")).unwrap_err().to_string();
    assert!(error.contains("GPU is in use by nvidia-persiste (pid 99)"), "{error}");
    assert_eq!(host.observe(&unbind(gpu, "nvidia")).unwrap(), Observed::Before);
    std::fs::remove_dir(fake.path(&format!("{card}/unbindLock"))).unwrap();
    fake.file(&format!("{card}/unbindLock"), "0\n");
    host.perform(&unbind(gpu, "nvidia")).unwrap();
    assert_eq!(std::fs::read_to_string(fake.path(&format!("{card}/unbindLock"))).unwrap(), "1");
}

fn a_function_that_is_gone_is_reported() {
    let fake = machine();
    let host = open(&fake);
    let address = at("0000:7f:00.0");
    let step = Step::Unbind { address, driver: "e1000e".into() };
    assert_eq!(host.observe(&step).unwrap(), Observed::Absent);
    assert_eq!(host.perform(&step).unwrap_err(), HostError::Gone { address });
    assert_eq!(host.as_found(&[address]).unwrap_err(), HostError::Gone { address });
}

fn thousands_of_functions_can_be_requested() {
    let fake = machine();
    fake.virtual_device("virtual/vfio/3", "char", "241:3");
    fake.file("proc/4711/comm", "qemu-system-x86\n");
    fake.file("proc/4711/stat", "4711 (a b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 77 0 0\n");
    fake.link("proc/4711/fd/12", "/dev/vfio/3");
    let other = |n: u32| at(&format!("0001:{:02x}:{:02x}.{}", n >> 8, n >> 3 & 0x1f, n & 7));
    let mut all: Vec<Address> = (0..8000).map(other).collect();
    all.push(at(DISK));
    let holders = open(&fake).holders(&all).unwrap();
    assert_eq!(holders.len(), 1);
    let holder = &holders[0];
    assert_eq!((holder.address, holder.pid, holder.started), (at(DISK), Some(4711), Some(77)));
    assert_eq!(holder.program.as_deref(), Some("qemu-system-x86"));
}

fn modules_wait_for_virtual_functions() {
    let fake = machine();
    fake.file("sys/module/vfio_pci/initstate", "live\n");
    fake.file("sys/module/igb/initstate", "coming\n");
    let host = open(&fake);
    let load = |module: &str| host.perform(&Step::LoadModule { module: module.into() });
    // Held by a worker, for instance while it creates virtual functions.
    let locks = host::Locks::new(fake.path("run/locks"));
    let held = locks.take(&Lock::Host).unwrap().unwrap();
    load("vfio_pci").unwrap();
    thread::scope(|scope| {
        let load = &load;
        let [new, coming] = ["vfio_iommu_type1", "igb"].map(|name| scope.spawn(move || load(name)));
        thread::sleep(Duration::from_secs(2));
        assert!(!new.is_finished() && !coming.is_finished());
        drop(held);
        let error = new.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("is not the running system"), "{error}");
        coming.join().unwrap().unwrap();
    });
}

fn a_reader_changes_nothing() {
    let fake = machine();
    let host = LinuxHost::reader(fake.root()).unwrap();
    let error = host.perform(&unbind(NIC, "e1000e")).unwrap_err();
    assert!(matches!(error, HostError::Worker { .. }), "{error}");
    assert!(!fake.path("run").exists());
}

fn names_lead_no_path_astray() {
    let fake = machine();
    let host = open(&fake);
    for name in ["../../../../etc", "", ".", "-f", "a b", "a\nb"] {
        fake::kernel::set_driver(fake.root(), NIC, None);
        let step = Step::Bind { address: at(NIC), driver: name.into() };
        let error = host.perform(&step).unwrap_err().to_string();
        assert!(error.contains("cannot be the name of a driver"), "{error}");
    }
}

/// A worker that hangs when it reads the disk, as if a read of `config` never returned.
fn stubborn() -> ExitCode {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
    let (ours, its) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let stdin = std::io::stdin();
    let executable = std::env::current_exe().unwrap();
    let mut worker =
        Command::new(executable).arg("worker").stdin(Stdio::from(its)).spawn().unwrap();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let (_, received) = rustix::net::recv(&stdin, &mut bytes, RecvFlags::empty()).unwrap();
        let request = &bytes[..received];
        if request.is_empty() {
            break;
        }
        if String::from_utf8_lossy(request).contains(DISK) {
            // Until the test is over.
            while rustix::net::recv(&stdin, &mut bytes, RecvFlags::empty()).unwrap().1 > 0 {}
            break;
        }
        rustix::net::send(&ours, request, SendFlags::empty()).unwrap();
        let (_, received) = rustix::net::recv(&ours, &mut bytes, RecvFlags::empty()).unwrap();
        rustix::net::send(&stdin, &bytes[..received], SendFlags::empty()).unwrap();
    }
    drop(ours);
    worker.wait().unwrap();
    ExitCode::SUCCESS
}

fn a_device_that_hangs_hides_no_other() {
    let fake = machine();
    let mut config = config(&fake);
    config.workers.command.args = vec!["stubborn".into()];
    let host = LinuxHost::new(config).unwrap();
    let inventory = host.detail(None).unwrap();
    let notes = |address: &str| inventory.function(address.parse().unwrap()).unwrap().notes.clone();
    assert_eq!(notes(NIC), [""; 0]);
    let note = "timed out after 2 s while reading detail: the driver does not answer";
    assert_eq!(notes(DISK), [note]);
    // A listing does not need it.
    assert!(host.inventory().unwrap().functions.values().all(|function| function.notes.is_empty()));
}
