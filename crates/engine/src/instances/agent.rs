//! What instances do through the agents in their guests.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest_protocol::ProtocolError;
use model::{Code, Launcher, Refusal, Secret};
use uuid::Uuid;

use super::container::AGENT_PORT;
use super::pause::runs;
use super::{Instances, wrong_state};
use crate::guest_agent::{
    AgentError, Channel, GuestCommand, GuestExit, GuestInterface, OwnProcess, Place, Session,
    exited, interfaces, run, set_password,
};
use crate::{Instance, InstanceState};

/// How long an agent may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// The same for an answer that may be long: the output of a program. An emulated guest is slow.
const OUTPUT: Duration = Duration::from_secs(20);
/// The same if the answer only completes what is shown.
pub(super) const ASIDE: Duration = Duration::from_secs(1);

/// A program that runs in the guest of an instance. While it exists, the connection to the agent is kept open.
#[derive(Debug)]
pub struct GuestProcess {
    instance: Instance,
    kind: Kind,
    _place: Place,
}

/// By which agent a program runs.
#[derive(Debug)]
enum Kind {
    /// qemu-guest-agent.
    Qemu { pid: i64, session: Arc<Session> },
    /// Handover's own, in the guest of a container image.
    Own(OwnProcess),
}

impl GuestProcess {
    /// Its number in the guest, if the agent tells it.
    #[must_use]
    pub const fn pid(&self) -> Option<i64> {
        match self.kind {
            Kind::Qemu { pid, .. } => Some(pid),
            Kind::Own(_) => None,
        }
    }

    /// The instance.
    #[must_use]
    pub const fn instance(&self) -> &Instance {
        &self.instance
    }
}

impl Instances {
    /// Starts a program in the guest of an instance that runs.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if the instance does not run, or its machine has no port for an agent; `agent_silent`,
    /// `agent_refused`; `too_many_requests`.
    pub fn run_in_guest(&self, key: &str, command: &GuestCommand) -> Result<GuestProcess, Refusal> {
        let instance = self.with_agent(key)?;
        let place = self.agents.place(instance.id, &instance.name)?;
        if instance.options.container.is_some() {
            let process = self.run_in_container(&instance, command)?;
            tracing::info!(instance = %instance.name, "a program was started in the guest");
            return Ok(GuestProcess { instance, kind: Kind::Own(process), _place: place });
        }
        let session = self.agents.of(instance.id);
        let mut is_asked = false;
        let started = self.ask_agent(&instance, &session, ANSWER, |channel, until| {
            is_asked = true;
            run(channel, command, until)
        });
        let pid = started.map_err(|error| {
            let refusal = self.unanswered(&instance, &error);
            if is_asked { lost(refusal, "the command may have started") } else { refusal }
        })?;
        tracing::info!(instance = %instance.name, pid, "a program was started in the guest");
        Ok(GuestProcess { instance, kind: Kind::Qemu { pid, session }, _place: place })
    }

    /// How a program in a guest has ended; `None` while it runs. It is told once.
    ///
    /// # Errors
    /// `agent_silent`, `agent_refused`.
    pub fn guest_exit(&self, process: &GuestProcess) -> Result<Option<GuestExit>, Refusal> {
        let instance = &process.instance;
        let (pid, session) = match &process.kind {
            Kind::Qemu { pid, session } => (pid, session),
            Kind::Own(own) => {
                let told = own.exited();
                return told.map_err(|error| {
                    lost(own_refusal(&instance.name, &error), "the command had started")
                });
            }
        };
        let told = self
            .ask_agent(instance, session, OUTPUT, |channel, until| exited(channel, *pid, until));
        told.map_err(|error| {
            let refusal = self.unanswered(instance, &error);
            lost(refusal, &format!("the command had started as process {pid} of the guest"))
        })
    }

    /// Sets the password of a user of the guest of an instance that runs, by its hash.
    ///
    /// # Errors
    /// As [`run_in_guest`](Self::run_in_guest).
    pub fn set_guest_password(&self, key: &str, user: &str, hash: &str) -> Result<(), Refusal> {
        let instance = self.with_agent(key)?;
        if instance.options.container.is_some() {
            return Err(Refusal::new(
                Code::AgentRefused,
                format!("the root of {key:?} is a container image, whose agent sets no passwords"),
                format!("run the image's own tool: `handover instance exec {key} -- passwd`"),
            ));
        }
        let session = self.agents.of(instance.id);
        let set = self.ask_agent(&instance, &session, OUTPUT, |channel, until| {
            set_password(channel, user, hash, until)
        });
        set.map_err(|error| self.unanswered(&instance, &error))?;
        tracing::info!(instance = %instance.name, user, "the password of a user of the guest was set");
        Ok(())
    }

    /// The network interfaces of the guest of an instance that runs, as its agent tells them within a second; none if it
    /// does not. The guest can claim anything.
    #[must_use]
    pub fn guest_interfaces(&self, instance: &Instance) -> Vec<GuestInterface> {
        if instance.state != InstanceState::Running || !instance.options.agent {
            return Vec::new();
        }
        let session = self.agents.of(instance.id);
        let told = self.ask_agent(instance, &session, ASIDE, interfaces);
        told.unwrap_or_else(|error| {
            tracing::debug!(instance = %instance.name, %error, "the agent tells no addresses");
            Vec::new()
        })
    }

    /// An instance that runs, with a port for an agent.
    pub(super) fn with_agent(&self, key: &str) -> Result<Instance, Refusal> {
        let row = self.stored_instance(key)?;
        let name = &row.instance.name;
        let invalid = |message: String, remedy: String| {
            Err(Refusal::new(Code::InvalidState, message, remedy))
        };
        if !runs(&row.instance) {
            let start = format!("`handover instance start {name}` starts it");
            return Err(wrong_state(&row, "talked to", start));
        }
        if row.instance.state == InstanceState::Paused {
            return invalid(
                format!("the guest of {name:?} is paused"),
                format!("`handover instance resume {name}` lets it continue"),
            );
        }
        if !row.instance.options.agent && row.instance.options.container.is_none() {
            return invalid(
                format!(
                    "the machine of {name:?} has no port for an agent: an earlier version created it"
                ),
                format!(
                    "use `handover instance ssh {name}` or `handover instance console {name}`, or create it again"
                ),
            );
        }
        Ok(row.instance)
    }

    /// Starts a program by Handover's own agent.
    fn run_in_container(
        &self,
        instance: &Instance,
        command: &GuestCommand,
    ) -> Result<OwnProcess, Refusal> {
        let (stream, token) = self.own_stream(instance, ANSWER)?;
        OwnProcess::start(stream, token.reveal(), command, ANSWER)
            .map_err(|error| own_refusal(&instance.name, &error))
    }

    /// A connection to Handover's own agent, and the token that it knows.
    pub(super) fn own_stream<'a>(
        &self,
        instance: &'a Instance,
        within: Duration,
    ) -> Result<(UnixStream, &'a Secret), Refusal> {
        let name = &instance.name;
        let Some(token) = &instance.options.agent_token else {
            return Err(Refusal::new(
                Code::AgentSilent,
                format!(
                    "the agent in the guest of {name:?} cannot be reached: this host had no vsock when it started"
                ),
                "`modprobe vhost_vsock`, then stop and start the instance",
            ));
        };
        let launcher = self.launcher(&instance.hypervisor)?;
        let stream = launcher.open_vsock(instance.uid, AGENT_PORT, within);
        let stream = stream.map_err(|error| own_silent(name, &error.to_string()))?;
        Ok((stream, token))
    }

    fn ask_agent<T>(
        &self,
        instance: &Instance,
        session: &Session,
        patience: Duration,
        talk: impl FnOnce(&mut Channel, Instant) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        let launcher = self.launcher(&instance.hypervisor);
        let launcher = launcher.map_err(|refusal| std::io::Error::other(refusal.message))?;
        let until = Instant::now() + patience;
        session.talk(until, || port(launcher.as_ref(), instance.id), |channel| talk(channel, until))
    }

    /// The refusal for an agent that did not do what it was asked.
    fn unanswered(&self, instance: &Instance, error: &AgentError) -> Refusal {
        let name = &instance.name;
        if let AgentError::Refused { command, is_unknown, reason } = error {
            let (message, remedy) = if *is_unknown {
                (
                    format!(
                        "the agent in the guest of {name:?} does not allow `{command}`: {reason}"
                    ),
                    format!(
                        "allow it in the guest: some distributions block it in /etc/sysconfig/qemu-ga or \
                         /etc/qemu/qemu-ga.conf; or use `handover instance ssh {name}`"
                    ),
                )
            } else {
                (
                    format!("the agent in the guest of {name:?} refused: {reason}"),
                    "check the name of the command or user, and that the guest has it".into(),
                )
            };
            return Refusal::new(Code::AgentRefused, message, remedy);
        }
        if let Some(problem) = self.halted(instance) {
            let message = format!("the agent in the guest of {name:?} does not answer: {problem}");
            return Refusal::new(Code::AgentSilent, message, "see the message");
        }
        Refusal::new(
            Code::AgentSilent,
            format!("the agent in the guest of {name:?} does not answer: {error}"),
            format!(
                "install and start qemu-guest-agent in the guest (`apt install qemu-guest-agent`); a guest that still boots \
                 answers later: `handover instance logs {name}`"
            ),
        )
    }
}

/// The refusal for Handover's own agent that did not do what it was asked.
pub(super) fn own_refusal(name: &str, error: &ProtocolError) -> Refusal {
    let shown = model::shown::escaped(&error.to_string()).to_string();
    match error {
        ProtocolError::Refused { .. } => Refusal::new(
            Code::AgentRefused,
            format!("the agent in the guest of {name:?}: {shown}"),
            "check the name of the command or file, and that the image has it",
        ),
        ProtocolError::Stream(error) if is_late(error) => own_silent(name, "it took too long"),
        ProtocolError::Stream(error) => own_silent(name, &error.to_string()),
        _ => Refusal::new(
            Code::AgentSilent,
            format!("the agent in the guest of {name:?} does not answer: {shown}"),
            format!("`handover instance logs {name}` shows what the guest writes"),
        ),
    }
}

/// Whether a read or write took longer than its timeout (socket(7), `SO_RCVTIMEO`).
fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The refusal for Handover's own agent that cannot be reached.
fn own_silent(name: &str, why: &str) -> Refusal {
    Refusal::new(
        Code::AgentSilent,
        format!("the agent in the guest of {name:?} does not answer: {why}"),
        format!("a guest that still boots answers later: `handover instance logs {name}`"),
    )
}

/// The refusal after a command was asked for: repeating the request could run it twice.
pub(super) fn lost(refusal: Refusal, what: &str) -> Refusal {
    if refusal.code != Code::AgentSilent {
        return refusal;
    }
    Refusal {
        code: Code::AgentLost,
        message: format!("{}; {what}", refusal.message),
        remedy: "look in the guest whether it runs, before you repeat it".into(),
    }
}

/// Connects to the port of a machine.
fn port(launcher: &dyn Launcher, id: Uuid) -> Result<UnixStream, AgentError> {
    let opened =
        launcher.open_agent(id).map_err(|error| std::io::Error::other(error.to_string()))?;
    let missing = || std::io::Error::other("the machine was started without a port for an agent");
    Ok(opened.ok_or_else(missing)?)
}
