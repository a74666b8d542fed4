//! Uevent monitoring in the daemon: inventory, events, logs.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use model::{Change, ChangeKind, HostError, HostMonitor, Inventory};
use serde_json::{Value, json};
use support::{Daemon, GPU};

/// A host that reports the changes that a test makes.
struct Told {
    inventory: Mutex<Inventory>,
    waiting: Mutex<Waiting>,
    woken: Condvar,
}

#[derive(Default)]
struct Waiting {
    changes: Vec<Change>,
    aloud: bool,
    broken: bool,
}

impl Told {
    fn new() -> Arc<Self> {
        let inventory = Mutex::new(sim::workstation());
        Arc::new(Self { inventory, waiting: Mutex::default(), woken: Condvar::new() })
    }

    /// The GPU gets another driver. `aloud` wakes waiters; otherwise only the next read finds it.
    fn bind(&self, driver: &str, aloud: bool) {
        let address = GPU.parse().unwrap();
        let mut inventory = self.inventory.lock().unwrap();
        let function = inventory.functions.get_mut(&address).unwrap();
        let before = function.driver.replace(driver.to_owned());
        let kind = ChangeKind::Driver { before, after: Some(driver.to_owned()) };
        let change = Change { address, name: function.title(), kind };
        let mut waiting = self.waiting.lock().unwrap();
        waiting.changes.push(change);
        waiting.aloud |= aloud;
        self.woken.notify_all();
    }

    /// The GPU vanishes.
    fn lose(&self) {
        let address = GPU.parse().unwrap();
        let lost = self.inventory.lock().unwrap().functions.remove(&address).unwrap();
        let mut waiting = self.waiting.lock().unwrap();
        waiting.changes.push(Change { address, name: lost.title(), kind: ChangeKind::Gone });
        waiting.aloud = true;
        self.woken.notify_all();
    }

    fn break_off(&self) {
        let mut waiting = self.waiting.lock().unwrap();
        (waiting.aloud, waiting.broken) = (true, true);
        self.woken.notify_all();
    }
}

impl HostMonitor for Told {
    fn wait(&self, _limit: Option<Duration>) -> Result<bool, HostError> {
        let waiting = self.waiting.lock().unwrap();
        let mut waiting = self.woken.wait_while(waiting, |waiting| !waiting.aloud).unwrap();
        waiting.aloud = false;
        Ok(true)
    }

    fn catch_up(&self) -> Result<Vec<Change>, HostError> {
        let mut waiting = self.waiting.lock().unwrap();
        if waiting.broken {
            let reason = "a made-up fault".to_owned();
            return Err(HostError::Worker { step: "listen".into(), reason });
        }
        Ok(std::mem::take(&mut waiting.changes))
    }

    fn snapshot(&self) -> Arc<Inventory> {
        Arc::new(self.inventory.lock().unwrap().clone())
    }
}

/// The log of this process.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The line of the log with this in it, as soon as it is there.
fn logged(text: &str) -> String {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
        if let Some(line) = log.lines().find(|line| line.contains(text)) {
            return line.trim().to_owned();
        }
        assert!(Instant::now() < until, "{text} is not in the log: {log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn driver(daemon: &Daemon, path: &str) -> Value {
    daemon.get(path).expect(200)["functions"][GPU]["driver"].clone()
}

/// The events of the daemon from now on.
fn events(daemon: &Daemon) -> impl Iterator<Item = Value> + use<> {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    // It subscribes before it answers.
    assert!(lines.any(|line| line.is_empty()));
    lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
}

#[test]
fn the_inventory_follows_uevents() {
    let told = Told::new();
    let daemon = Daemon::monitored(told.clone());
    assert_eq!(driver(&daemon, "/inventory"), "nvidia");
    told.bind("vfio-pci", false);
    assert_eq!(driver(&daemon, "/inventory"), "vfio-pci");
    // The simulated host itself has not changed.
    assert_eq!(driver(&daemon, "/inventory?fresh=true"), "nvidia");
    daemon.get("/inventory?fresh=maybe").refused(400, "invalid_request");
}

#[test]
fn changes_are_events_beside_those_of_the_journal() {
    let told = Told::new();
    let daemon = Daemon::monitored(told.clone());
    daemon.register("gpu0", GPU);
    daemon.import("debian");
    let mut events = events(&daemon);
    told.bind("vfio-pci", true);
    let event = events.next().unwrap();
    let name = event["name"].as_str().unwrap();
    assert_eq!(
        event,
        json!({
            "event": "hardware", "address": GPU, "name": name,
            "change": "driver", "before": "nvidia", "after": "vfio-pci",
            "words": format!("{GPU} {name}: driver nvidia -> vfio-pci"),
        })
    );
    // A change without a wake-up is published by the next read.
    told.bind("nouveau", false);
    daemon.get("/inventory").expect(200);
    assert_eq!(events.next().unwrap()["after"], "nouveau");
    let body = json!({ "name": "vm", "image": "debian", "devices": ["gpu0"] });
    daemon.post("/instances", &body).expect(201);
    let kinds: Vec<_> = events.take(2).map(|event| event["event"].clone()).collect();
    assert_eq!(kinds, ["opened", "intended"]);
}

#[test]
fn without_uevents_the_host_is_scanned_on_each_request() {
    let told = Told::new();
    let daemon = Daemon::monitored(told.clone());
    told.bind("vfio-pci", false);
    told.break_off();
    let until = Instant::now() + Duration::from_secs(10);
    while driver(&daemon, "/inventory") != "nvidia" {
        assert!(Instant::now() < until, "it still shows the last known inventory");
    }
}

#[test]
fn losing_a_claimed_device_is_a_warning() {
    // Once per process; other tests also log to it.
    let log = tracing_subscriber::fmt().with_writer(|| Log).with_ansi(false).without_time();
    log.with_target(false).init();
    let told = Told::new();
    let daemon = Daemon::monitored(told.clone());
    daemon.register("gpu0", GPU);
    daemon.import("debian");
    let body = json!({ "name": "vm", "image": "debian", "devices": ["gpu0"] });
    let instance = daemon.post("/instances", &body).expect(201);
    let name = sim::workstation().functions[&GPU.parse().unwrap()].title();
    told.lose();
    let id = instance["id"].as_str().unwrap();
    let line = logged("disappeared from the host while");
    assert_eq!(
        line,
        format!("WARN {GPU} {name} disappeared from the host while instance {id} uses it")
    );
}

#[test]
fn losing_an_unclaimed_device_is_no_warning() {
    let told = Told::new();
    let daemon = Daemon::monitored(told.clone());
    let mut events = events(&daemon);
    told.lose();
    let event = events.next().unwrap();
    assert_eq!((&event["change"], &event["address"]), (&json!("gone"), &json!(GPU)));
    assert_eq!(daemon.get("/inventory").expect(200)["functions"][GPU], Value::Null);
}
