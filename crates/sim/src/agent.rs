//! A stand-in for qemu-guest-agent: it answers by a table, and runs no program.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

/// The agent in a simulated guest. A program "runs" by its name: `true`, `false`, `cat` (repeats its input), `env` (prints its
/// environment), `yes` (never ends), `segfault` (ends by a signal); others do not exist.
#[derive(Clone, Debug, Default)]
pub struct SimAgent {
    /// Requests that the guest does not allow.
    blocked: Vec<String>,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Debug, Default)]
struct Inside {
    ends: Vec<Option<Value>>,
    passwords: Vec<(String, String)>,
}

impl SimAgent {
    /// An agent in a guest that does not allow this request.
    #[must_use]
    pub fn without(command: &str) -> Self {
        Self { blocked: vec![command.into()], ..Self::default() }
    }

    /// The users and hashes of the passwords that were set.
    #[must_use]
    pub fn passwords(&self) -> Vec<(String, String)> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).passwords.clone()
    }

    /// Serves one client until it closes the connection.
    pub(crate) fn serve(&self, stream: &UnixStream) {
        let mut out = stream;
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            let text = line.split(|byte| *byte == 0xff).next_back().unwrap_or_default();
            let request: Value = serde_json::from_slice(text).unwrap_or_default();
            line.clear();
            if out.write_all(&self.answer(&request).bytes(&request)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Value) -> Answer {
        let command = request["execute"].as_str().unwrap_or_default();
        let arguments = &request["arguments"];
        if self.blocked.iter().any(|blocked| blocked == command) {
            let reason = format!("The command {command} has been disabled for this instance");
            return Answer::refusal("CommandNotFound", &reason);
        }
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        match command {
            "guest-sync-delimited" => Answer(json!({"return": arguments["id"]})),
            "guest-exec" => inside.run(arguments),
            "guest-exec-status" => inside.status(arguments),
            "guest-set-user-password" => {
                let text = |key: &str| arguments[key].as_str().unwrap_or_default().to_owned();
                if text("username") == "none" {
                    return Answer::refusal("GenericError", "chpasswd: user none does not exist");
                }
                inside.passwords.push((text("username"), text("password")));
                Answer(json!({"return": {}}))
            }
            "guest-network-get-interfaces" => Answer(json!({"return": [{
                "name": "eth0", "hardware-address": "52:54:00:00:00:01",
                "ip-addresses": [{"ip-address": "192.0.2.7", "ip-address-type": "ipv4", "prefix": 24}],
            }]})),
            other => Answer::refusal(
                "CommandNotFound",
                &format!("The command {other} has not been found"),
            ),
        }
    }
}

impl Inside {
    fn run(&mut self, arguments: &Value) -> Answer {
        let end = match arguments["path"].as_str().unwrap_or_default() {
            "true" => Some(json!({"exited": true, "exitcode": 0})),
            "false" => Some(json!({"exited": true, "exitcode": 1})),
            "cat" => Some(json!({
                "exited": true, "exitcode": 0, "out-data": arguments.get("input-data").unwrap_or(&json!("")),
            })),
            // "no" and "warned" in base64.
            "warn" => Some(json!({
                "exited": true, "exitcode": 3, "out-data": "bm8=", "err-data": "d2FybmVk", "err-truncated": true,
            })),
            "segfault" => Some(json!({"exited": true, "signal": 11})),
            "yes" => None,
            other => {
                let reason = format!(
                    "Failed to execute child process “{other}” (No such file or directory)"
                );
                return Answer::refusal("GenericError", &reason);
            }
        };
        self.ends.push(end);
        Answer(json!({"return": {"pid": self.ends.len()}}))
    }

    fn status(&self, arguments: &Value) -> Answer {
        let number = arguments["pid"].as_u64().and_then(|pid| usize::try_from(pid).ok());
        let end = number.and_then(|pid| self.ends.get(pid.checked_sub(1)?));
        match end {
            None => Answer::refusal("GenericError", "PID does not exist"),
            Some(None) => Answer(json!({"return": {"exited": false}})),
            Some(Some(end)) => Answer(json!({"return": end})),
        }
    }
}

/// An answer of the agent's.
struct Answer(Value);

impl Answer {
    fn refusal(class: &str, reason: &str) -> Self {
        Self(json!({"error": {"class": class, "desc": reason}}))
    }

    /// The bytes of the answer to this request.
    fn bytes(&self, request: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        if request["execute"] == "guest-sync-delimited" {
            bytes.push(0xff);
        }
        bytes.extend(format!("{}\n", self.0).into_bytes());
        bytes
    }
}
