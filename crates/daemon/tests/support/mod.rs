//! A daemon on a simulated host, over a real unix socket and TCP.
#![allow(dead_code)]

mod container;
mod launcher;
mod scan;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use daemon::serve::{self, HOLD_CHANGES, Options};
use engine::Config;
use model::{HostMonitor, Launcher};
use serde_json::Value;
use service::cdi::Folder;
use sim::{Hardware, SimHost, SimLauncher, Snapshot};

pub use launcher::Recorded;
pub use scan::SimScan;

/// The GPUs, NIC and drive of `sim::workstation`.
pub const GPU: &str = "0000:01:00.0";
pub const NIC: &str = "0000:03:00.0";
pub const BRIDGE: &str = "0000:00:01.0";

/// A daemon and its simulated host.
pub struct Daemon {
    pub host: Arc<SimHost>,
    pub launcher: Arc<SimLauncher>,
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    pub token: Option<&'static str>,
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(mut stream: impl Read) -> Self {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            // A connection that is closed with a part of the request unread is reset after the answer (unix(7)).
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !bytes.is_empty() => {}
            read => drop(read.unwrap()),
        }
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The body of a response that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks a refusal; its message, for more checks.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        let body = self.json();
        assert_eq!(body["code"], code, "{body:#}");
        let message = body["message"].as_str().unwrap().to_owned();
        assert!(message.len() > 20, "not helpful: {message}");
        assert!(body["details"]["remedy"].as_str().unwrap().len() > 5, "{body:#}");
        message
    }
}

impl Daemon {
    pub fn start() -> Self {
        Self::on(sim::workstation(), None)
    }

    pub fn on(inventory: impl Into<Hardware>, token: Option<&'static str>) -> Self {
        Self::with(inventory, token, None)
    }

    /// A daemon on a host with uevent monitoring.
    pub fn monitored(monitor: Arc<dyn HostMonitor>) -> Self {
        Self::with(sim::workstation(), None, Some(monitor))
    }

    fn with(
        inventory: impl Into<Hardware>,
        token: Option<&'static str>,
        monitor: Option<Arc<dyn HostMonitor>>,
    ) -> Self {
        let daemon = Self::begun(inventory, token, monitor, HOLD_CHANGES, |_| {});
        let until = Instant::now() + Duration::from_secs(20);
        while daemon.get("/health").expect(200)["status"] != "ok" {
            assert!(Instant::now() < until, "recovery does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    /// A daemon that listens, but may still recover. `before` leaves something to recover.
    pub fn begun(
        inventory: impl Into<Hardware>,
        token: Option<&'static str>,
        monitor: Option<Arc<dyn HostMonitor>>,
        hold_changes: Duration,
        before: impl FnOnce(&Self),
    ) -> Self {
        let host = Arc::new(SimHost::new(inventory));
        let launcher = Arc::new(SimLauncher::new(host.clone()));
        let dir = tempfile::tempdir().unwrap();
        let address = own_address();
        let token_file = token.map(|token| private_file(dir.path().join("token"), token));
        let daemon = Self { host, launcher, dir, address, token };
        before(&daemon);
        let options = Options {
            devices_file: Some(daemon.devices_file()).filter(|file| file.exists()),
            socket: daemon.socket(),
            listen: Some(address),
            no_auth: token_file.is_none(),
            token_file,
            host_names: vec!["hv1".into()],
            cdi: Some(Folder::new(daemon.cdi())),
            hold_changes,
        };
        let config = daemon.config();
        let (host, dir) = (daemon.host.clone(), daemon.dir.path().to_owned());
        let launcher = Recorded { inner: daemon.launcher.clone(), dir };
        let launchers: Vec<Arc<dyn Launcher>> = vec![Arc::new(launcher)];
        let scan = Arc::new(SimScan(host.clone()));
        let parts = serve::Daemon { options, config, host, launchers, monitor, scan };
        std::thread::spawn(move || serve::run(parts).unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(daemon.socket()).is_err() || TcpStream::connect(address).is_err()
        {
            assert!(Instant::now() < until, "the daemon does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    /// The configuration of its engine.
    pub fn config(&self) -> Config {
        Config {
            state_dir: self.dir.path().join("state"),
            image_dirs: vec![self.dir.path().to_owned()],
            block_dirs: vec![sim::BLOCKS.into()],
            image_limits: engine::ImageLimits::default(),
            machine_uids: 200_000..200_100,
            shutdown_grace: Duration::from_secs(1),
            journal_timeout: engine::JOURNAL_TIMEOUT,
            journal_kept: engine::JournalKept::default(),
            guest_init: Some(self.guest_init()),
        }
    }

    /// The devices file, if it is there when the daemon starts.
    pub fn devices_file(&self) -> PathBuf {
        self.dir.path().join("pci.yaml")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/handover.sock")
    }

    /// The directory of CDI specs.
    pub fn cdi(&self) -> PathBuf {
        self.dir.path().join("cdi")
    }

    /// The init of container images, which need not be there.
    pub fn guest_init(&self) -> PathBuf {
        self.dir.path().join("handover-guest")
    }

    pub fn snapshot(&self) -> Snapshot {
        self.host.snapshot()
    }

    /// Sends a raw request over TCP.
    pub fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream)
    }

    /// Sends a request over the unix socket.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let length = body.len();
        // The content type of `curl -d`.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &body.to_string())
    }

    /// Imports a disk image by path, and waits until it is ready.
    pub fn import(&self, name: &str) {
        let file = self.dir.path().join("disk.raw");
        std::fs::write(&file, vec![7; 4096]).unwrap();
        let body = serde_json::json!({ "name": name, "disk": file, "format": "raw" });
        self.post("/images", &body).expect(202);
        self.until_ready(name);
    }

    pub fn until_ready(&self, name: &str) {
        let image = self.until_done(name);
        assert_eq!(image["status"], "ready", "{image:#}");
    }

    /// The image after its import has ended.
    pub fn until_done(&self, name: &str) -> Value {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let image = self.get(&format!("/images/{name}")).expect(200);
            if image["status"] == "ready" || image["status"] == "failed" {
                return image;
            }
            assert!(Instant::now() < until, "the import of {name} does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn register(&self, name: &str, address: &str) {
        let body = serde_json::json!({ "name": name, "pci_address": address });
        self.post("/devices", &body).expect(201);
    }
}

fn private_file(path: PathBuf, text: &str) -> PathBuf {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path
}

/// An address that nothing else uses: each daemon has a loopback address of its own. A free port of 127.0.0.1 could become
/// the port of another test's client before the daemon takes it.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, high, low, NEXT.fetch_add(1, Ordering::Relaxed)], 8080))
}
