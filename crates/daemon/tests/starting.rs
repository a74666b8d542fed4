//! The daemon while it recovers: it listens, answers what it waits for, and lets changes wait.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::serve::HOLD_CHANGES;
use engine::{Action, ClaimRequest, Engine, JournalEvent, Observer};
use model::{Owner, Step};
use serde_json::{Value, json};
use sim::{Fault, When};
use support::{Daemon, NIC};

const NVME: &str = "0000:04:00.0";
const TOKEN: &str = "a-token-of-the-tests";

/// Crashes when an unbind has been recorded while `armed`.
#[derive(Default)]
struct Interrupt {
    armed: std::sync::atomic::AtomicBool,
}

struct Crash;

impl Observer for Interrupt {
    fn reached(&self, event: &JournalEvent) {
        let unbound = matches!(
            event,
            JournalEvent::Recorded { action: Action::Device(Step::Unbind { .. }), .. }
        );
        if unbound && self.armed.load(std::sync::atomic::Ordering::Relaxed) {
            resume_unwind(Box::new(Crash));
        }
    }
}

/// Leaves two interrupted releases: that of the NIC has a worker that is still in the kernel.
fn crash(daemon: &Daemon) {
    let interrupt = Arc::new(Interrupt::default());
    let (host, launcher) = (daemon.host.clone(), daemon.launcher.clone());
    let engine = Engine::open(daemon.config(), host, vec![launcher], interrupt.clone()).unwrap();
    engine.recover().unwrap();
    for (id, address) in [("one", NIC), ("two", NVME)] {
        let owner = Owner { kind: "job".into(), id: id.into() };
        engine.claims().claim(&ClaimRequest::new(owner, vec![address.parse().unwrap()])).unwrap();
    }
    interrupt.armed.store(true, std::sync::atomic::Ordering::Relaxed);
    let of_nic = |step: &Step| matches!(step, Step::Unbind { address, .. } if *address == NIC.parse().unwrap());
    daemon.host.fault(When::Step(Box::new(of_nic)), Fault::Hang);
    for owner in ["job/one", "job/two"] {
        let release = AssertUnwindSafe(|| drop(engine.claims().release(owner, None)));
        assert!(catch_unwind(release).unwrap_err().is::<Crash>());
    }
}

/// The health when it is so.
fn health(daemon: &Daemon, holds: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let health = daemon.get("/health").expect(200);
        if holds(&health) {
            return health;
        }
        assert!(Instant::now() < until, "{health:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_daemon_with_a_stuck_operation_answers_and_changes_wait() {
    let daemon = Daemon::begun(sim::workstation(), Some(TOKEN), None, HOLD_CHANGES, crash);
    // The other operation is recovered meanwhile.
    let starting = health(&daemon, |health| {
        let recovering = health["recovering"].as_array().map_or(&[][..], Vec::as_slice);
        matches!(recovering, [only] if only["state"] == "stuck")
    });
    assert_eq!(starting["status"], "starting");
    let stuck = &starting["recovering"][0];
    assert_eq!((&stuck["operation"], &stuck["of"]), (&json!("release"), &json!("job/one")));
    assert_eq!(stuck["devices"], json!([NIC]));
    assert!(stuck["step"].as_str().unwrap().contains("unbind"), "{stuck:#}");
    assert!(stuck["text"].as_str().unwrap().contains("still runs in the kernel"), "{stuck:#}");

    assert_eq!(daemon.get("/devices").expect(200), json!([]));
    let claims = daemon.get("/claims").expect(200);
    assert_eq!((&claims[0]["owner"], claims.as_array().unwrap().len()), (&json!("job/one"), 1));

    // A stranger sees that it starts, and no names.
    let by_tcp = "GET /health HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n";
    assert_eq!(daemon.raw(&format!("{by_tcp}\r\n")).expect(200), json!({ "status": "starting" }));
    let token = format!("{by_tcp}Authorization: Bearer {TOKEN}\r\n\r\n");
    assert_eq!(daemon.raw(&token).expect(200)["recovering"][0]["of"], "job/one");

    std::thread::scope(|scope| {
        let claiming = scope
            .spawn(|| daemon.post("/claims", &json!({ "owner": "job/three", "wants": [NIC] })));
        assert_eq!(daemon.get("/health").expect(200)["status"], "starting");
        daemon.host.release();
        assert_eq!(claiming.join().unwrap().expect(201)["state"], "prepared");
    });
    assert_eq!(daemon.get("/health").expect(200), json!({ "status": "ok" }));
    let report = daemon.get("/reconcile").expect(200);
    assert_eq!(report["finished"], json!(["release of job/one", "release of job/two"]));
}

#[test]
fn a_change_that_waits_too_long_is_refused_with_what_it_waits_for() {
    let daemon = Daemon::begun(sim::workstation(), None, None, Duration::ZERO, crash);
    health(&daemon, |health| health["recovering"][0]["state"] == "stuck");
    let answer = daemon.post("/claims", &json!({ "owner": "job/three", "wants": [NIC] }));
    assert!(answer.head.contains("retry-after: 5"), "{}", answer.head);
    let message = answer.refused(503, "starting");
    assert!(message.contains("release of job/one") && message.contains(NIC), "{message}");
    daemon.post("/nowhere", &json!({})).refused(404, "not_found");
    daemon.host.release();
    health(&daemon, |health| health["status"] == "ok");
}

static NEWS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// What the commands of `handover` do: they wait, and say for what.
#[test]
fn a_client_that_waits_says_what_it_waits_for_and_then_succeeds() {
    let daemon = Daemon::begun(sim::workstation(), None, None, Duration::ZERO, crash);
    health(&daemon, |health| health["recovering"][0]["state"] == "stuck");
    let client = api::client::Client::new(api::client::Endpoint::Unix(daemon.socket()), None);
    let body = json!({ "owner": "job/three", "wants": [NIC] });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refusal = runtime.block_on(client.post::<Value>("/claims", Some(&body))).unwrap_err();
    assert_eq!(refusal.code, model::Code::Starting, "one that does not wait");
    let waiting = client.waiting(|news| NEWS.lock().unwrap().push(news.to_owned()));
    let claim: Value = std::thread::scope(|scope| {
        scope.spawn(|| {
            let until = Instant::now() + Duration::from_secs(60);
            while NEWS.lock().unwrap().is_empty() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            daemon.host.release();
        });
        runtime.block_on(waiting.post("/claims", Some(&body))).unwrap()
    });
    assert_eq!(claim["state"], "prepared");
    let news = NEWS.lock().unwrap().clone();
    assert_eq!(news.len(), 1, "{news:?}");
    assert!(news[0].contains("release of job/one") && news[0].contains(NIC), "{news:?}");
}
