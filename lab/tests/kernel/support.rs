//! Shared by the lab's tests: an L1 with a daemon, used through REST like by any client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::{Lab, Options};
use serde_json::{Value, json};

use crate::shared::Shared;

/// The functions of the `workstation` topology that the tests hand over.
pub const GPU: &str = "0000:01:00.0";
/// The GPU's audio function.
pub const AUDIO: &str = "0000:01:00.1";
/// The e1000e.
pub const NIC: &str = "0000:03:00.0";
/// The NVMe drive.
pub const NVME: &str = "0000:04:00.0";
/// The igb of the `server` topology.
pub const IGB: &str = "0000:01:00.0";

/// The command that starts the daemon in L1.
const SERVE: &str = "handover serve --listen 127.0.0.1:8080 --no-auth --image-dir /opt/lab/guest --block-dir /run/blocks";

/// An emulated host with Handover on it.
pub struct Host {
    /// L1.
    pub lab: Arc<Lab>,
    /// If other tests use it afterwards.
    shared: Option<Shared>,
    began: Instant,
}

impl Drop for Host {
    /// Prints how long a test used its host, which is nearly its duration: the gate has a budget.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take()
            && !std::thread::panicking()
        {
            shared.give_back();
        }
        let thread = std::thread::current();
        let seconds = self.began.elapsed().as_secs();
        println!("TIME {}: {seconds} s", thread.name().unwrap_or("a test"));
    }
}

/// The daemon's answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status; 0 if the connection broke.
    pub status: u16,
    /// The body; `null` if it is missing or not JSON.
    pub body: Value,
}

impl Answer {
    /// Parses curl's output: the body, and the status on its own line.
    pub fn read(text: &str) -> Self {
        let (body, status) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim()));
        Self {
            status: status.parse().unwrap_or(0),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    /// The body of an answer that must have this status.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        self.body
    }

    /// Checks a refusal: its status, its code, and that it has a remedy.
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:#?}");
        let message = self.body["message"].as_str().unwrap();
        assert!(message.len() > 20, "that helps nobody: {message}");
    }
}

/// Whether the lab's tests run; prints the reason if not.
pub fn wanted() -> bool {
    let wanted = std::env::var_os("HANDOVER_LAB").is_some();
    if !wanted {
        println!("SKIPPED: the lab's tests run with HANDOVER_LAB=1 (make test sets it)");
    }
    wanted
}

/// Whether the long tests are long: `HANDOVER_LAB=thorough`. The gate has a sample of them.
pub fn thoroughly() -> bool {
    std::env::var_os("HANDOVER_LAB").is_some_and(|how| how == "thorough")
}

/// The boundaries at which the daemon is killed: each, or in the gate one of eight, the first and the last among them.
pub fn boundaries(all: std::ops::RangeInclusive<usize>) -> Vec<usize> {
    let (first, last) = (*all.start(), *all.end());
    let step = if thoroughly() { 1 } else { 8 };
    let chosen: Vec<usize> =
        all.filter(|n| (n - first).is_multiple_of(step) || *n == last).collect();
    println!("killed at {} of {} boundaries", chosen.len(), last + 1 - first);
    chosen
}

impl Host {
    /// A host of a topology that other tests have used or will use.
    pub fn shared(topology: &'static str) -> Self {
        Self::prepared(topology, || Lab::boot(topology).unwrap())
    }

    /// A host of this kind that other tests have used or will use, or one that is booted and prepared like this.
    pub fn prepared(kind: &'static str, boot: impl FnOnce() -> Lab) -> Self {
        let began = Instant::now();
        let shared = Shared::take(kind, boot);
        Self { lab: Arc::clone(&shared.lab), shared: Some(shared), began }
    }

    /// Boots a topology.
    pub fn boot(topology: &str) -> Self {
        let options = Options { topology: topology.into(), ..Options::default() };
        Self::with(&options)
    }

    /// Boots with these options.
    pub fn with(options: &Options) -> Self {
        let began = Instant::now();
        Self { lab: Arc::new(Lab::start(options).unwrap()), shared: None, began }
    }

    /// Runs a script in L1; it must succeed.
    pub fn sh(&self, script: &str) -> String {
        self.lab.sh(script).unwrap()
    }

    /// Creates four virtual functions of the igb that can become vGPUs.
    pub fn vgpu_functions(&self, igb: &str) {
        self.sh(&format!(
            "modprobe labvf ids=8086:10ca; echo 4 >/sys/bus/pci/devices/{igb}/sriov_numvfs
             for try in $(seq 200); do [ \"$(ls -d /sys/bus/pci/drivers/labvf/0000:* 2>/dev/null | wc -l)\" = 4 ] && exit 0; sleep 0.05; done; exit 1"
        ));
    }

    /// Starts the daemon, with these variables in its environment, and waits until it has started (or has ended).
    pub fn serve(&self, environment: &str) {
        self.sh(&format!(
            "{environment} setsid {SERVE} >>/tmp/handover.log 2>&1 </dev/null & echo $! >/tmp/handover.pid
             for i in $(seq 300); do
                 curl -sf localhost:8080/health | grep -q '\"ok\"' && exit 0
                 kill -0 $(</tmp/handover.pid) 2>/dev/null || exit 0
                 sleep 0.05
             done
             cat /tmp/handover.log; exit 1"
        ));
    }

    /// Kills the daemon like the kernel's OOM killer, and waits until it is gone.
    pub fn kill_daemon(&self) {
        self.sh("kill -9 $(</tmp/handover.pid) 2>/dev/null; while kill -0 $(</tmp/handover.pid) 2>/dev/null; do sleep 0.02; done; true");
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        self.sh("tail -n 60 /tmp/handover.log || true")
    }

    /// Asks the daemon.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let data = body.map_or(String::new(), |body| format!("-d '{body}'"));
        self.raw(&format!("-X {method} {data} 'localhost:8080{path}'"))
    }

    /// Sends a request to the daemon with curl's arguments.
    pub fn raw(&self, arguments: &str) -> Answer {
        let script = format!("curl -s -m 180 -w '\\n%{{http_code}}' {arguments} || true");
        Answer::read(&self.lab.exec_within(&script, Duration::from_secs(200)).unwrap().stdout)
    }

    /// `GET` of a path that must be there.
    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).expect(200)
    }

    /// `POST` that must answer 201.
    pub fn create(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, Some(body)).expect(201)
    }

    /// Registers a device under a name.
    pub fn register(&self, name: &str, address: &str) {
        self.create("/devices", &json!({ "name": name, "pci_address": address }));
    }

    /// Imports the lab's guest, with arguments for its kernel command line.
    pub fn import_guest(&self, name: &str, words: &str) {
        self.import_guest_with(name, "initrd.gz", words);
    }

    /// The same with another initial ramdisk: `ssh.gz` has an SSH server.
    pub fn import_guest_with(&self, name: &str, initrd: &str, words: &str) {
        let body = json!({
            "name": name,
            "kernel": "/opt/lab/guest/vmlinux",
            "initrd": format!("/opt/lab/guest/{initrd}"),
            "cmdline": format!("console=ttyS0 quiet panic=-1 {words}"),
        });
        self.ask("POST", "/images", Some(&body)).expect(202);
        let status = |host: &Self| host.get(&format!("/images/{name}"))["status"].clone();
        self.wait("the image", 60, || match status(self).as_str() {
            Some("ready") => true,
            Some("failed") => panic!("{:#}", self.get(&format!("/images/{name}"))),
            _ => false,
        });
    }

    /// The body of `POST /instances`.
    pub fn machine(name: &str, image: &str, devices: &[&str]) -> Value {
        json!({ "name": name, "image": image, "size": "256MB", "vcpus": 1, "devices": devices })
    }

    /// The guest's machine-readable lines, once it has printed `GUEST done`. Its processor is emulated by an emulated
    /// one: a boot takes seconds on an idle machine, and minutes on a busy one.
    pub fn guest_report(&self, instance: &str) -> String {
        let script = format!(
            "timeout 300 curl -sN 'localhost:8080/instances/{instance}/logs?source=app&follow=true' |
             sed -un 's/^data: //p; /GUEST done/q' | jq -r . | grep -a GUEST || true"
        );
        self.lab.exec_within(&script, Duration::from_secs(320)).unwrap().success().unwrap()
    }

    /// Everything of the host that a hand-over changes: drivers, overrides, power, device nodes, machines and their
    /// files, cgroups.
    pub fn snapshot(&self) -> String {
        self.sh(
            r#"cd /sys/bus/pci/devices; for d in *; do
                 driver=$(basename "$(readlink $d/driver)"); echo "$d ${driver:--} $(cat $d/driver_override) $(cat $d/power/control)"
               done
               ls -ln /dev/vfio | awk 'NR > 1 { print $1, $3, $4, $NF }'
               pgrep -xa qemu-system-x86; pgrep -a passt; find /var/lib/handover/machines /run/handover/machines -mindepth 1 2>/dev/null
               find /sys/fs/cgroup -name '*handover*' | sort; true"#,
        )
    }

    /// The drivers of these functions.
    pub fn drivers(&self, addresses: &[&str]) -> BTreeMap<String, String> {
        let one = |address: &&str| {
            let link = format!("/sys/bus/pci/devices/{address}/driver");
            let driver = self.sh(&format!("basename \"$(readlink {link})\""));
            ((*address).to_owned(), driver.trim().to_owned())
        };
        addresses.iter().map(one).collect()
    }

    /// Waits until a condition is true.
    pub fn wait(&self, what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while !holds() {
            assert!(
                Instant::now() < until,
                "{what} did not come within {seconds} s:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
