//! The contract of a launcher, with the fake QEMU.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use model::{
    DiskFormat, DiskUsage, Execution, Exit, Halt, LaunchError, Launcher, MachineDisk,
    MachineHandle, MachineRun, MachineSpec, Presence, VmmProcess,
};
use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::bench::{Bench, machine, machine_uid, machine_with_device};

macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($name), || { $name(); Ok(()) })),*]
    };
}
pub(crate) use trials;

pub fn all() -> Vec<Trial> {
    trials![
        a_machine_runs_as_a_stranger,
        a_machine_is_shut_down_then_killed,
        a_paused_machine_is_resumed_before_it_is_shut_down,
        a_guest_that_its_vmm_has_stopped_tells_why,
        a_running_machine_tells_what_it_uses,
        a_killed_machine_is_gone_and_can_be_killed_again,
        all_waiters_learn_that_a_machine_has_exited,
        a_machine_outlives_its_daemon_and_is_found_again,
        a_machine_whose_daemon_was_killed_while_starting_it_is_found,
        a_refusal_to_start_is_explained,
        a_machine_with_a_device_may_lock_its_memory,
        a_machine_without_its_devices_is_not_left_running,
        a_machine_is_not_started_twice,
        a_stopped_machine_starts_again,
        a_reused_pid_is_not_signalled,
        a_held_lock_without_a_process_is_not_taken_for_dead,
        files_are_made_once_and_removed_when_the_machine_is_gone,
        a_directory_in_the_way_is_named,
        a_qemu_that_is_there_is_available,
        the_launcher_takes_no_orders_from_a_person,
        a_machine_whose_run_directory_was_removed_is_still_found,
        a_link_in_the_place_of_a_file_is_not_followed,
        a_console_that_is_too_long_is_emptied,
        a_control_group_is_removed_after_an_unobserved_exit,
    ]
}

fn started(bench: &Bench, name: &str) -> (MachineSpec, MachineHandle) {
    let spec = machine(name);
    bench.qemu.create_files(&spec).unwrap();
    let handle = bench.qemu.launch(&spec).unwrap();
    (spec, handle)
}

/// Kills the VMM from outside, as a person or the kernel does.
pub fn kill_9(handle: &MachineHandle) {
    let pid = i32::try_from(handle.pid().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn a_machine_runs_as_a_stranger() {
    let bench = Bench::new();
    let (spec, handle) = started(&bench, "good");
    assert_eq!(bench.qemu.find(spec.id), Presence::Running(handle.clone()));
    let pid = handle.pid().unwrap();
    if rustix::process::getuid().is_root() {
        let uid = machine_uid();
        let four = format!("{uid} {uid} {uid} {uid}");
        assert_eq!((status(pid, "Uid"), status(pid, "Gid")), (four.clone(), four));
        // KVM's group at most.
        assert!(!status(pid, "Groups").split(' ').any(|group| group == "0"));
        assert_eq!(status(pid, "CapPrm").trim_start_matches('0'), "");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    let session =
        rustix::process::getsid(rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()));
    assert_eq!(session.unwrap().as_raw_nonzero().get(), i32::try_from(pid).unwrap());
    let monitor = fs::metadata(bench.path().join(format!("run/machines/{}", spec.id))).unwrap();
    assert_eq!(
        (monitor.mode() & 0o777, monitor.uid()),
        (0o700, rustix::process::getuid().as_raw())
    );
}

fn a_machine_is_shut_down_then_killed() {
    for (name, code) in [("good", 0), ("deaf", 3)] {
        let bench = Bench::new();
        let (spec, handle) = started(&bench, name);
        let exit = bench.qemu.shut_down(spec.id, Duration::from_millis(200)).unwrap().exit;
        assert_eq!(exit, Exit { code: Some(code) }, "{name}");
        assert_eq!(bench.qemu.find(spec.id), Presence::Gone);
        assert_eq!(bench.qemu.wait(&handle).unwrap(), exit, "it is still known how it ended");
        assert!(bench.qemu.shut_down(spec.id, Duration::ZERO).is_ok());
    }
}

fn a_paused_machine_is_resumed_before_it_is_shut_down() {
    let bench = Bench::new();
    let (spec, _) = started(&bench, "good");
    for _ in 0..2 {
        assert_eq!(bench.qemu.pause(spec.id).unwrap(), Execution::Paused);
    }
    assert_eq!(bench.restarted().execution(spec.id).unwrap(), Execution::Paused);
    for _ in 0..2 {
        assert_eq!(bench.qemu.resume(spec.id).unwrap(), Execution::Running);
    }
    bench.qemu.pause(spec.id).unwrap();
    let exit = bench.qemu.shut_down(spec.id, Duration::from_secs(30)).unwrap().exit;
    assert_eq!(exit, Exit { code: Some(0) }, "it heard the power button");
    assert!(bench.qemu.pause(spec.id).is_err() && bench.qemu.execution(spec.id).is_err());
}

fn a_guest_that_its_vmm_has_stopped_tells_why() {
    for (name, halt, code) in [("full", Halt::DiskFull, 3), ("broken", Halt::InternalError, 3)] {
        let bench = Bench::new();
        let (spec, _) = started(&bench, name);
        assert_eq!(bench.qemu.execution(spec.id).unwrap(), Execution::Running);
        let halted = Execution::Halted(halt);
        assert_eq!(bench.qemu.pause(spec.id).unwrap(), halted, "{name}");
        assert_eq!(bench.qemu.execution(spec.id).unwrap(), halted, "{name}");
        assert_eq!(bench.qemu.resume(spec.id).unwrap(), halted, "{name}");
        let exit = bench.qemu.shut_down(spec.id, Duration::from_millis(200)).unwrap().exit;
        assert_eq!(exit, Exit { code: Some(code) }, "{name}");
    }
}

fn a_running_machine_tells_what_it_uses() {
    let bench = Bench::new();
    let (spec, _) = started(&bench, "good");
    let usage = bench.qemu.usage(spec.id).unwrap();
    assert!(usage.resident > 0 && usage.address_space >= usage.resident, "{usage:?}");
    assert_eq!(usage.disks, Some(DiskUsage { read: 7, written: 8 }));
    assert_eq!(usage.network, None, "passt does not count");
    bench.qemu.kill(spec.id).unwrap();
    assert!(bench.qemu.usage(spec.id).is_err());
}

fn a_killed_machine_is_gone_and_can_be_killed_again() {
    let bench = Bench::new();
    let (spec, handle) = started(&bench, "good");
    bench.qemu.kill(spec.id).unwrap();
    assert_eq!(bench.qemu.find(spec.id), Presence::Gone);
    assert_eq!(bench.qemu.wait(&handle).unwrap(), Exit { code: Some(137) });
    bench.qemu.kill(spec.id).unwrap();
    bench.qemu.kill(Uuid::from_u128(99)).unwrap();
}

fn all_waiters_learn_that_a_machine_has_exited() {
    let bench = Bench::new();
    let (spec, handle) = started(&bench, "ends");
    let exits: Vec<Exit> = thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..3).map(|_| scope.spawn(|| bench.qemu.wait(&handle).unwrap())).collect();
        waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(exits, vec![Exit { code: Some(7) }; 3]);
    assert_eq!(bench.qemu.find(spec.id), Presence::Gone);
}

fn a_machine_outlives_its_daemon_and_is_found_again() {
    let bench = Bench::new();
    let spec = machine("good");
    let handle = bench.start_by_a_daemon_that_ends(&spec);
    let qemu = bench.restarted();
    assert_eq!(qemu.find(spec.id), Presence::Running(handle.clone()));
    assert!(qemu.launch(&spec).is_err(), "it runs already");
    let exit = thread::scope(|scope| {
        let waiting = scope.spawn(|| qemu.wait(&handle).unwrap());
        qemu.shut_down(spec.id, Duration::from_secs(30)).unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(exit, Exit { code: None }, "another's child tells us no status");
    assert_eq!(qemu.find(spec.id), Presence::Gone);
    qemu.remove_files(spec.id).unwrap();
    assert!(!bench.path().join(format!("run/machines/{}", spec.id)).exists());
}

fn a_machine_whose_daemon_was_killed_while_starting_it_is_found() {
    let bench = Bench::new();
    let spec = machine("mute");
    let mut daemon = bench.daemon(&spec).spawn().unwrap();
    let handle = loop {
        if let Presence::Running(handle) = bench.qemu.find(spec.id) {
            break handle;
        }
        assert_eq!(daemon.try_wait().unwrap(), None, "it waits for the monitor");
        thread::sleep(Duration::from_millis(5));
    };
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(bench.qemu.find(spec.id), Presence::Running(handle));
    bench.qemu.kill(spec.id).unwrap();
    assert_eq!(bench.qemu.find(spec.id), Presence::Gone);
}

fn a_refusal_to_start_is_explained() {
    let bench = Bench::new();
    let spec = machine("refuses");
    bench.qemu.create_files(&spec).unwrap();
    let error = bench.qemu.launch(&spec).unwrap_err();
    let LaunchError::Start { reason } = &error else { panic!("{error:?}") };
    assert!(reason.starts_with("vfio 0000:01:00.0: group 12 is not viable"), "{reason}");
    assert!(reason.contains("another driver"), "{reason}");
    assert_eq!(bench.qemu.find(spec.id), Presence::Gone);
}

fn a_machine_with_a_device_may_lock_its_memory() {
    let bench = Bench::new();
    let Some(spec) = machine_with_device("good") else { return };
    bench.qemu.create_files(&spec).unwrap();
    let handle = bench.qemu.launch(&spec).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", handle.pid().unwrap())).unwrap();
    let memlock = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap();
    let soft = memlock.split_whitespace().nth(3).unwrap();
    assert!(
        soft == "unlimited" || soft.parse::<u64>().unwrap() > spec.memory + (1 << 30),
        "{memlock}"
    );
}

fn a_machine_without_its_devices_is_not_left_running() {
    let bench = Bench::new();
    let base = bench.path().join("base");
    fs::write(&base, [0; 512]).unwrap();
    let disk = MachineDisk { base, format: DiskFormat::Raw, size: None };
    let spec = MachineSpec { disk: Some(disk), ..machine("short") };
    bench.qemu.create_files(&spec).unwrap();
    let error = bench.qemu.launch(&spec).unwrap_err().to_string();
    assert!(error.contains("disk0"), "{error}");
    assert_eq!(bench.qemu.find(spec.id), Presence::Gone);
}

fn a_machine_is_not_started_twice() {
    let bench = Bench::new();
    let (spec, handle) = started(&bench, "good");
    let error = bench.qemu.launch(&spec).unwrap_err().to_string();
    assert!(error.contains(&handle.pid().unwrap().to_string()), "{error}");
    assert_eq!(bench.qemu.find(spec.id), Presence::Running(handle), "the first is undisturbed");
}

fn a_stopped_machine_starts_again() {
    let bench = Bench::new();
    let (spec, first) = started(&bench, "good");
    bench.qemu.shut_down(spec.id, Duration::from_secs(30)).unwrap();
    let second = bench.qemu.launch(&spec).unwrap();
    assert_ne!(first.run, second.run);
    assert_eq!(bench.qemu.find(spec.id), Presence::Running(second));
}

/// Puts the record of a process that has `pid` but started at another time.
fn put_stale_record(bench: &Bench, id: Uuid, pid: u32) {
    let dir = bench.path().join(format!("run/machines/{id}"));
    fs::create_dir_all(&dir).unwrap();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let run = MachineRun::Process(VmmProcess { pid, start_time: 1 });
    let handle = MachineHandle { id, run, boot_id: boot_id.trim().into() };
    fs::write(dir.join("pid"), serde_json::to_vec(&handle).unwrap()).unwrap();
    fs::write(dir.join("lock"), "").unwrap();
}

fn a_reused_pid_is_not_signalled() {
    let bench = Bench::new();
    let mut innocent = Command::new("sleep").arg("600").spawn().unwrap();
    let id = machine("").id;
    put_stale_record(&bench, id, innocent.id());
    assert_eq!(bench.qemu.find(id), Presence::Gone);
    bench.qemu.kill(id).unwrap();
    bench.qemu.shut_down(id, Duration::ZERO).unwrap();
    assert_eq!(innocent.try_wait().unwrap(), None, "it still runs");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

fn a_held_lock_without_a_process_is_not_taken_for_dead() {
    let bench = Bench::new();
    let mut innocent = Command::new("sleep").arg("600").spawn().unwrap();
    let spec = machine("good");
    bench.qemu.create_files(&spec).unwrap();
    put_stale_record(&bench, spec.id, innocent.id());
    let lock = File::open(bench.path().join(format!("run/machines/{}/lock", spec.id))).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    assert!(matches!(bench.qemu.find(spec.id), Presence::Unknown(_)));
    assert!(bench.qemu.kill(spec.id).is_err() && bench.qemu.remove_files(spec.id).is_err());
    assert!(bench.qemu.launch(&spec).is_err());
    assert_eq!(innocent.try_wait().unwrap(), None, "it still runs");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
    drop(lock);
    bench.qemu.remove_files(spec.id).unwrap();
}

fn files_are_made_once_and_removed_when_the_machine_is_gone() {
    let bench = Bench::new();
    let base = bench.path().join("base,image");
    fs::write(&base, [0; 512]).unwrap();
    let disk = MachineDisk { base, format: DiskFormat::Raw, size: Some(1000) };
    let spec = MachineSpec { disk: Some(disk), ..machine("good") };
    bench.qemu.create_files(&spec).unwrap();
    let dir = bench.path().join(format!("state/machines/{}", spec.id));
    let layer = dir.join("disk.qcow2");
    let asked = fs::read_to_string(&layer).unwrap();
    let top = bench.path().display();
    assert_eq!(
        asked.trim(),
        format!(
            "create -q -f qcow2 -F raw -b {top}/base,image {}/disk.unfinished 1024",
            dir.display()
        )
    );
    for file in [layer.clone(), bench.qemu.console(spec.id)] {
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.mode() & 0o777),
            (spec.uid, 0o600),
            "{}",
            file.display()
        );
    }
    fs::write(&layer, "the guest's own").unwrap();
    bench.qemu.create_files(&spec).unwrap();
    assert_eq!(fs::read_to_string(&layer).unwrap(), "the guest's own", "made once");
    bench.qemu.launch(&spec).unwrap();
    assert!(bench.qemu.remove_files(spec.id).is_err(), "not while it runs");
    bench.qemu.kill(spec.id).unwrap();
    for _ in 0..2 {
        bench.qemu.remove_files(spec.id).unwrap();
        assert!(!dir.exists());
    }
}

fn a_directory_in_the_way_is_named() {
    if !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: without root there is no other user to be kept out");
        return;
    }
    let bench = Bench::new();
    let spec = machine("good");
    bench.qemu.create_files(&spec).unwrap();
    let state = bench.path().join("state");
    fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
    let error = bench.qemu.launch(&spec).unwrap_err().to_string();
    assert!(error.contains(&format!("chmod o+x {}", state.display())), "{error}");
}

fn a_qemu_that_is_there_is_available() {
    let bench = Bench::new();
    let availability = bench.qemu.availability();
    assert!(availability.available);
    assert_eq!(availability.version.as_deref(), Some("9.9.9"));
    fs::remove_file(bench.path().join("qemu-system-x86_64")).unwrap();
    let availability = bench.qemu.availability();
    assert!(!availability.available);
    assert!(availability.reason.unwrap().contains("apt install qemu-system-x86"));
}

fn the_launcher_takes_no_orders_from_a_person() {
    let launch = |order: &str| {
        let bench = Bench::new();
        let path = bench.path().join("order");
        fs::write(&path, order).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .arg("launch")
            .stdin(File::open(&path).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(126));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(launch("").contains("the daemon starts this command"));
    let order = serde_json::json!({
        "id": Uuid::nil(), "root": "/", "run_dir": "/nowhere", "uid": 0, "groups": [],
        "memlock": null, "program": "/bin/true", "args": [],
    });
    assert!(launch(&order.to_string()).contains("never runs as root"));
}

pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn a_machine_whose_run_directory_was_removed_is_still_found() {
    let bench = Bench::new();
    let (spec, handle) = started(&bench, "good");
    fs::remove_dir_all(bench.path().join("run")).unwrap();
    assert_eq!(bench.qemu.find(spec.id), Presence::Running(handle.clone()));
    assert!(bench.qemu.launch(&spec).is_err(), "it runs already");
    // The next daemon knows only what is in the directory.
    let qemu = bench.restarted();
    thread::scope(|scope| {
        scope.spawn(|| bench.qemu.wait(&handle).unwrap());
        let found = Presence::Running(handle.clone());
        eventually("its record is there again", || qemu.find(spec.id) == found);
        assert!(qemu.launch(&spec).is_err(), "it runs already");
        qemu.kill(spec.id).unwrap();
    });
    assert_eq!(qemu.find(spec.id), Presence::Gone);
    qemu.remove_files(spec.id).unwrap();
}

fn a_link_in_the_place_of_a_file_is_not_followed() {
    let bench = Bench::new();
    let spec = machine("good");
    let victim = bench.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    fs::set_permissions(&victim, Permissions::from_mode(0o644)).unwrap();
    let is_untouched = || {
        let metadata = fs::metadata(&victim).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o644);
        assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
    };
    let refused = |result: Result<(), LaunchError>| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        is_untouched();
    };
    let console = bench.qemu.console(spec.id);
    fs::create_dir_all(console.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&victim, &console).unwrap();
    refused(bench.qemu.create_files(&spec));
    fs::remove_file(&console).unwrap();
    bench.qemu.create_files(&spec).unwrap();
    let run = bench.path().join(format!("run/machines/{}", spec.id));
    fs::create_dir_all(&run).unwrap();
    std::os::unix::fs::symlink(&victim, run.join("lock")).unwrap();
    let error = bench.qemu.launch(&spec).unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
    is_untouched();
}

fn a_console_that_is_too_long_is_emptied() {
    let bench = Bench::new();
    let spec = machine("good");
    let handle = bench.start_by_a_daemon_that_ends(&spec);
    let qemu = bench.restarted();
    let console = qemu.console(spec.id);
    let guest = File::options().append(true).open(&console).unwrap();
    let length = || fs::metadata(&console).unwrap().len();
    guest.set_len(65 << 20).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| qemu.wait(&handle).unwrap());
        eventually("it is emptied when it is found", || length() == 0);
        (&guest).write_all(b"login: ").unwrap();
        assert_eq!(fs::read(&console).unwrap(), b"login: ", "the guest writes at the new end");
        guest.set_len(65 << 20).unwrap();
        eventually("it is emptied while the machine runs", || length() == 0);
        guest.set_len(64 << 20).unwrap();
        qemu.shut_down(spec.id, Duration::from_secs(30)).unwrap();
    });
    assert_eq!(length(), 64 << 20, "what is not too long is left alone");
}

fn a_control_group_is_removed_after_an_unobserved_exit() {
    let bench = Bench::new();
    let (spec, handle) = started(&bench, "good");
    let record = bench.path().join(format!("run/machines/{}/pid", spec.id));
    let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let Some(group) = record["cgroup"].as_str().map(Path::new).filter(|group| group.exists())
    else {
        eprintln!("SKIPPED: no control groups can be made here");
        return;
    };
    let own = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    assert_eq!(own.trim(), handle.pid().unwrap().to_string());
    kill_9(&handle);
    let qemu = bench.restarted();
    eventually("it ends", || qemu.find(spec.id) == Presence::Gone);
    assert!(group.exists());
    qemu.remove_files(spec.id).unwrap();
    assert!(!group.exists());
}
