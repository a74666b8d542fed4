//! One `handover serve` per host, whatever its directories. The host is made up.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The daemon, killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host without any device.
fn host() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("sys/bus/pci/devices")).unwrap();
    let random = root.path().join("proc/sys/kernel/random");
    std::fs::create_dir_all(&random).unwrap();
    std::fs::write(random.join("boot_id"), "4d0c2b0e-98f4-4b64-9c2d-6f1f0f6d3e11\n").unwrap();
    root
}

/// Starts `handover serve` on a host, with all its directories below `place`.
fn serve(root: &Path, place: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.arg("serve").arg("--root").arg(root);
    for (option, dir) in [("--state-dir", "state"), ("--run-dir", "run"), ("--cdi-dir", "cdi")] {
        command.arg(option).arg(place.join(dir));
    }
    command.stdin(Stdio::null());
    command
}

fn started(root: &Path, place: &Path) -> Daemon {
    let mut daemon = Daemon(serve(root, place).stderr(Stdio::null()).spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(60);
    while std::os::unix::net::UnixStream::connect(place.join("run/handover.sock")).is_err() {
        assert_eq!(daemon.0.try_wait().unwrap(), None, "the daemon ended");
        assert!(Instant::now() < until, "the daemon does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon
}

/// Waits until a refused daemon has ended.
fn ended(daemon: &mut Child) -> ExitStatus {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = daemon.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < until, "a second daemon serves this host");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_second_daemon_on_the_host_is_refused_whatever_its_directories() {
    let root = host();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut daemon = started(root.path(), one.path());
    let refused = |place: &Path| {
        let log = place.join("log");
        let stderr = std::fs::File::create(&log).unwrap();
        let mut second = Daemon(serve(root.path(), place).stderr(stderr).spawn().unwrap());
        let status = ended(&mut second.0);
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(status.code(), Some(12), "{text}");
        assert!(text.contains("state_locked"), "{text}");
        let pid = format!("pid {}", daemon.0.id());
        assert!(text.contains(&pid), "it does not name {pid}: {text}");
        assert!(text.contains("what to do: "), "{text}");
    };
    refused(two.path());
    assert!(!two.path().join("state").exists(), "it made its state before it was refused");
    std::fs::remove_file(one.path().join("state/lock")).unwrap();
    refused(one.path());

    // Another host is allowed, and so is this one after its daemon has died.
    let (other, three) = (host(), tempfile::tempdir().unwrap());
    started(other.path(), three.path());
    daemon.0.kill().unwrap();
    daemon.0.wait().unwrap();
    started(root.path(), two.path());
}

/// A request by the socket; the status.
fn ask(place: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(place.join("run/handover.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn the_service_manager_is_notified_of_the_start() {
    let (root, place) = (host(), tempfile::tempdir().unwrap());
    let path = place.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = serve(root.path(), place.path());
    let mut daemon =
        Daemon(command.env("NOTIFY_SOCKET", &path).stderr(Stdio::null()).spawn().unwrap());
    let told = || {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let starting = told();
    assert!(starting.starts_with("STATUS=starting: "), "{starting}");
    let more_time = starting.lines().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    assert!(more_time.unwrap().parse::<u64>().unwrap() >= 10_000_000, "{starting}");
    assert!(place.path().join("run/handover.sock").exists(), "it listens first");
    let ready =
        (0..1000).map(|_| told()).find(|told| !told.starts_with("STATUS=starting")).unwrap();
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    let health = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(place.path(), health), "200");
    let pid = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(told().contains("STOPPING=1"));
    assert!(ended(&mut daemon.0).success());
}

#[test]
fn a_log_that_is_not_read_holds_nothing_up() {
    let (root, place) = (host(), tempfile::tempdir().unwrap());
    let mut daemon =
        Daemon(serve(root.path(), place.path()).stderr(Stdio::piped()).spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(60);
    while UnixStream::connect(place.path().join("run/handover.sock")).is_err() {
        assert!(Instant::now() < until, "the daemon does not come up");
        std::thread::sleep(Duration::from_millis(10));
    }
    let long = "x".repeat(4000);
    // More than a pipe and the queue of lines have room for.
    for _ in 0..2000 {
        let request = format!(
            "POST /claims/{long}/renew HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        assert_eq!(ask(place.path(), &request), "404");
    }
    let health = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(place.path(), health), "200");
    let pid = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = ended(&mut daemon.0);
    assert!(status.success(), "{status:?}");
}
