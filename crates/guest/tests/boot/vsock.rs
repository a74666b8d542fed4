//! The machine's vsock, by a program instead of the kernel's vhost: `vhost-device-vsock` (`cargo install
//! vhost-device-vsock`), in the PATH or where `HANDOVER_TEST_VSOCK` says.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use guest_protocol::{Client, ProtocolError};

/// A vsock that a machine can have.
pub struct Vsock {
    program: Child,
    to_guest: PathBuf,
    to_machine: PathBuf,
}

/// A stream to the guest's agent.
pub type Agent = Client<UnixStream, UnixStream>;

impl Vsock {
    /// Starts the program; none if it is not installed.
    pub fn new(directory: &Path) -> Option<Self> {
        let program = std::env::var("HANDOVER_TEST_VSOCK");
        let program = program.unwrap_or_else(|_| "vhost-device-vsock".to_owned());
        let (to_guest, to_machine) = (directory.join("guest.vsock"), directory.join("vhost.sock"));
        let started = Command::new(&program)
            .arg("--guest-cid=3")
            .arg(format!("--uds-path={}", to_guest.display()))
            .arg(format!("--socket={}", to_machine.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(program) = started else {
            eprintln!(
                "skipped: there is no vhost-device-vsock: run `cargo install --locked vhost-device-vsock`"
            );
            return None;
        };
        let until = Instant::now() + Duration::from_secs(10);
        while !to_machine.exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self { program, to_guest, to_machine })
    }

    /// The machine's options.
    pub fn options(&self) -> Vec<String> {
        vec![
            "-chardev".to_owned(),
            format!("socket,id=vsock,path={}", self.to_machine.display()),
            "-device".to_owned(),
            "vhost-user-vsock-pci,chardev=vsock".to_owned(),
        ]
    }

    /// Connects to a port of the guest; none if nothing listens there.
    pub fn connect(&self, port: u32) -> Option<UnixStream> {
        let mut stream = UnixStream::connect(&self.to_guest).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(180))).unwrap();
        writeln!(stream, "CONNECT {port}").ok()?;
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            stream.read_exact(&mut byte).ok()?;
            line.extend(byte);
        }
        line.starts_with(b"OK").then_some(stream)
    }

    /// Makes the handshake with the agent.
    pub fn agent(&self, port: u32, token: &str) -> Result<Agent, ProtocolError> {
        let until = Instant::now() + Duration::from_secs(300);
        loop {
            if let Some(stream) = self.connect(port) {
                return Client::begin(stream.try_clone().unwrap(), stream, token);
            }
            assert!(Instant::now() < until, "the agent does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
