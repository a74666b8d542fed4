//! The agents in guests. The simulated one is a stand-in: it runs no program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use engine::guest_agent::{self, AgentError, Channel, GuestCommand, GuestExit};
use engine::{Engine, GuestProcess};
use model::{Code, Halt, Launcher, Refusal};
use sim::SimAgent;
use support::{Rig, wish};

fn command(words: &[&str]) -> GuestCommand {
    let words = words.iter().map(|&word| word.to_owned()).collect();
    GuestCommand { words, ..GuestCommand::default() }
}

fn run(engine: &Engine, words: &[&str]) -> Result<GuestProcess, Refusal> {
    engine.instances().run_in_guest("vm", &command(words))
}

fn end(engine: &Engine, words: &[&str]) -> GuestExit {
    let process = run(engine, words).unwrap();
    engine.instances().guest_exit(&process).unwrap().unwrap()
}

/// A machine whose guest runs an agent.
fn with_agent(rig: &Rig) -> (Engine, uuid::Uuid) {
    let (engine, _) = rig.open_recovered();
    let id = engine.instances().create(wish("vm", &[])).unwrap().id;
    rig.launcher.set_agent(id, Some(SimAgent::default()));
    (engine, id)
}

#[test]
fn a_command_runs_and_tells_how_it_ended() {
    let rig = Rig::ready();
    let (engine, _) = with_agent(&rig);
    assert_eq!(end(&engine, &["true"]).status, Some(0));
    let warned = end(&engine, &["warn"]);
    assert_eq!(
        (warned.status, warned.stdout, warned.stderr),
        (Some(3), b"no".into(), b"warned".into())
    );
    assert!(warned.stderr_truncated && !warned.stdout_truncated);
    assert_eq!(end(&engine, &["segfault"]).signal, Some(11));
    let input = GuestCommand { input: b"\0\xff".into(), ..command(&["cat"]) };
    let process = engine.instances().run_in_guest("vm", &input).unwrap();
    let told = engine.instances().guest_exit(&process).unwrap().unwrap();
    assert_eq!(told.stdout, b"\0\xff");

    let endless = run(&engine, &["yes"]).unwrap();
    assert_eq!(engine.instances().guest_exit(&endless).unwrap(), None);
    assert_eq!(end(&engine, &["false"]).status, Some(1), "beside another one");
}

#[test]
fn a_guest_without_an_agent_is_told_with_what_to_do() {
    let rig = Rig::ready();
    let (engine, _) = rig.open_recovered();
    assert_eq!(run(&engine, &["true"]).unwrap_err().code, Code::NotFound);
    let instance = engine.instances().create(wish("vm", &[])).unwrap();
    let begun = Instant::now();
    let refusal = run(&engine, &["true"]).unwrap_err();
    assert_eq!(refusal.code, Code::AgentSilent, "{refusal}");
    assert!(refusal.remedy.contains("apt install qemu-guest-agent"), "{refusal:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(engine.instances().guest_interfaces(&instance).is_empty());
    rig.launcher.set_halted(instance.id, Some(Halt::DiskFull));
    let refusal = run(&engine, &["true"]).unwrap_err();
    assert!(refusal.message.contains("no space left"), "{refusal}");
}

#[test]
fn what_the_guest_does_not_allow_or_have_is_told() {
    let rig = Rig::ready();
    let (engine, id) = with_agent(&rig);
    let refusal = run(&engine, &["nvidia-smi"]).unwrap_err();
    assert_eq!(refusal.code, Code::AgentRefused);
    assert!(refusal.message.contains("nvidia-smi"), "{refusal}");
    rig.launcher.set_agent(id, Some(SimAgent::without("guest-exec")));
    let refusal = run(&engine, &["true"]).unwrap_err();
    assert!(refusal.message.contains("does not allow `guest-exec`"), "{refusal}");
    assert!(refusal.remedy.contains("/etc/sysconfig/qemu-ga"), "{refusal:?}");
    engine.instances().pause("vm").unwrap();
    let refusal = run(&engine, &["true"]).unwrap_err();
    assert!(refusal.remedy.contains("handover instance resume vm"), "{refusal:?}");
    engine.instances().stop("vm").unwrap();
    assert_eq!(run(&engine, &["true"]).unwrap_err().code, Code::InvalidState);
}

#[test]
fn an_agent_that_stops_answering_is_not_asked_twice() {
    let rig = Rig::ready();
    let (engine, id) = with_agent(&rig);
    let process = run(&engine, &["yes"]).unwrap();
    rig.launcher.kill(id).unwrap();
    let refusal = engine.instances().guest_exit(&process).unwrap_err();
    assert_eq!(refusal.code, Code::AgentLost, "{refusal}");
    assert!(refusal.message.contains("as process 1 of the guest"), "{refusal}");
}

#[test]
fn machines_of_earlier_versions_have_no_port_for_an_agent() {
    let rig = Rig::ready();
    let (engine, _) = with_agent(&rig);
    let store = rusqlite::Connection::open(rig.config().state_dir.join("state.db")).unwrap();
    store.execute("UPDATE instances SET options = json_remove(options, '$.agent')", []).unwrap();
    let refusal = run(&engine, &["true"]).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState);
    assert!(refusal.message.contains("an earlier version created it"), "{refusal}");
}

#[test]
fn passwords_and_addresses_go_through_the_agent() {
    let rig = Rig::ready();
    let (engine, id) = with_agent(&rig);
    let agent = SimAgent::default();
    rig.launcher.set_agent(id, Some(agent.clone()));
    engine.instances().set_guest_password("vm", "root", "$6$a$b").unwrap();
    assert_eq!(agent.passwords(), [("root".to_owned(), "JDYkYSRi".to_owned())]);
    let refusal = engine.instances().set_guest_password("vm", "none", "$6$a$b").unwrap_err();
    assert_eq!(refusal.code, Code::AgentRefused);
    let instance = engine.instances().find("vm").unwrap();
    let found = engine.instances().guest_interfaces(&instance);
    assert_eq!(found[0].mac.as_deref(), Some("52:54:00:00:00:01"));
    assert_eq!(found[0].addresses, ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
}

/// qemu-guest-agent itself, if it is installed, on a socket of its own and without a guest.
#[test]
fn the_real_agent_understands_the_requests() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent");
    let agent = std::process::Command::new("qemu-ga")
        .args(["-m", "unix-listen", "-p"])
        .arg(&path)
        .arg("-t")
        .arg(dir.path())
        .stderr(std::process::Stdio::null())
        .spawn();
    let Ok(mut agent) = agent else {
        println!("SKIPPED: qemu-guest-agent is not installed");
        return;
    };
    let until = Instant::now() + Duration::from_secs(30);
    let stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut channel = Channel::begin(stream, 7, until).unwrap();
    let mut end = |command: &GuestCommand| {
        let pid = guest_agent::run(&mut channel, command, until).unwrap();
        loop {
            if let Some(exit) = guest_agent::exited(&mut channel, pid, until).unwrap() {
                return exit;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let script = "cat; echo \"$A\" >&2; exit 7";
    let environment = vec!["A=b c".to_owned()];
    let command =
        GuestCommand { input: b"\0\xff".into(), environment, ..command(&["sh", "-c", script]) };
    let exit = end(&command);
    assert_eq!(
        (exit.status, exit.stdout, exit.stderr),
        (Some(7), b"\0\xff".into(), b"b c\n".into())
    );
    assert_eq!(end(&self::command(&["sh", "-c", "kill -9 $$"])).signal, Some(9));
    let missing = guest_agent::run(&mut channel, &self::command(&["/no/such/program"]), until);
    assert!(matches!(missing, Err(AgentError::Refused { is_unknown: false, .. })), "{missing:?}");
    guest_agent::interfaces(&mut channel, until).unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
}
