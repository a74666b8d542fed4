//! The contract of a launcher, with a VMM that implements only the trait.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use model::{Exit, LaunchError, Launcher, MachineHandle, MachineSpec, Presence};
use tempfile::TempDir;
use vmm::process::ProcessLauncher;

use crate::bench::{self, daemon_process, launcher, machine, machine_uid, started_by, top};
use crate::tiny::Tiny;
use crate::trials::{eventually, kill_9, status, trials};

pub fn all() -> Vec<Trial> {
    trials![
        a_second_vmm_runs_a_machine_from_start_to_end,
        a_second_vmm_is_terminated_if_its_guest_ignores_the_shutdown,
        a_second_vmm_outlives_its_daemon_and_is_adopted,
        a_second_vmm_whose_daemon_was_killed_while_starting_it_is_found,
        a_second_vmm_that_is_killed_is_gone_and_starts_again,
        a_second_vmm_says_why_it_did_not_start,
        a_vmm_without_a_control_socket_can_be_killed,
        a_machine_with_a_helper_that_requires_it_cannot_reach_loopback,
    ]
}

struct Bench {
    top: TempDir,
    launcher: ProcessLauncher<Tiny>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Tiny::in_dir)
    }

    fn with(tiny: impl Fn(&Path) -> Tiny) -> Self {
        let top = top();
        Tiny::install(top.path());
        Self { launcher: launcher(top.path(), tiny(top.path())), top }
    }

    fn started(&self, name: &str) -> (MachineSpec, MachineHandle) {
        let spec = machine(name);
        self.launcher.create_files(&spec).unwrap();
        let handle = self.launcher.launch(&spec).unwrap();
        (spec, handle)
    }

    /// The launcher of a daemon that was started again.
    fn restarted(&self) -> ProcessLauncher<Tiny> {
        launcher(self.top.path(), Tiny::in_dir(self.top.path()))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        bench::kill_all(self.top.path(), &self.launcher);
    }
}

fn a_second_vmm_runs_a_machine_from_start_to_end() {
    let bench = Bench::new();
    assert_eq!(bench.launcher.name(), "tiny");
    assert!(bench.launcher.availability().available);
    let (spec, handle) = bench.started("good");
    assert_eq!(bench.launcher.find(spec.id), Presence::Running(handle.clone()));
    let pid = handle.pid().unwrap();
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    if rustix::process::getuid().is_root() {
        let uid = machine_uid();
        assert_eq!(status(pid, "Uid"), format!("{uid} {uid} {uid} {uid}"));
    }
    let console = fs::read_to_string(bench.launcher.console(spec.id)).unwrap();
    assert_eq!(console, "the guest of good is there\n");
    let files = bench.top.path().join(format!("state/machines/{}", spec.id));
    assert!(files.join("tiny.log").exists());
    assert!(bench.launcher.launch(&spec).is_err(), "it runs already");
    let exit = bench.launcher.shut_down(spec.id, Duration::from_secs(30)).unwrap().exit;
    assert_eq!(exit, Exit { code: Some(0) });
    assert_eq!(bench.launcher.find(spec.id), Presence::Gone);
    bench.launcher.remove_files(spec.id).unwrap();
    assert!(!files.exists());
}

fn a_second_vmm_is_terminated_if_its_guest_ignores_the_shutdown() {
    let bench = Bench::new();
    let (spec, handle) = bench.started("deaf");
    let exit = bench.launcher.shut_down(spec.id, Duration::from_millis(200)).unwrap().exit;
    assert_eq!(exit, Exit { code: Some(3) });
    assert_eq!(bench.launcher.wait(&handle).unwrap(), exit);
}

fn a_second_vmm_outlives_its_daemon_and_is_adopted() {
    let bench = Bench::new();
    let spec = machine("good");
    let handle = started_by(daemon_process("tiny", bench.top.path(), &spec));
    let launcher = bench.restarted();
    assert_eq!(launcher.find(spec.id), Presence::Running(handle.clone()));
    let exit = thread::scope(|scope| {
        let waiting = scope.spawn(|| launcher.wait(&handle).unwrap());
        launcher.shut_down(spec.id, Duration::from_secs(30)).unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(exit, Exit { code: None }, "another's child tells us no status");
    assert_eq!(launcher.find(spec.id), Presence::Gone);
}

fn a_second_vmm_whose_daemon_was_killed_while_starting_it_is_found() {
    let bench = Bench::new();
    let spec = machine("mute");
    let mut daemon = daemon_process("tiny", bench.top.path(), &spec).spawn().unwrap();
    eventually("it is found", || {
        assert_eq!(daemon.try_wait().unwrap(), None, "it waits for the VMM");
        matches!(bench.launcher.find(spec.id), Presence::Running(_))
    });
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(matches!(bench.launcher.find(spec.id), Presence::Running(_)));
    bench.launcher.kill(spec.id).unwrap();
    assert_eq!(bench.launcher.find(spec.id), Presence::Gone);
}

fn a_second_vmm_that_is_killed_is_gone_and_starts_again() {
    let bench = Bench::new();
    let (spec, first) = bench.started("good");
    kill_9(&first);
    assert_eq!(bench.launcher.wait(&first).unwrap(), Exit { code: Some(137) });
    assert_eq!(bench.launcher.find(spec.id), Presence::Gone);
    let second = bench.launcher.launch(&spec).unwrap();
    assert_ne!(first.run, second.run);
    bench.launcher.kill(spec.id).unwrap();
    assert_eq!(bench.launcher.wait(&second).unwrap(), Exit { code: Some(137) });
    assert_eq!(bench.launcher.find(spec.id), Presence::Gone);
}

fn a_second_vmm_says_why_it_did_not_start() {
    let bench = Bench::new();
    let spec = machine("refuses");
    bench.launcher.create_files(&spec).unwrap();
    let error = bench.launcher.launch(&spec).unwrap_err();
    let reason = "tiny-vmm says: there is no such device".into();
    assert_eq!(error, LaunchError::Start { reason });
    assert_eq!(bench.launcher.find(spec.id), Presence::Gone);
}

fn a_vmm_without_a_control_socket_can_be_killed() {
    let bench = Bench::with(Tiny::without_control);
    let (spec, handle) = bench.started("good");
    assert_eq!(bench.launcher.find(spec.id), Presence::Running(handle.clone()));
    let socket = bench.top.path().join(format!("run/machines/{}/monitor", spec.id));
    assert!(!socket.exists());
    bench.launcher.kill(spec.id).unwrap();
    assert_eq!(bench.launcher.wait(&handle).unwrap(), Exit { code: Some(137) });
}

fn a_machine_with_a_helper_that_requires_it_cannot_reach_loopback() {
    let bench = Bench::new();
    let spec = machine("closed");
    bench.launcher.create_files(&spec).unwrap();
    match bench.launcher.launch(&spec) {
        Ok(_) => {
            let console = fs::read_to_string(bench.launcher.console(spec.id)).unwrap();
            assert!(console.contains("loopback is closed"), "{console}");
        }
        // Where there are no cgroups or no BPF.
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("cannot keep the guest from this host's loopback"), "{error}");
            assert_eq!(bench.launcher.find(spec.id), Presence::Gone);
        }
    }
}
