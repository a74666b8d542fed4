//! Tests of the map as a lock, with their own names.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;

/// The environment variables of a second process, which holds a lock or races for it.
const NAME: &str = "HANDOVER_TEST_LOCK";
const WORK: &str = "HANDOVER_TEST_WORK";

/// A unique name for one test.
fn name() -> String {
    format!("hdtest{:08x}", Uuid::new_v4().as_u128() as u32)
}

fn record(state_dir: &str) -> Record {
    Record::of_this_process(Path::new(state_dir))
}

/// Whether maps can be created here; prints the reason if not.
fn possible() -> bool {
    match take(&name(), &record("/")) {
        Err(Failure::Unavailable(errno)) => {
            println!("SKIPPED: bpf(2) is refused here ({errno}); run it as root");
            false
        }
        _ => true,
    }
}

fn held_by(taken: Result<MapLock, Failure>) -> LockHolder {
    match taken {
        Err(Failure::Held(holder)) => holder,
        other => panic!("{other:?}"),
    }
}

/// This program as another process.
fn process(work: &str, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "host_lock::map::tests::another_process", "--nocapture"])
        .env(WORK, work)
        .env(NAME, name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for a line of the process that begins with this.
fn wait_for(process: &mut Child, word: &str) -> String {
    let output = process.stdout.as_mut().unwrap();
    // Unbuffered: the rest is left for the next read.
    let mut lines = BufReader::with_capacity(1, output).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with(word)).unwrap()
}

/// Not a test: the process that other tests start.
#[test]
fn another_process() {
    let (Ok(work), Ok(name)) = (std::env::var(WORK), std::env::var(NAME)) else { return };
    let mut input = std::io::stdin().lines().map(Result::unwrap);
    match work.as_str() {
        // With a child process that outlives it, like a worker.
        "hold" => {
            let _lock = take(&name, &record("/with/a/worker")).unwrap();
            let mut worker =
                Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
            println!("\nholds {}", worker.id());
            worker.wait().unwrap();
        }
        "race" => {
            println!("\nready");
            while input.next().is_some() {
                let taken = take(&name, &record("/a/race"));
                println!("\nhas {}", if taken.is_ok() { "it" } else { "it not" });
                // Until all have tried.
                input.next();
            }
        }
        other => panic!("{other}"),
    }
}

#[test]
fn one_has_it_and_the_other_learns_who() {
    if !possible() {
        return;
    }
    let name = name();
    let lock = take(&name, &record("/var/lib/one")).unwrap();
    let holder = held_by(take(&name, &record("/var/lib/two")));
    assert_eq!(holder.pid, Some(std::process::id()));
    assert_eq!(holder.state_dir.as_deref(), Some(Path::new("/var/lib/one")));
    assert!(!holder.other_pid_namespace && holder.hostname.is_some(), "{holder}");
    drop(take(&super::tests::name(), &record("/")).unwrap());
    drop(lock);
    drop(take(&name, &record("/var/lib/two")).unwrap());
}

#[test]
fn it_ends_with_its_process_although_a_worker_lives() {
    if !possible() {
        return;
    }
    let name = name();
    let mut daemon = process("hold", &name);
    let said = wait_for(&mut daemon, "holds ");
    let holder = held_by(take(&name, &record("/")));
    assert_eq!(holder.state_dir.as_deref(), Some(Path::new("/with/a/worker")));
    assert_eq!(holder.pid, Some(daemon.id()));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let worker = said.split(' ').nth(1).unwrap();
    assert!(Path::new("/proc").join(worker).exists(), "the worker is gone, too");
    take(&name, &record("/")).unwrap();
    let pid = rustix::process::Pid::from_raw(worker.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn of_many_threads_exactly_one_has_it() {
    if !possible() {
        return;
    }
    const THREADS: usize = 16;
    for round in 0..20 {
        let name = name();
        let start = std::sync::Barrier::new(THREADS);
        let end = std::sync::Barrier::new(THREADS);
        let winners = std::thread::scope(|scope| {
            let race = || {
                start.wait();
                let taken = take(&name, &record("/a/thread"));
                end.wait();
                taken.is_ok()
            };
            let all: Vec<_> = (0..THREADS).map(|_| scope.spawn(race)).collect();
            all.into_iter().map(|one| one.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(winners, 1, "round {round}");
    }
}

#[test]
fn of_many_processes_exactly_one_has_it() {
    if !possible() {
        return;
    }
    let name = name();
    let mut all: Vec<Child> = (0..8).map(|_| process("race", &name)).collect();
    all.iter_mut().for_each(|one| drop(wait_for(one, "ready")));
    let tell = |all: &mut Vec<Child>| {
        all.iter_mut().for_each(|one| one.stdin.as_mut().unwrap().write_all(b"go\n").unwrap());
    };
    for round in 0..20 {
        tell(&mut all);
        let said: Vec<String> = all.iter_mut().map(|one| wait_for(one, "has ")).collect();
        let winners = said.iter().filter(|said| *said == "has it").count();
        assert_eq!(winners, 1, "round {round}: {said:?}");
        tell(&mut all);
    }
    for mut one in all {
        drop(one.stdin.take());
        one.wait().unwrap();
    }
}

/// A process that is stopped between creating its map and listing blocks others, until it is gone.
#[test]
fn one_that_wants_it_and_stops_keeps_others_out_until_it_is_gone() {
    if !possible() {
        return;
    }
    let name = name();
    let stopped = Map::create(&name, RECORD as u32).unwrap();
    // It has written nothing yet.
    assert_eq!(held_by(take(&name, &record("/"))), LockHolder::default());
    stopped.write(&record("/stopped").bytes(State::Wanted)).unwrap();
    let holder = held_by(take(&name, &record("/")));
    assert_eq!(holder.state_dir.as_deref(), Some(Path::new("/stopped")));
    drop(stopped);
    take(&name, &record("/")).unwrap();
}

#[test]
fn a_lock_of_another_version_is_respected() {
    if !possible() {
        return;
    }
    let name = name();
    for value in [&b"{\"state\":\"asleep\"}"[..], b"", b"{}", &[0xff; 64]] {
        let other = Map::create(&name, 64).unwrap();
        let mut bytes = value.to_vec();
        bytes.resize(64, 0);
        other.write(&bytes).unwrap();
        assert_eq!(held_by(take(&name, &record("/"))), LockHolder::default());
    }
}

#[test]
fn a_record_has_room_for_any_names() {
    let mut record = record(&"\u{1}\u{10ffff}".repeat(400));
    record.hostname = "\u{1}".repeat(64);
    let bytes = record.bytes(State::Held);
    assert_eq!(bytes.len(), RECORD);
    let read = Record::parse(&bytes).unwrap();
    assert_eq!(read, Record { state: State::Held, ..record });
}
