//! The files that the program makes: their modes whatever the umask, links in their places, and a run directory that is
//! removed under the daemon. The host is made up.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A host without any device, and the directories of a daemon.
struct Place {
    root: tempfile::TempDir,
    dir: tempfile::TempDir,
    umask: &'static str,
    arguments: Vec<String>,
}

/// The daemon, killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    fn new(umask: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sys/bus/pci/devices")).unwrap();
        let random = root.path().join("proc/sys/kernel/random");
        fs::create_dir_all(&random).unwrap();
        fs::write(random.join("boot_id"), "4d0c2b0e-98f4-4b64-9c2d-6f1f0f6d3e11\n").unwrap();
        Self { root, dir: tempfile::tempdir().unwrap(), umask, arguments: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with this umask, which belongs to a process.
    fn handover(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {}; exec \"$0\" \"$@\"", self.umask)]);
        command.arg(env!("CARGO_BIN_EXE_handover")).args(arguments);
        command.env_remove("HANDOVER_URL").stdin(Stdio::null());
        command
    }

    fn serve(&self) -> Command {
        let mut command = self.handover(&["serve"]);
        command.arg("--root").arg(self.root.path());
        for (option, name) in [
            ("--state-dir", "state"),
            ("--run-dir", "run"),
            ("--cdi-dir", "cdi"),
            ("--image-dir", "images"),
        ] {
            command.arg(option).arg(self.path(name));
        }
        command.args(&self.arguments);
        command.stderr(fs::File::create(self.path("log")).unwrap());
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    fn start(&self) -> Daemon {
        let mut daemon = Daemon(self.serve().spawn().unwrap());
        until("the daemon listens", || {
            assert_eq!(daemon.0.try_wait().unwrap(), None, "the daemon ended: {}", self.log());
            UnixStream::connect(self.path("run/handover.sock")).is_ok()
        });
        daemon
    }

    /// What a daemon that cannot start logs.
    fn refused(&self) -> String {
        let mut daemon = Daemon(self.serve().spawn().unwrap());
        until("the daemon ends", || daemon.0.try_wait().unwrap().is_some());
        assert!(!daemon.0.wait().unwrap().success());
        self.log()
    }
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "timed out while waiting until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    metadata.mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Sends a request; the status and the answer.
fn ask(mut stream: impl std::io::Read + std::io::Write, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap_or_default().to_owned(), answer)
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    for umask in ["000", "077"] {
        let place = Place::new(umask);
        fs::create_dir(place.path("images")).unwrap();
        fs::write(place.path("images/disk"), vec![0; 512]).unwrap();
        let _daemon = place.start();
        let disk = place.path("images/disk");
        let body = format!(r#"{{"name": "small", "disk": "{}", "format": "raw"}}"#, disk.display());
        let request = |line: &str, body: &str| {
            format!(
                "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let connect = || UnixStream::connect(place.path("run/handover.sock")).unwrap();
        let (status, answer) = ask(connect(), &request("POST /images", &body));
        assert_eq!(status, "202", "{answer}");
        until("the image is imported", || {
            let (_, answer) = ask(connect(), &request("GET /images/small", ""));
            assert!(!answer.contains("\"failed\""), "{answer}");
            answer.contains("\"ready\"")
        });
        let modes = [
            ("state", 0o711),
            ("state/state.db", 0o600),
            ("state/state.db-wal", 0o600),
            ("state/state.db-shm", 0o600),
            ("state/lock", 0o600),
            ("state/images", 0o711),
            ("run", 0o755),
            ("run/handover.sock", 0o660),
        ];
        for (name, expected) in modes {
            let found = mode(&place.path(name));
            assert_eq!(found, expected, "umask {umask}: {name} has the mode {found:04o}");
        }
        let images = fs::read_dir(place.path("state/images")).unwrap();
        let image =
            images.map(|entry| entry.unwrap().path()).find(|path| path.join("disk").exists());
        let image = image.unwrap();
        assert_eq!((mode(&image), mode(&image.join("disk"))), (0o711, 0o644), "umask {umask}");

        let backup = place.path("backup");
        let mut command = place.handover(&["backup"]);
        command.arg(&backup).arg("--state-dir").arg(place.path("state"));
        assert!(command.output().unwrap().status.success());
        assert_eq!(mode(&backup), 0o600, "umask {umask}");
    }
}

#[test]
fn a_directory_that_others_can_change_is_tightened_or_refused() {
    let place = Place::new("022");
    for name in ["state", "run"] {
        fs::create_dir(place.path(name)).unwrap();
        set_mode(&place.path(name), 0o777);
    }
    drop(place.start());
    assert_eq!((mode(&place.path("state")), mode(&place.path("run"))), (0o711, 0o755));
    let log = place.log();
    assert!(log.contains("had the mode 0777; it is 0711 now"), "{log}");
    // Only root can give a directory away.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for name in ["state", "run"] {
        chown(place.path(name), Some(12_345), None).unwrap();
        let said = place.refused();
        assert!(said.contains("belongs to another user (uid 12345)"), "{said}");
        assert!(said.contains("chown 0 "), "{said}");
        chown(place.path(name), Some(0), None).unwrap();
    }
}

#[test]
fn a_link_in_the_place_of_a_file_leads_nowhere() {
    let place = Place::new("022");
    let victim = place.path("victim");
    fs::write(&victim, "kept").unwrap();
    set_mode(&victim, 0o644);
    for name in ["state", "run"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    let names = ["state/state.db", "state/state.db-wal", "state/lock", "run/handover.sock"];
    for (name, hard) in names.iter().flat_map(|name| [(name, false), (name, true)]) {
        let path = place.path(name);
        // A daemon that is refused late has made some of them.
        let _ = fs::remove_file(&path);
        if hard {
            fs::hard_link(&victim, &path).unwrap()
        } else {
            symlink(&victim, &path).unwrap()
        }
        let said = place.refused();
        let reason = match (*name, hard) {
            ("run/handover.sock", _) => "exists and is not a socket",
            (_, true) => "it is a hard link",
            (_, false) => "it is a symbolic link",
        };
        assert!(said.contains(reason) && said.contains(name), "{name}: {said}");
        assert_eq!((mode(&victim), fs::read_to_string(&victim).unwrap().as_str()), (0o644, "kept"));
        fs::remove_file(&path).unwrap();
    }
    // The private directory in which the socket is made.
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::write(place.path("elsewhere/s"), "kept").unwrap();
    symlink(place.path("elsewhere"), place.path("run/handover.sock.new")).unwrap();
    place.refused();
    assert_eq!(fs::read_to_string(place.path("elsewhere/s")).unwrap(), "kept");
}

#[test]
fn a_link_above_is_followed() {
    let place = Place::new("022");
    for name in ["real", "real/run"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    set_mode(&place.path("real"), 0o755);
    symlink(place.path("real"), place.path("state")).unwrap();
    symlink(place.path("real/run"), place.path("run")).unwrap();
    let _daemon = place.start();
    assert_eq!(mode(&place.path("real")), 0o755);
    assert_eq!(mode(&place.path("real/state.db")), 0o600);
}

#[test]
fn the_socket_comes_back_and_the_locks_hold_when_the_run_directory_is_removed() {
    let place = Place::new("022");
    let mut daemon = place.start();
    let socket = place.path("run/handover.sock");
    for removed in ["run", "run/handover.sock"] {
        let path = place.path(removed);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        let health = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        until("the socket is there again", || UnixStream::connect(&socket).is_ok());
        assert_eq!(ask(UnixStream::connect(&socket).unwrap(), health).0, "200");
        assert_eq!((mode(&place.path("run")), mode(&socket)), (0o755, 0o660));
    }
    assert!(place.log().contains("was removed; it is there again"), "{}", place.log());
    let log = place.log();
    fs::remove_dir_all(place.path("run")).unwrap();
    let second = place.refused();
    assert!(second.contains("state_locked"), "{second}");
    fs::write(place.path("log"), log).unwrap();

    // At the end it removes its own socket, and no other.
    until("the socket is there again", || UnixStream::connect(&socket).is_ok());
    fs::remove_file(&socket).unwrap();
    let _other = UnixListener::bind(&socket).unwrap();
    kill_process(Pid::from_child(&daemon.0), Signal::TERM).unwrap();
    until("the daemon ends", || daemon.0.try_wait().unwrap().is_some());
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
}

#[test]
fn a_token_is_read_again_on_sighup_and_a_bad_file_keeps_the_current_one() {
    let mut place = Place::new("022");
    let token = place.path("token");
    let write = |text: &str, wanted: u32| {
        fs::write(&token, text).unwrap();
        set_mode(&token, wanted);
    };
    write("the-first-token\n", 0o600);
    // A loopback address of its own: a free port of 127.0.0.1 could become another test's before the daemon takes it.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = SocketAddr::from(([127, high, low, 1], 8080));
    place.arguments = vec![
        "--listen".to_owned(),
        address.to_string(),
        "--token-file".to_owned(),
        token.display().to_string(),
    ];
    let daemon = place.start();
    let status = |token: &str| {
        let request = format!(
            "GET /claims HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        ask(TcpStream::connect(address).unwrap(), &request).0
    };
    let hang_up = || kill_process(Pid::from_child(&daemon.0), Signal::HUP).unwrap();
    until("it listens", || TcpStream::connect(address).is_ok());
    assert_eq!(status("the-first-token"), "200");

    write("a-token-for-all\n", 0o644);
    hang_up();
    until("it refuses the file", || place.log().contains("is accessible to others (mode 0644)"));
    assert!(place.log().contains("the current token stays in use"), "{}", place.log());
    assert_eq!(
        (status("the-first-token").as_str(), status("a-token-for-all").as_str()),
        ("200", "401")
    );

    write("the-second-token\n", 0o600);
    hang_up();
    until("the new token is in use", || status("the-second-token") == "200");
    assert_eq!(status("the-first-token"), "401");
    assert!(!place.log().contains("second-token"), "the log contains the token");

    // Without a token file the signal does not end the daemon.
    drop(daemon);
    place.arguments.clear();
    let mut daemon = place.start();
    kill_process(Pid::from_child(&daemon.0), Signal::HUP).unwrap();
    until("it says so", || place.log().contains("no token file"));
    assert_eq!(daemon.0.try_wait().unwrap(), None);
}
