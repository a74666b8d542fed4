//! The agent: reads frames from the serial port and executes them, with one thread per stream. It runs as long as L1.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::{net::UnixStream, process::CommandExt, process::ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use super::frame::{Frame, Kind, LONGEST, Start, VERSION};

/// How long to read output after the end of a command: its background processes may keep the streams open for ever.
const LINGER: Duration = Duration::from_millis(300);

/// The port to the host, and its open channels.
#[derive(Clone)]
struct Port {
    to: Arc<Mutex<File>>,
    channels: Arc<Mutex<HashMap<u32, Channel>>>,
}

/// Input for a channel, `None` at its end, and the process group to kill.
struct Channel {
    input: Sender<Option<Vec<u8>>>,
    group: Option<Pid>,
}

impl Port {
    fn send(&self, kind: Kind, channel: u32, data: impl Into<Vec<u8>>) {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        // Fails if the host is gone; the reading side then ends the agent.
        let _ = Frame::new(kind, channel, data).write(&mut *to);
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<u32, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the channel's last frame. Its process group is dropped: background processes of the command (such as a
    /// daemon) keep running, and the group's number may be reused.
    fn end(&self, kind: Kind, channel: u32, data: impl Into<Vec<u8>>) {
        self.channels().remove(&channel);
        self.send(kind, channel, data);
    }
}

/// Serves the port until the host is gone.
pub fn serve() -> Result<()> {
    let path = port("lab.agent").context("no agent port: this machine is not the lab's L1")?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut from = BufReader::new(file.try_clone()?);
    let port = Port { to: Arc::new(Mutex::new(file)), channels: Arc::default() };
    port.send(Kind::Hello, 0, VERSION.to_le_bytes());
    loop {
        let frame = Frame::read(&mut from)?;
        match frame.kind {
            Kind::Start => {
                if let Err(error) = open(&port, &frame) {
                    port.end(Kind::Failed, frame.channel, format!("{error:#}"));
                }
            }
            Kind::Input | Kind::InputEnd => {
                let data = (frame.kind == Kind::Input).then_some(frame.data);
                if let Some(channel) = port.channels().get(&frame.channel) {
                    let _ = channel.input.send(data);
                }
            }
            Kind::Kill => {
                if let Some(group) = port.channels().remove(&frame.channel).and_then(|c| c.group) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
            }
            _ => {}
        }
    }
}

/// The device of the port with this name, found without udev's links.
fn port(name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let entry = entries.flatten().find(|entry| {
        fs::read_to_string(entry.path().join("name")).is_ok_and(|found| found.trim() == name)
    })?;
    Some(PathBuf::from("/dev").join(entry.file_name()))
}

fn open(port: &Port, frame: &Frame) -> Result<()> {
    match serde_json::from_slice(&frame.data)? {
        Start::Run { argv, env } => run(port, frame.channel, &argv, env),
        Start::Connect(address) => connect(port, frame.channel, &address),
    }
}

fn run(port: &Port, channel: u32, argv: &[String], env: Vec<(String, String)>) -> Result<()> {
    let (program, arguments) = argv.split_first().context("no program given")?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(env)
        .current_dir("/root")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own process group, so that a timeout kills all its child processes.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (input, inputs) = mpsc::channel();
    if let Some(mut stdin) = child.stdin.take() {
        thread::spawn(move || feed(&inputs, &mut stdin));
    }
    let (done, ends) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        pump(port, Kind::Output, channel, stdout, done.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        pump(port, Kind::Error, channel, stderr, done);
    }
    port.channels().insert(channel, Channel { input, group });
    let port = port.clone();
    thread::spawn(move || report(&port, channel, child, &ends));
    Ok(())
}

/// Waits for the command, and briefly for its streams, and reports its exit status.
fn report(port: &Port, channel: u32, mut child: Child, ends: &Receiver<()>) {
    let status = child.wait();
    for _ in 0..2 {
        if ends.recv_timeout(LINGER).is_err() {
            break;
        }
    }
    match status {
        Ok(status) => port.end(Kind::Exit, channel, code(status).to_le_bytes()),
        Err(error) => port.end(Kind::Failed, channel, error.to_string()),
    }
}

/// The exit status, as in a shell.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn connect(port: &Port, channel: u32, address: &str) -> Result<()> {
    let (done, ends) = mpsc::channel();
    let (input, inputs) = mpsc::channel();
    if address.starts_with('/') {
        let stream =
            UnixStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        pump(port, Kind::Output, channel, stream.try_clone()?, done);
        thread::spawn(move || {
            feed(&inputs, &mut &stream);
            let _ = stream.shutdown(Shutdown::Write);
        });
    } else {
        let stream =
            TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        pump(port, Kind::Output, channel, stream.try_clone()?, done);
        thread::spawn(move || {
            feed(&inputs, &mut &stream);
            let _ = stream.shutdown(Shutdown::Write);
        });
    }
    port.channels().insert(channel, Channel { input, group: None });
    let port = port.clone();
    thread::spawn(move || {
        let _ = ends.recv();
        port.end(Kind::Exit, channel, 0_i32.to_le_bytes());
    });
    Ok(())
}

/// Writes the input until its end, or until the reader is gone.
fn feed(inputs: &Receiver<Option<Vec<u8>>>, to: &mut impl Write) {
    while let Ok(Some(data)) = inputs.recv() {
        if to.write_all(&data).is_err() {
            break;
        }
    }
}

/// Sends a stream until its end.
fn pump(
    port: &Port,
    kind: Kind,
    channel: u32,
    mut from: impl Read + Send + 'static,
    done: Sender<()>,
) {
    let port = port.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; LONGEST];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => port.send(kind, channel, buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let _ = done.send(());
    });
}
