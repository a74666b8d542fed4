//! Sessions with Handover's own agent in the guests of container images: commands with their streams, copies, and what a path is.
//!
//! Everything here waits for the guest, so its callers have a thread for it. A [`Closer`] ends the wait.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use guest_protocol::message::CopyIn;
use guest_protocol::{ExecReader, ExecWriter, ProtocolError};
use model::{Code, Refusal, Secret};

use super::Instances;
use super::agent::{ANSWER, ASIDE, lost, own_refusal};
use super::container::AGENT_PORT;
use crate::guest_agent::{
    CopyOut, Entry, EntryKind, ExecEvent, ExecRequest, FileInfo, OwnClient, Place, StatRequest,
    WindowSize, begin, within,
};
use crate::{Instance, InstanceState};

/// How long a guest may be silent during a copy: its disk can be slow.
const COPY: Duration = Duration::from_secs(60);

/// A session with the agent in a guest.
#[derive(Debug)]
pub struct GuestSession {
    name: String,
    client: OwnClient,
    stream: UnixStream,
    place: Place,
}

/// Ends a session when it is dropped, also for a thread that waits for the guest. The guest then hangs up the session's command.
#[derive(Debug)]
pub struct Closer(UnixStream);

impl Drop for Closer {
    fn drop(&mut self) {
        // A connection that is gone needs nothing.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A command that did not start.
#[derive(Debug)]
pub struct NotStarted {
    /// Why.
    pub refusal: Refusal,
    /// The exit status that a shell has for it: 126 if it cannot be executed, else 127.
    pub status: u8,
}

impl From<Refusal> for NotStarted {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, status: 127 }
    }
}

/// The direction from a command.
#[derive(Debug)]
pub struct GuestOutput {
    name: String,
    reader: ExecReader<UnixStream>,
    _place: Place,
}

/// The direction to a command.
#[derive(Debug)]
pub struct GuestInput(ExecWriter<UnixStream>);

/// A part of a copy.
#[derive(Debug)]
pub enum CopyPart {
    /// A file, directory or link begins.
    Entry(Entry),
    /// Contents of that file.
    Data(Vec<u8>),
    /// The copy is complete.
    End,
}

impl Instances {
    /// A session with the agent in the guest of an instance that runs a container image.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if the instance does not run, or is none of a container image; `agent_silent`,
    /// `agent_refused`; `too_many_requests`.
    pub fn guest_session(&self, key: &str) -> Result<GuestSession, Refusal> {
        let instance = self.with_agent(key)?;
        expect_container(&instance)?;
        let place = self.agents.place(instance.id, &instance.name)?;
        let (stream, token) = self.own_stream(&instance, ANSWER)?;
        let name = instance.name.clone();
        let begun = stream.try_clone().map_err(ProtocolError::from);
        let begun = begun.and_then(|stream| begin(stream, token.reveal(), ANSWER));
        let client = begun.map_err(|error| own_refusal(&name, &error))?;
        Ok(GuestSession { name, client, stream, place })
    }

    /// Checks that an instance runs a container image, and that its guest has an agent.
    ///
    /// # Errors
    /// As [`guest_session`](Self::guest_session), without asking the guest.
    pub fn expect_guest_sessions(&self, key: &str) -> Result<(), Refusal> {
        expect_container(&self.with_agent(key)?)
    }

    /// Whether the agent in the guest of a container image answers, within a second; `None` for another image, or if the
    /// instance does not run.
    #[must_use]
    pub fn agent_ready(&self, instance: &Instance) -> Option<bool> {
        instance.options.container.as_ref()?;
        match instance.state {
            InstanceState::Running => {
                let opened = self.own_stream(instance, ASIDE).ok();
                Some(
                    opened.is_some_and(|(stream, token)| {
                        begin(stream, token.reveal(), ASIDE).is_ok()
                    }),
                )
            }
            _ => None,
        }
    }

    /// Sets the clock of a guest that stood still. It does not wait for the guest: a thread does, for some seconds.
    pub(super) fn set_guest_clock(&self, instance: &Instance) {
        let Some(token) = instance.options.agent_token.clone() else { return };
        let Ok(launcher) = self.launcher(&instance.hypervisor).cloned() else { return };
        let (name, uid) = (instance.name.clone(), instance.uid);
        let set = move || {
            let opened = launcher.open_vsock(uid, AGENT_PORT, ANSWER);
            let told = opened.map_err(|error| error.to_string()).and_then(|stream| {
                let told = set_clock(stream, &token);
                told.map_err(|error| own_refusal(&name, &error).message)
            });
            if let Err(why) = told {
                tracing::warn!(instance = name, why, "the guest's clock is late: set it by hand");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("clock".into()).spawn(set) {
            tracing::warn!(%error, "no thread to set a guest's clock");
        }
    }
}

fn set_clock(stream: UnixStream, token: &Secret) -> Result<(), ProtocolError> {
    let whole = stream.try_clone()?;
    let mut client = begin(stream, token.reveal(), ANSWER)?;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    within(&whole, ANSWER, || client.set_clock(u64::try_from(now).unwrap_or(u64::MAX)))
}

impl GuestSession {
    /// What ends it.
    ///
    /// # Errors
    /// `internal`: the process has no descriptor left.
    pub fn closer(&self) -> Result<Closer, Refusal> {
        self.stream.try_clone().map(Closer).map_err(|error| no_descriptor(&error))
    }

    /// Runs a command beside the guest's own.
    ///
    /// # Errors
    /// The agent refuses it, or does not answer.
    pub fn exec(self, request: &ExecRequest) -> Result<(GuestOutput, GuestInput), NotStarted> {
        let Self { name, client, stream, place } = self;
        let started = within(&stream, ANSWER, || client.exec(request));
        let (reader, writer) = started.map_err(|error| {
            let refusal = own_refusal(&name, &error);
            match &error {
                ProtocolError::Refused { code, .. } if code == "not_executable" => {
                    NotStarted { refusal, status: 126 }
                }
                ProtocolError::Refused { .. } => refusal.into(),
                _ => lost(refusal, "the command may have started").into(),
            }
        })?;
        // From here on, a command takes the time that it takes.
        let patient = stream.set_read_timeout(None).and_then(|()| stream.set_write_timeout(None));
        patient.map_err(|error| NotStarted::from(no_descriptor(&error)))?;
        tracing::info!(instance = name, "a program was started in the guest");
        Ok((GuestOutput { name, reader, _place: place }, GuestInput(writer)))
    }

    /// What a path in the guest is.
    ///
    /// # Errors
    /// The agent refuses, or does not answer.
    pub fn stat(mut self, request: &StatRequest) -> Result<FileInfo, Refusal> {
        let Self { name, client, stream, .. } = &mut self;
        let told = within(stream, ANSWER, || client.stat(request));
        told.map_err(|error| own_refusal(name, &error))
    }

    /// Copies into the guest what `parts` gives, until it gives the end. Returns the bytes of all files. Files are of the kind
    /// [`EntryKind::Stream`].
    ///
    /// # Errors
    /// The guest could not write something, or does not answer; `invalid_request` if `parts` breaks off.
    pub fn copy_in(
        mut self,
        path: &str,
        mut parts: impl FnMut() -> Option<CopyPart>,
    ) -> Result<u64, Refusal> {
        self.be_patient()?;
        let failed = |error: ProtocolError| own_refusal(&self.name, &error);
        let mut copy = self.client.copy_in(&CopyIn { path: path.to_owned() }).map_err(failed)?;
        let (mut in_file, mut bytes) = (false, 0_u64);
        loop {
            let part = parts().ok_or_else(|| broken_off("the sender went away"))?;
            if let CopyPart::Data(data) = part {
                if !in_file {
                    return Err(broken_off("there are contents without a file"));
                }
                bytes = bytes.saturating_add(data.len() as u64);
                copy.data(&data).map_err(failed)?;
                continue;
            }
            if in_file {
                copy.end_of_file().map_err(failed)?;
            }
            let CopyPart::Entry(entry) = part else { break };
            in_file = entry.kind == EntryKind::Stream;
            copy.entry(&entry).map_err(failed)?;
        }
        within(&self.stream, COPY, || copy.finish()).map_err(failed)?;
        Ok(bytes)
    }

    /// Copies out of the guest: gives each part to `take`, until that returns false. Paths of entries are below the copied one.
    ///
    /// # Errors
    /// The guest cannot read something, or does not answer; `invalid_request` if `take` ended the copy.
    pub fn copy_out(
        mut self,
        request: &CopyOut,
        mut take: impl FnMut(CopyPart) -> bool,
    ) -> Result<(), Refusal> {
        self.be_patient()?;
        let name = self.name.clone();
        let mut give = |part| match take(part) {
            true => Ok(()),
            false => Err(CopyEnd::Receiver(broken_off("the receiver went away"))),
        };
        let copied = self.client.copy_out(request, |entry, contents| {
            give(CopyPart::Entry(entry.clone()))?;
            let mut chunk = vec![0; guest_protocol::MAX_PAYLOAD];
            loop {
                let length = contents.read(&mut chunk).map_err(ProtocolError::from)?;
                let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else {
                    return Ok(());
                };
                give(CopyPart::Data(read.to_vec()))?;
            }
        });
        let ended = copied.and_then(|()| give(CopyPart::End));
        ended.map_err(|end| match end {
            CopyEnd::Receiver(refusal) => refusal,
            CopyEnd::Guest(error) => own_refusal(&name, &error),
        })
    }

    fn be_patient(&self) -> Result<(), Refusal> {
        let patience = Some(COPY);
        let set = self.stream.set_read_timeout(patience);
        let set = set.and_then(|()| self.stream.set_write_timeout(patience));
        set.map_err(|error| no_descriptor(&error))
    }
}

impl GuestOutput {
    /// Waits for the command to write something, or to end.
    ///
    /// # Errors
    /// `agent_lost`.
    pub fn next_event(&mut self) -> Result<ExecEvent, Refusal> {
        let event = self.reader.next_event();
        event.map_err(|error| lost(own_refusal(&self.name, &error), "the command had started"))
    }
}

/// What a client can do with a command. Where the guest does not take it, the session is over, and its other direction says why.
impl GuestInput {
    /// Gives it input; whether the guest took it. The command may never read it: then this waits until the session ends.
    pub fn give(&mut self, bytes: &[u8]) -> bool {
        self.0.input(bytes).is_ok()
    }

    /// Ends its input.
    pub fn end(&mut self) -> bool {
        self.0.end_input().is_ok()
    }

    /// Changes the size of its terminal.
    pub fn resize(&mut self, size: WindowSize) -> bool {
        self.0.resize(size).is_ok()
    }

    /// Sends a signal to it and its group.
    pub fn signal(&mut self, signal: u8) -> bool {
        self.0.signal(signal).is_ok()
    }
}

/// Why a copy out of a guest ended early.
enum CopyEnd {
    Receiver(Refusal),
    Guest(ProtocolError),
}

impl From<ProtocolError> for CopyEnd {
    fn from(error: ProtocolError) -> Self {
        Self::Guest(error)
    }
}

fn expect_container(instance: &Instance) -> Result<(), Refusal> {
    if instance.options.container.is_some() {
        return Ok(());
    }
    let name = &instance.name;
    Err(Refusal::new(
        Code::InvalidState,
        format!(
            "the root of {name:?} is no container image, and qemu-guest-agent has no terminals, streams and copies"
        ),
        format!(
            "use `handover instance exec {name}` without -i and -t, or `handover instance ssh {name}`"
        ),
    ))
}

fn broken_off(why: &str) -> Refusal {
    let message = format!("the copy broke off: {why}");
    Refusal::new(Code::InvalidRequest, message, "copy again; files that had arrived are there")
}

fn no_descriptor(error: &std::io::Error) -> Refusal {
    let message = format!("the connection to the guest cannot be used: {error}");
    Refusal::new(
        Code::Internal,
        message,
        "check the daemon's limits (`systemctl show -p LimitNOFILE handover`)",
    )
}
