//! A minimal second VMM in this one file. It proves that a VMM needs no more than the trait.
//!
//! Its control protocol is one word a line, `run`, `power` or `quit`, each answered by a line.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use model::{Availability, Display, LaunchError, MachineOptions, MachineSpec};
use vmm::process::{
    Control, ControlError, FD, Helper, Loopback, MachinePaths, Pin, Vmm, VmmCommand, last_lines,
};

use crate::bench::executable;

/// The program: the control socket becomes the standard input of this executable.
const WRAPPER: &str = r#"#!/bin/sh
case $1 in --control-fd=*) eval 'exec "${0%/*}/fake" tiny-vmm "$@" <&'"${1#*=}" ;; esac
exec "${0%/*}/fake" tiny-vmm "$@"
"#;

pub struct Tiny {
    program: PathBuf,
    /// Whether it has a control socket.
    controlled: bool,
}

impl Tiny {
    pub fn in_dir(dir: &Path) -> Self {
        Self { program: dir.join("tiny-vmm"), controlled: true }
    }

    pub fn without_control(dir: &Path) -> Self {
        Self { controlled: false, ..Self::in_dir(dir) }
    }

    pub fn install(dir: &Path) {
        executable(&dir.join("tiny-vmm"), WRAPPER.as_bytes());
    }
}

impl Vmm for Tiny {
    fn name(&self) -> &'static str {
        "tiny"
    }

    fn availability(&self, _root: &Path) -> Availability {
        let available = self.program.exists();
        let missing = |text: &str| (!available).then(|| text.to_owned());
        Availability {
            available,
            version: available.then(|| "1".into()),
            accelerator: None,
            reason: missing("tiny-vmm is missing"),
            remedy: missing("run the tests"),
        }
    }

    fn check(&self, _root: &Path, _options: &MachineOptions) -> Result<(), LaunchError> {
        Ok(())
    }

    fn nvram_template(
        &self,
        _root: &Path,
        _options: &MachineOptions,
    ) -> Result<Option<PathBuf>, LaunchError> {
        Ok(None)
    }

    fn command(&self, spec: &MachineSpec, paths: &MachinePaths) -> Result<VmmCommand, LaunchError> {
        let control = format!("--control-fd={FD}");
        let helper = Helper {
            program: "/bin/true".into(),
            args: Vec::new(),
            vmm_args: vec![format!("--helper-fd={FD}")],
            loopback: Loopback::Closed { name_server: None },
        };
        Ok(VmmCommand {
            program: self.program.clone(),
            control_args: self.controlled.then_some(control).into_iter().collect(),
            console_args: Vec::new(),
            agent_args: Vec::new(),
            args: vec![
                format!("--name={}", spec.name),
                format!("--console={}", paths.console.display()),
            ],
            files: Vec::new(),
            cards: Vec::new(),
            helpers: (spec.name == "closed").then_some(helper).into_iter().collect(),
            groups: Vec::new(),
        })
    }

    fn bring_up(
        &self,
        _spec: &MachineSpec,
        control: &Control<'_>,
        _pin: Pin<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        if self.controlled { tell(control, "run", deadline) } else { Ok(()) }
    }

    fn press_power_button(
        &self,
        control: &Control<'_>,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        tell(control, "power", deadline)
    }

    fn add_viewer(
        &self,
        _display: Display,
        _viewer: OwnedFd,
        _control: &Control<'_>,
        _deadline: Instant,
    ) -> Result<(), ControlError> {
        Err(ControlError::Refused("a viewer".into(), "it has no screen".into()))
    }

    fn quit(&self, control: &Control<'_>, deadline: Instant) -> Result<(), ControlError> {
        tell(control, "quit", deadline)
    }

    fn explain(&self, log: &str) -> String {
        format!("tiny-vmm says: {}", last_lines(log.lines()))
    }
}

/// Gives one command.
fn tell(control: &Control<'_>, command: &str, deadline: Instant) -> Result<(), ControlError> {
    let mut stream = control.connect(deadline)?;
    let left = deadline.saturating_duration_since(Instant::now());
    stream.set_read_timeout(Some(left))?;
    writeln!(stream, "{command}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim() {
        "ok" => Ok(()),
        "" => Err(ControlError::Closed),
        other => Err(ControlError::Refused(command.into(), other.into())),
    }
}

/// The VMM itself. The machine's name is its behavior: `good` works, `refuses` exits at once, `deaf`
/// ignores the power button, `mute` never answers, `closed` says whether it reaches this host's loopback.
pub fn main(arguments: &[String]) -> ExitCode {
    let value = |name: &str| {
        arguments.iter().find_map(|argument| argument.strip_prefix(name)).unwrap_or_default()
    };
    let behaviour = value("--name=");
    if behaviour == "refuses" {
        eprintln!("there is no such device");
        return ExitCode::FAILURE;
    }
    let mut console = File::options().append(true).open(value("--console=")).unwrap();
    writeln!(console, "the guest of {behaviour} is there").unwrap();
    if behaviour == "closed" {
        // Connecting a UDP socket sends nothing.
        let reached = UdpSocket::bind("0.0.0.0:0").unwrap().connect("127.0.0.1:9");
        let refused = reached.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        writeln!(console, "loopback is {}", if refused { "closed" } else { "open" }).unwrap();
    }
    if value("--control-fd=").is_empty() {
        loop {
            std::thread::park();
        }
    }
    // The wrapper has made the control socket our standard input.
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    for stream in listener.incoming() {
        if let Some(code) = answer(stream.unwrap(), behaviour) {
            return ExitCode::from(code);
        }
    }
    ExitCode::SUCCESS
}

/// Answers one client, and says with what status to end, if at all.
fn answer(mut stream: UnixStream, behaviour: &str) -> Option<u8> {
    if behaviour == "mute" {
        let _ = stream.read_to_end(&mut Vec::new());
        return None;
    }
    let mut command = String::new();
    BufReader::new(stream.try_clone().unwrap()).read_line(&mut command).unwrap();
    let _ = writeln!(stream, "ok");
    match (command.trim(), behaviour) {
        ("power", "deaf") => None,
        ("power", _) => Some(0),
        ("quit", _) => Some(3),
        _ => None,
    }
}
