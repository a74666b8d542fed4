//! A minimal client for QEMU's monitor protocol (QMP): one command after another over a socket, each with a deadline.
//! Events wait until they are asked for: the machine's end is detected by its pidfd.
//!
//! The peer is a VMM that its guest may have compromised. So the length of an answer is limited, and no answer is
//! trusted.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::fd::AsFd;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use crate::process::ControlError;

/// The longest answer.
const MOST_ANSWER_BYTES: usize = 1 << 20;

/// The most events that are kept.
const MOST_EVENTS: usize = 64;

/// A connection to a monitor in command mode.
#[derive(Debug)]
pub struct Monitor {
    stream: UnixStream,
    received: Vec<u8>,
    commands: u64,
    /// Events that were received and not asked for yet.
    events: VecDeque<Value>,
}

impl Monitor {
    /// Waits for the greeting and negotiates capabilities.
    ///
    /// # Errors
    /// The peer is not a monitor, or does not answer in time.
    pub fn begin(stream: UnixStream, deadline: Instant) -> Result<Self, ControlError> {
        let mut monitor =
            Self { stream, received: Vec::new(), commands: 0, events: VecDeque::new() };
        let greeting = monitor.receive("the greeting", deadline)?;
        if greeting.get("QMP").is_none() {
            return Err(malformed("the greeting", "not a QMP monitor"));
        }
        monitor.execute("qmp_capabilities", json!({}), deadline)?;
        Ok(monitor)
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// The peer refuses the command, closes the connection, or does not answer in time.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        deadline: Instant,
    ) -> Result<Value, ControlError> {
        let (id, line) = self.line(command, &arguments);
        self.stream.set_write_timeout(Some(left(command, deadline)?))?;
        self.stream.write_all(&line).map_err(|error| failed(command, error))?;
        self.answer(command, id, deadline)
    }

    /// Passes a descriptor, which later commands name.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn pass(
        &mut self,
        descriptor: &impl AsFd,
        name: &str,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        self.send_with(descriptor, "getfd", &json!({"fdname": name}), deadline)
    }

    /// Passes a descriptor into the set of this number, which files name as `/dev/fdset/NUMBER`.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn pass_in_set(
        &mut self,
        descriptor: &impl AsFd,
        set: u32,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        self.send_with(descriptor, "add-fd", &json!({"fdset-id": set}), deadline)
    }

    /// Sends a command with a descriptor beside it.
    fn send_with(
        &mut self,
        descriptor: &impl AsFd,
        command: &str,
        arguments: &Value,
        deadline: Instant,
    ) -> Result<(), ControlError> {
        let (id, line) = self.line(command, arguments);
        self.stream.set_write_timeout(Some(left(command, deadline)?))?;
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let sent =
            sendmsg(&self.stream, &[IoSlice::new(&line)], &mut ancillary, SendFlags::NOSIGNAL);
        let sent = sent.map_err(|error| failed(command, error.into()))?;
        let rest = line.get(sent..).unwrap_or_default();
        self.stream.write_all(rest).map_err(|error| failed(command, error))?;
        self.answer(command, id, deadline).map(drop)
    }

    /// The next event; `None` if there is none until then.
    ///
    /// # Errors
    /// The peer closes the connection, or does not send JSON.
    pub fn event(&mut self, until: Instant) -> Result<Option<Value>, ControlError> {
        while self.events.is_empty() {
            match self.receive("an event", until) {
                Ok(message) => self.keep_event(message),
                Err(ControlError::Deadline(_)) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.events.pop_front())
    }

    /// Keeps a message that is an event. A peer that sends too many loses the oldest.
    fn keep_event(&mut self, message: Value) {
        if message.get("event").is_none() {
            return;
        }
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(message);
    }

    /// The line of the next command, and its id.
    fn line(&mut self, command: &str, arguments: &Value) -> (u64, Vec<u8>) {
        self.commands += 1;
        let id = self.commands;
        let message = json!({"execute": command, "arguments": arguments, "id": id});
        (id, format!("{message}\r\n").into_bytes())
    }

    /// Waits for the answer to the command with this id.
    fn answer(&mut self, command: &str, id: u64, deadline: Instant) -> Result<Value, ControlError> {
        loop {
            let mut answer = self.receive(command, deadline)?;
            // Events carry no id; a late answer to an earlier command carries another.
            if answer.get("id").and_then(Value::as_u64) != Some(id) {
                self.keep_event(answer);
                continue;
            }
            if let Some(error) = answer.get("error") {
                let reason = error.get("desc").and_then(Value::as_str).unwrap_or("no description");
                return Err(ControlError::Refused(command.into(), reason.into()));
            }
            return answer
                .get_mut("return")
                .map(Value::take)
                .ok_or_else(|| malformed(command, "neither `return` nor `error`"));
        }
    }

    /// Receives the next message: a line with a JSON object.
    fn receive(&mut self, command: &str, deadline: Instant) -> Result<Value, ControlError> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map_err(|error| malformed(command, &error.to_string()));
            }
            if self.received.len() > MOST_ANSWER_BYTES {
                return Err(malformed(command, "too long"));
            }
            self.stream.set_read_timeout(Some(left(command, deadline)?))?;
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ControlError::Closed),
                Ok(count) => self.received.extend(chunk.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(command, error)),
            }
        }
    }
}

/// The remaining time; an error if there is none, because a timeout of zero would mean no timeout.
fn left(command: &str, deadline: Instant) -> Result<std::time::Duration, ControlError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ControlError::Deadline(command.into())) } else { Ok(left) }
}

fn failed(command: &str, error: io::Error) -> ControlError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            ControlError::Deadline(command.into())
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ControlError::Closed,
        _ => error.into(),
    }
}

fn malformed(command: &str, problem: &str) -> ControlError {
    ControlError::Malformed(command.into(), problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::thread;
    use std::time::Duration;

    const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    /// A monitor that greets, then answers each command with the result of `answer` for its name and id, and closes the
    /// connection on `None`.
    fn monitor(
        answer: impl Fn(&str, u64) -> Option<String> + Send + 'static,
    ) -> Result<Monitor, ControlError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
            let mut theirs = theirs;
            let _ = theirs.write_all(GREETING.as_bytes());
            while let Some(Ok(line)) = lines.next() {
                let message: Value = serde_json::from_str(&line).unwrap();
                let command = message["execute"].as_str().unwrap();
                match answer(command, message["id"].as_u64().unwrap()) {
                    Some(text) => drop(theirs.write_all(text.as_bytes())),
                    None => return,
                }
            }
        });
        Monitor::begin(ours, soon())
    }

    fn fine(id: u64) -> String {
        format!("{{\"return\": {{}}, \"id\": {id}}}\r\n")
    }

    #[test]
    fn events_and_late_answers_are_skipped() {
        let mut monitor = monitor(|_, id| {
            let event = "{\"event\": \"RESUME\", \"timestamp\": {\"seconds\": 1}}\r\n";
            let late = fine(id.wrapping_sub(1));
            Some(format!(
                "{event}{late}{event}{{\"return\": {{\"turn\": {id}}}, \"id\": {id}}}\r\n"
            ))
        })
        .unwrap();
        for turn in 2..5 {
            assert_eq!(monitor.execute("stop", json!({}), soon()).unwrap()["turn"], turn);
        }
        for _ in 0..8 {
            assert_eq!(monitor.event(soon()).unwrap().unwrap()["event"], "RESUME");
        }
        let now = Instant::now() + Duration::from_millis(1);
        assert_eq!(monitor.event(now).unwrap(), None);
    }

    #[test]
    fn a_refusal_is_passed_on_in_its_own_words() {
        let mut monitor = monitor(|command, id| match command {
            "qmp_capabilities" => Some(fine(id)),
            _ => Some(format!(
                "{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"no\"}}, \"id\": {id}}}\n"
            )),
        })
        .unwrap();
        let error = monitor.execute("cont", json!({}), soon()).unwrap_err();
        assert_eq!(error.to_string(), "the VMM refused `cont`: no");
    }

    #[test]
    fn an_end_garbage_and_an_endless_answer_are_distinguished() {
        assert!(matches!(monitor(|_, _| None), Err(ControlError::Closed)));
        let garbage = monitor(|_, _| Some("what?\n".into()));
        assert!(matches!(garbage, Err(ControlError::Malformed(..))));
        let endless = monitor(|_, _| Some("x".repeat(MOST_ANSWER_BYTES + 8192)));
        assert!(
            matches!(endless, Err(ControlError::Malformed(_, why)) if why.contains("too long"))
        );
        let empty = monitor(|_, id| Some(format!("{{\"id\": {id}}}\n")));
        assert!(matches!(empty, Err(ControlError::Malformed(..))));
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let mut monitor = monitor(|command, id| match command {
            "qmp_capabilities" => Some(fine(id)),
            _ => Some(String::new()),
        })
        .unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        let error = monitor.execute("query-status", json!({}), soon).unwrap_err();
        let expected = "timed out while waiting for the VMM's answer to `query-status`";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn other_protocols_are_refused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{\"hello\": 1}\n").unwrap();
        assert!(matches!(Monitor::begin(ours, soon()), Err(ControlError::Malformed(..))));
    }
}
