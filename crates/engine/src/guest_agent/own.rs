//! Handover's own agent, in the guests of container images: a connection by vsock for each command.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use guest_protocol::message::ExecRequest;
use guest_protocol::{Client, CommandResult, ExecEvent, ExecReader, ExecWriter, ProtocolError};

use super::commands::{GuestCommand, GuestExit};
use crate::lock::lock;

/// How much of each output is kept: as much as qemu-guest-agent does.
const MOST_OUTPUT: usize = 16 << 20;

/// A session with the agent: both directions of one stream.
pub type OwnClient = Client<UnixStream, UnixStream>;

/// A command that runs in a guest. It is ended with its connection, when this is dropped.
#[derive(Debug)]
pub struct OwnProcess {
    stream: UnixStream,
    gathered: Arc<Mutex<Gathered>>,
}

#[derive(Debug, Default)]
struct Gathered {
    exit: GuestExit,
    ended: Option<Result<(), ProtocolError>>,
}

/// Does what waits for a guest, and closes the connection if that takes longer: an answer that comes byte by byte is within the
/// time of each read, and would keep a thread for hours.
pub fn within<T>(
    stream: &UnixStream,
    patience: Duration,
    work: impl FnOnce() -> Result<T, ProtocolError>,
) -> Result<T, ProtocolError> {
    let (done, waits) = mpsc::channel::<()>();
    let end = stream.try_clone()?;
    let is_late = AtomicBool::new(false);
    let is_late = &is_late;
    std::thread::scope(|scope| {
        let watch = move || {
            if waits.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                is_late.store(true, Ordering::Relaxed);
                let _ = end.shutdown(Shutdown::Both);
            }
        };
        std::thread::Builder::new().name("agent".into()).spawn_scoped(scope, watch)?;
        let result = work();
        drop(done);
        match result {
            Err(_) if is_late.load(Ordering::Relaxed) => {
                Err(io::Error::from(ErrorKind::TimedOut).into())
            }
            result => result,
        }
    })
}

/// Begins a session on a connection. The agent has `patience` for all of it.
pub fn begin(
    stream: UnixStream,
    token: &str,
    patience: Duration,
) -> Result<OwnClient, ProtocolError> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let whole = stream.try_clone()?;
    within(&whole, patience, || Client::begin(stream.try_clone()?, stream, token))
}

impl OwnProcess {
    /// Starts a command.
    pub fn start(
        stream: UnixStream,
        token: &str,
        command: &GuestCommand,
        patience: Duration,
    ) -> Result<Self, ProtocolError> {
        let client = begin(stream.try_clone()?, token, patience)?;
        let request = ExecRequest {
            argv: command.words.clone(),
            env: command.environment.clone(),
            ..ExecRequest::default()
        };
        let (reader, writer) = within(&stream, patience, || client.exec(&request))?;
        // From here on, a command takes the time that it takes.
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        let gathered = Arc::<Mutex<Gathered>>::default();
        let input = command.input.clone();
        spawn(move || give(writer, &input))?;
        let shared = Arc::clone(&gathered);
        spawn(move || gather(reader, &shared))?;
        Ok(Self { stream, gathered })
    }

    /// How it has ended; `None` while it runs. It is told once.
    pub fn exited(&self) -> Result<Option<GuestExit>, ProtocolError> {
        let mut gathered = lock(&self.gathered);
        let exit = match gathered.ended.take() {
            None => return Ok(None),
            Some(ended) => ended.map(|()| std::mem::take(&mut gathered.exit)),
        };
        exit.map(Some)
    }
}

impl Drop for OwnProcess {
    fn drop(&mut self) {
        // Both threads end with it.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), ProtocolError> {
    std::thread::Builder::new().name("exec".into()).spawn(work)?;
    Ok(())
}

/// A command that ends before it has read its input is no error.
fn give(mut writer: ExecWriter<UnixStream>, input: &[u8]) {
    let _ = writer.input(input).and_then(|()| writer.end_input());
}

fn gather(mut reader: ExecReader<UnixStream>, gathered: &Mutex<Gathered>) {
    loop {
        let event = reader.next_event();
        let mut all = lock(gathered);
        let Gathered { exit, ended } = &mut *all;
        match event {
            Ok(ExecEvent::Stdout(bytes)) => {
                keep(&mut exit.stdout, &bytes, &mut exit.stdout_truncated);
            }
            Ok(ExecEvent::Stderr(bytes)) => {
                keep(&mut exit.stderr, &bytes, &mut exit.stderr_truncated);
            }
            Ok(ExecEvent::Exited(result)) => {
                let CommandResult { exit_code, signal, .. } = result;
                exit.status = exit_code.map(i32::from);
                exit.signal = signal.map(i32::from);
                *ended = Some(Ok(()));
                return;
            }
            Err(error) => {
                *ended = Some(Err(error));
                return;
            }
        }
    }
}

/// Keeps output up to the limit: the rest is read, so that the command does not wait for ever.
fn keep(kept: &mut Vec<u8>, more: &[u8], truncated: &mut bool) {
    let room = MOST_OUTPUT.saturating_sub(kept.len());
    *truncated |= more.len() > room;
    kept.extend(more.iter().take(room));
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use guest_protocol::message::{FromGuest, ToGuest, Welcome, read_message, write_message};

    use super::*;

    /// An agent that answers one command with these messages.
    fn agent(mut stream: UnixStream, answers: Vec<FromGuest>) {
        let hello: Option<ToGuest> = read_message(&mut stream).unwrap();
        assert!(matches!(hello, Some(ToGuest::Hello(_))));
        let welcome = Welcome {
            protocol: guest_protocol::PROTOCOL_VERSION,
            version: "0".into(),
            state: guest_protocol::message::CommandState::Running { pid: 2 },
        };
        write_message(&mut stream, &FromGuest::Welcome(welcome)).unwrap();
        let asked: Option<ToGuest> = read_message(&mut stream).unwrap();
        assert!(matches!(asked, Some(ToGuest::Exec(_))));
        for answer in answers {
            write_message(&mut stream, &answer).unwrap();
        }
        stream.flush().unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }

    fn run(answers: Vec<FromGuest>) -> Result<GuestExit, ProtocolError> {
        let (ours, its) = UnixStream::pair().unwrap();
        let agent = std::thread::spawn(move || agent(its, answers));
        let command = GuestCommand { words: vec!["id".into()], ..GuestCommand::default() };
        let process = OwnProcess::start(ours, "token", &command, Duration::from_secs(5))?;
        let exit = loop {
            match process.exited() {
                Ok(Some(exit)) => break Ok(exit),
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => break Err(error),
            }
        };
        drop(process);
        agent.join().unwrap();
        exit
    }

    #[test]
    fn output_and_status_are_gathered() {
        let exit = run(vec![
            FromGuest::Started,
            FromGuest::Stdout(b"uid=".to_vec()),
            FromGuest::Stderr(b"!".to_vec()),
            FromGuest::Stdout(b"0".to_vec()),
            FromGuest::Exited(CommandResult::exited(3)),
        ])
        .unwrap();
        assert_eq!((exit.stdout.as_slice(), exit.stderr.as_slice()), (&b"uid=0"[..], &b"!"[..]));
        assert_eq!((exit.status, exit.signal), (Some(3), None));
    }

    #[test]
    fn an_endless_output_is_cut() {
        let part = FromGuest::Stdout(vec![b'x'; guest_protocol::MAX_PAYLOAD]);
        let mut answers = vec![FromGuest::Started];
        answers.extend(vec![part; MOST_OUTPUT / guest_protocol::MAX_PAYLOAD + 2]);
        answers.push(FromGuest::Exited(CommandResult::exited(0)));
        let exit = run(answers).unwrap();
        assert!(exit.stdout.len() == MOST_OUTPUT && exit.stdout_truncated);
        assert!(!exit.stderr_truncated);
    }

    #[test]
    fn an_agent_that_breaks_off_is_an_error() {
        let broken = run(vec![FromGuest::Started, FromGuest::Started]);
        assert!(matches!(broken, Err(ProtocolError::Unexpected { .. })), "{broken:?}");
    }
}
