//! The host's side: opens channels to an agent, and delivers each channel's frames to its session.

use std::{
    collections::HashMap,
    io,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::frame::{Frame, Kind, LONGEST, Start, VERSION};

/// A connection to an agent.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: Mutex<UnixStream>,
    /// `None` once the agent is gone.
    channels: Mutex<Option<HashMap<u32, Sender<Frame>>>>,
    next: AtomicU32,
}

/// One open channel: a running command, or a connection.
#[derive(Debug)]
pub struct Session {
    channel: u32,
    shared: Arc<Shared>,
    frames: Receiver<Frame>,
    ended: bool,
}

/// An event of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes from standard output, or from a connection.
    Output(Vec<u8>),
    /// Bytes from standard error.
    Error(Vec<u8>),
    /// The end, with the exit status.
    Exit(i32),
    /// No event before the deadline.
    Timeout,
    /// The machine or its agent is gone.
    Gone,
}

impl Client {
    /// Waits for the agent's hello, until the deadline.
    pub fn connect(stream: UnixStream, deadline: Instant) -> Result<Self> {
        let mut from = stream.try_clone()?;
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        let hello = Frame::read(&mut from).context("the agent in L1 did not answer")?;
        ensure!(
            hello.kind == Kind::Hello && hello.data == VERSION.to_le_bytes(),
            "the agent in L1 has another version than this program"
        );
        stream.set_read_timeout(None)?;
        let shared = Arc::new(Shared {
            to: Mutex::new(stream),
            channels: Mutex::new(Some(HashMap::new())),
            next: AtomicU32::new(1),
        });
        let readers = Arc::clone(&shared);
        thread::Builder::new().name("agent".to_owned()).spawn(move || readers.distribute(from))?;
        Ok(Self { shared })
    }

    /// Opens a channel.
    pub fn start(&self, start: &Start) -> Result<Session> {
        let channel = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (sender, frames) = mpsc::channel();
        match self.shared.channels().as_mut() {
            Some(channels) => drop(channels.insert(channel, sender)),
            None => bail!("L1 is gone"),
        }
        let session = Session { channel, shared: Arc::clone(&self.shared), frames, ended: false };
        session.send(Kind::Start, &serde_json::to_vec(start)?)?;
        Ok(session)
    }

    /// Asks a relay to end the lab.
    pub fn down(&self) -> io::Result<()> {
        self.shared.write(&Frame::new(Kind::Down, 0, []))
    }
}

impl Session {
    /// A handle for another thread that writes input.
    pub fn input(&self) -> Input {
        Input { channel: self.channel, shared: Arc::clone(&self.shared) }
    }

    /// Waits for the next event, until the deadline if there is one.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Event> {
        let frame = match deadline {
            None => self.frames.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.frames.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(RecvTimeoutError::Timeout) => return Ok(Event::Timeout),
            Err(RecvTimeoutError::Disconnected) => return Ok(Event::Gone),
        };
        match frame.kind {
            Kind::Output => Ok(Event::Output(frame.data)),
            Kind::Error => Ok(Event::Error(frame.data)),
            Kind::Exit => {
                self.ended = true;
                let code = frame.data.try_into().map_or(-1, i32::from_le_bytes);
                Ok(Event::Exit(code))
            }
            Kind::Failed => {
                self.ended = true;
                bail!("{}", String::from_utf8_lossy(&frame.data))
            }
            other => bail!("the agent in L1 sent an unexpected {other:?}"),
        }
    }

    fn send(&self, kind: Kind, data: &[u8]) -> io::Result<()> {
        self.shared.write(&Frame::new(kind, self.channel, data))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(channels) = self.shared.channels().as_mut() {
            channels.remove(&self.channel);
        }
        if !self.ended {
            let _ = self.send(Kind::Kill, &[]);
        }
    }
}

/// The input side of a session.
#[derive(Debug, Clone)]
pub struct Input {
    channel: u32,
    shared: Arc<Shared>,
}

impl Input {
    /// Writes bytes.
    pub fn write(&self, data: &[u8]) -> io::Result<()> {
        data.chunks(LONGEST)
            .try_for_each(|chunk| self.shared.write(&Frame::new(Kind::Input, self.channel, chunk)))
    }

    /// Ends the input.
    pub fn end(&self) -> io::Result<()> {
        self.shared.write(&Frame::new(Kind::InputEnd, self.channel, []))
    }

    /// Kills the command and all its child processes.
    pub fn kill(&self) -> io::Result<()> {
        self.shared.write(&Frame::new(Kind::Kill, self.channel, []))
    }

    /// Copies a stream to its end.
    pub fn copy(&self, from: &mut impl io::Read) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        loop {
            match from.read(&mut buffer)? {
                0 => return self.end(),
                count => self.write(buffer.get(..count).unwrap_or_default())?,
            }
        }
    }
}

impl Shared {
    fn channels(&self) -> MutexGuard<'_, Option<HashMap<u32, Sender<Frame>>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, frame: &Frame) -> io::Result<()> {
        frame.write(&mut *self.to.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Delivers each frame to its channel, until the agent is gone. Late frames of closed channels are dropped.
    fn distribute(&self, mut from: UnixStream) {
        while let Ok(frame) = Frame::read(&mut from) {
            if let Some(channels) = self.channels().as_mut()
                && let Some(channel) = channels.get(&frame.channel)
            {
                let _ = channel.send(frame);
            }
        }
        *self.channels() = None;
    }
}
