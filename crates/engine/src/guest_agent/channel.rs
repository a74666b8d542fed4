//! A connection to the agent: one request after another, each with a deadline (QEMU's source, `qga/qapi-schema.json`).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use model::shown::escaped;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

/// Begins a message that a reader can find after an unfinished one: no text in UTF-8 has this byte.
const DELIMITER: u8 = 0xff;

/// The longest answer to the first request, which has a number in it.
const MOST_OF_SYNC: usize = 4096;

/// The longest text of the guest's that is shown, in characters.
const MOST_SHOWN: usize = 500;

/// The size of a read.
const CHUNK: usize = 64 << 10;

/// An error of a conversation with an agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It did not answer this request in time.
    #[error("no answer to `{0}`")]
    Silent(String),
    /// The VMM closed the connection.
    #[error("the hypervisor closed the connection to the agent")]
    Closed,
    /// Its answer to this request is not one of the protocol.
    #[error("invalid answer to `{0}`: {1}")]
    Malformed(String, String),
    /// It refused this request.
    #[error("{reason}")]
    Refused {
        /// The request.
        command: String,
        /// Whether it does not know this request, or is not allowed to perform it.
        is_unknown: bool,
        /// Why, in its words.
        reason: String,
    },
    /// The socket failed.
    #[error("cannot talk to the agent: {0}")]
    Io(#[from] io::Error),
}

/// A connection to an agent that has answered.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
}

/// What the agent answers a request with.
#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    result: Option<T>,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    class: String,
    #[serde(default)]
    desc: String,
}

impl Channel {
    /// Waits until the agent answers with this number, and discards everything that it has said before: the rest of an
    /// answer to an earlier client.
    ///
    /// # Errors
    /// There is no agent, or it does not answer in time.
    pub fn begin(stream: UnixStream, number: u32, deadline: Instant) -> Result<Self, AgentError> {
        const COMMAND: &str = "guest-sync-delimited";
        // Launchers connect without waiting.
        stream.set_nonblocking(false)?;
        let mut channel = Self { stream, received: Vec::new() };
        let message = json!({"execute": COMMAND, "arguments": {"id": number}});
        // The delimiter ends what an earlier client has not finished.
        let mut line = vec![DELIMITER];
        line.extend(format!("{message}\n").into_bytes());
        channel.send(COMMAND, &line, deadline)?;
        loop {
            channel.skip_to_delimiter(COMMAND, deadline)?;
            let Ok(line) = channel.line(COMMAND, MOST_OF_SYNC, deadline) else {
                left(COMMAND, deadline)?;
                if channel.received.is_empty() {
                    return Err(AgentError::Closed);
                }
                continue;
            };
            let text = line.rsplit(|byte| *byte == DELIMITER).next().unwrap_or_default();
            let answer: Option<Answer<u32>> = serde_json::from_slice(text).ok();
            if answer.and_then(|answer| answer.result) == Some(number) {
                return Ok(channel);
            }
        }
    }

    /// Sends a request and waits for its answer, of at most `most` bytes. After another error than a refusal, the
    /// connection cannot be used any longer.
    ///
    /// # Errors
    /// The agent refuses, does not answer in time, or its answer is too long or not of this form.
    pub fn call<T: DeserializeOwned>(
        &mut self,
        command: &str,
        arguments: &Value,
        most: usize,
        deadline: Instant,
    ) -> Result<T, AgentError> {
        let message = json!({"execute": command, "arguments": arguments});
        self.send(command, format!("{message}\n").as_bytes(), deadline)?;
        let line = self.line(command, most, deadline)?;
        // An error comes first: it has no result, whatever its form.
        let answer = serde_json::from_slice::<Answer<T>>(&line);
        match answer {
            Ok(Answer { error: Some(problem), .. }) => Err(AgentError::Refused {
                command: command.into(),
                is_unknown: problem.class == "CommandNotFound",
                reason: shown(&problem.desc),
            }),
            Ok(Answer { result: Some(result), .. }) => Ok(result),
            Ok(_) => Err(malformed(command, "neither `return` nor `error`")),
            Err(error) => Err(malformed(command, &error.to_string())),
        }
    }

    /// The same for a request whose answer says only that it was done.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn tell(
        &mut self,
        command: &str,
        arguments: &Value,
        deadline: Instant,
    ) -> Result<(), AgentError> {
        self.call::<IgnoredAny>(command, arguments, MOST_OF_SYNC, deadline).map(drop)
    }

    fn send(&mut self, command: &str, bytes: &[u8], deadline: Instant) -> Result<(), AgentError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(left(command, deadline)?))?;
            match self.stream.write(rest) {
                Ok(0) => return Err(AgentError::Closed),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(command, error)),
            }
        }
        Ok(())
    }

    /// Discards what was received before a delimiter, and the delimiter.
    fn skip_to_delimiter(&mut self, command: &str, deadline: Instant) -> Result<(), AgentError> {
        loop {
            if let Some(at) = self.received.iter().position(|byte| *byte == DELIMITER) {
                self.received.drain(..=at);
                return Ok(());
            }
            self.received.clear();
            self.receive(command, deadline)?;
        }
    }

    /// The next line, of at most `most` bytes.
    fn line(
        &mut self,
        command: &str,
        most: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, AgentError> {
        let mut searched = 0;
        loop {
            let new = self.received.get(searched..).unwrap_or_default();
            if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
                let rest = self.received.split_off(searched + at + 1);
                return Ok(std::mem::replace(&mut self.received, rest));
            }
            searched = self.received.len();
            if searched > most {
                return Err(malformed(command, "too long"));
            }
            self.receive(command, deadline)?;
        }
    }

    fn receive(&mut self, command: &str, deadline: Instant) -> Result<(), AgentError> {
        let mut chunk = vec![0; CHUNK];
        loop {
            self.stream.set_read_timeout(Some(left(command, deadline)?))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(AgentError::Closed),
                Ok(count) => {
                    self.received.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(command, error)),
            }
        }
    }
}

/// The remaining time; an error if there is none, because a timeout of zero would mean no timeout.
fn left(command: &str, deadline: Instant) -> Result<Duration, AgentError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(AgentError::Silent(command.into())) } else { Ok(left) }
}

fn failed(command: &str, error: io::Error) -> AgentError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AgentError::Silent(command.into()),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => AgentError::Closed,
        _ => error.into(),
    }
}

fn malformed(command: &str, problem: &str) -> AgentError {
    AgentError::Malformed(command.into(), shown(problem))
}

/// A text of the guest's, for an error: not too long, and without control characters.
fn shown(text: &str) -> String {
    let text: String = text.trim().chars().take(MOST_SHOWN).collect();
    escaped(&text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use std::thread;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// A channel to an agent that has said all this before it is asked, and the agent's end.
    fn said(bytes: &[u8]) -> Result<(Channel, UnixStream), AgentError> {
        let (ours, mut its) = UnixStream::pair().unwrap();
        its.write_all(bytes).unwrap();
        its.shutdown(Shutdown::Write).unwrap();
        Channel::begin(ours, 7, soon()).map(|channel| (channel, its))
    }

    #[test]
    fn what_was_said_to_an_earlier_client_is_discarded() {
        for before in [
            &b""[..],
            b"{\"return\": {\"exited\": true, \"out-data\": \"unfinished",
            b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"Invalid JSON syntax\"}}\n",
            b"\xff{\"return\": 6}\n",
            b"\xff{\"return\": 6",
            b"\xff\xff\xff",
        ] {
            let (mut channel, _its) =
                said(&[before, b"\xff{\"return\": 7}\n{\"return\": 5}\n"].concat()).unwrap();
            let answer: u32 = channel.call("guest-x", &json!({}), 100, soon()).unwrap();
            assert_eq!(answer, 5);
        }
        assert!(matches!(said(b"\xff{\"return\": 6}\n"), Err(AgentError::Closed)));
        assert!(matches!(said(b"\xff{\"return\": 7}"), Err(AgentError::Closed)));
    }

    #[test]
    fn a_silent_agent_ends_with_the_deadline() {
        let (ours, _its) = UnixStream::pair().unwrap();
        let error =
            Channel::begin(ours, 7, Instant::now() + Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, AgentError::Silent(_)), "{error}");
    }

    #[test]
    fn an_agent_that_never_stops_talking_ends_with_the_deadline() {
        for noise in [&b"x"[..], b"\xff", b"\xff{\"return\": 6}\n"] {
            let (ours, mut its) = UnixStream::pair().unwrap();
            let talk = noise.repeat(5000);
            let talking = thread::spawn(move || while its.write_all(&talk).is_ok() {});
            let error =
                Channel::begin(ours, 7, Instant::now() + Duration::from_millis(100)).unwrap_err();
            assert!(matches!(error, AgentError::Silent(_)), "{error}");
            talking.join().unwrap();
        }
    }

    #[test]
    fn answers_are_bounded_and_shown_without_control_characters() {
        let answer = |text: &str| {
            let bytes = [b"\xff{\"return\": 7}\n", text.as_bytes()].concat();
            let (mut channel, _its) = said(&bytes).unwrap();
            channel.call::<u32>("guest-x", &json!({}), 100, soon()).unwrap_err()
        };
        let refused =
            answer("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"a\\u001bb\"}}\n");
        let AgentError::Refused { is_unknown, reason, .. } = refused else { panic!("{refused}") };
        assert_eq!((is_unknown, reason.as_str()), (true, "a\\u001bb"));
        let long = format!("{{\"return\": \"{}\"}}\n", "x".repeat(CHUNK * 2));
        assert!(answer(&long).to_string().contains("too long"));
        let deep = "[".repeat(60) + "\n";
        for wrong in ["{}\n", "\u{1b}\n", "{\"return\": \"5\"}\n", &deep] {
            let error = answer(wrong);
            assert!(matches!(error, AgentError::Malformed(..)), "{error}");
        }
    }
}
