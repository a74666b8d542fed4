//! The requests to an agent that Handover makes, and their answers.

use std::net::IpAddr;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use super::channel::{AgentError, Channel};

/// The usual directories of programs, for a command with variables of its own.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest answer with the output of a program: the agent keeps 16 MiB of each of the two outputs
/// (`GUEST_EXEC_MAX_OUTPUT` in `qga/commands.c`), here in base64.
const MOST_OUTPUT: usize = 48 << 20;

/// The longest answer to another request.
const MOST_ANSWER: usize = 1 << 20;

/// The most interfaces, and addresses of each, that are read.
const MOST_INTERFACES: usize = 64;

/// A program to run in a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestCommand {
    /// The program, and its arguments.
    pub words: Vec<String>,
    /// Its environment, each as `NAME=VALUE`; if there are none, it is that of the agent.
    pub environment: Vec<String>,
    /// Its standard input.
    pub input: Vec<u8>,
}

/// How a program in a guest ended, and what it wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestExit {
    /// Its exit status, unless a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether it wrote more to standard output than the agent keeps.
    pub stdout_truncated: bool,
    /// Whether it wrote more to standard error than the agent keeps.
    pub stderr_truncated: bool,
}

/// A network interface of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestInterface {
    /// Its hardware address, as the guest writes it.
    pub mac: Option<String>,
    /// Its addresses, except those that only the guest itself, or its link, can use.
    pub addresses: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct Started {
    pid: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    exited: bool,
    exitcode: Option<i64>,
    signal: Option<i64>,
    out_data: Option<String>,
    err_data: Option<String>,
    #[serde(default)]
    out_truncated: bool,
    #[serde(default)]
    err_truncated: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Interface {
    hardware_address: Option<String>,
    #[serde(default)]
    ip_addresses: Vec<Address>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Address {
    ip_address: String,
}

/// Starts a program in the guest; its number there.
///
/// # Errors
/// See [`AgentError`].
pub fn run(
    channel: &mut Channel,
    command: &GuestCommand,
    deadline: Instant,
) -> Result<i64, AgentError> {
    let GuestCommand { words, environment, input } = command;
    let (path, arguments) = words.split_first().map_or(("", &[][..]), |(path, rest)| (path, rest));
    let mut wanted = json!({"path": path, "arg": arguments, "capture-output": true});
    let mut add = |key: &str, value: Value| {
        if let Some(fields) = wanted.as_object_mut() {
            fields.insert(key.into(), value);
        }
    };
    if !environment.is_empty() {
        // It is all that the command has.
        let has_path = environment.iter().any(|variable| variable.starts_with("PATH="));
        let path = (!has_path).then_some(PATH);
        let all: Vec<&str> = environment.iter().map(String::as_str).chain(path).collect();
        add("env", json!(all));
    }
    if !input.is_empty() {
        add("input-data", json!(BASE64.encode(input)));
    }
    let started: Started = channel.call("guest-exec", &wanted, MOST_ANSWER, deadline)?;
    Ok(started.pid)
}

/// How a program that was started with [`run`] has ended; `None` while it runs. The agent tells it once.
///
/// # Errors
/// See [`AgentError`].
pub fn exited(
    channel: &mut Channel,
    pid: i64,
    deadline: Instant,
) -> Result<Option<GuestExit>, AgentError> {
    const COMMAND: &str = "guest-exec-status";
    let status: Status = channel.call(COMMAND, &json!({"pid": pid}), MOST_OUTPUT, deadline)?;
    if !status.exited {
        return Ok(None);
    }
    let number = |value: Option<i64>| value.and_then(|value| i32::try_from(value).ok());
    let bytes = |text: Option<String>| {
        BASE64.decode(text.unwrap_or_default()).map_err(|error| {
            AgentError::Malformed(COMMAND.into(), format!("the output is not base64: {error}"))
        })
    };
    Ok(Some(GuestExit {
        status: number(status.exitcode),
        signal: number(status.signal),
        stdout: bytes(status.out_data)?,
        stderr: bytes(status.err_data)?,
        stdout_truncated: status.out_truncated,
        stderr_truncated: status.err_truncated,
    }))
}

/// Sets the password of a user of the guest.
///
/// # Errors
/// See [`AgentError`].
pub fn set_password(
    channel: &mut Channel,
    user: &str,
    hash: &str,
    deadline: Instant,
) -> Result<(), AgentError> {
    let password = BASE64.encode(hash);
    let wanted = json!({"username": user, "password": password, "crypted": true});
    channel.tell("guest-set-user-password", &wanted, deadline)
}

/// The guest's network interfaces, except its loopback.
///
/// # Errors
/// See [`AgentError`].
pub fn interfaces(
    channel: &mut Channel,
    deadline: Instant,
) -> Result<Vec<GuestInterface>, AgentError> {
    const COMMAND: &str = "guest-network-get-interfaces";
    let all: Vec<Interface> = channel.call(COMMAND, &json!({}), MOST_ANSWER, deadline)?;
    let interface = |one: Interface| {
        let addresses = one.ip_addresses.into_iter().take(MOST_INTERFACES);
        let addresses = addresses.filter_map(|one| one.ip_address.parse().ok());
        GuestInterface {
            mac: one.hardware_address.filter(|mac| mac.len() <= 17),
            addresses: addresses.filter(is_of_use).collect(),
        }
    };
    let all = all.into_iter().take(MOST_INTERFACES).map(interface);
    Ok(all.filter(|one| !one.addresses.is_empty()).collect())
}

/// Whether others can reach a guest by this address.
fn is_of_use(address: &IpAddr) -> bool {
    // An IPv4 address in the form of IPv6 is that address.
    let address = address.to_canonical();
    let is_of_link = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !is_of_link
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// A channel to an agent that gives one answer, and what it is asked.
    fn answering(answer: &str) -> (Channel, JoinHandle<Value>) {
        let (ours, mut its) = UnixStream::pair().unwrap();
        let answer = format!("{answer}\n");
        let agent = thread::spawn(move || {
            let mut asked = BufReader::new(its.try_clone().unwrap());
            let mut line = Vec::new();
            asked.read_until(b'\n', &mut line).unwrap();
            its.write_all(b"\xff{\"return\": 7}\n").unwrap();
            line.clear();
            asked.read_until(b'\n', &mut line).unwrap();
            its.write_all(answer.as_bytes()).unwrap();
            serde_json::from_slice(&line).unwrap()
        });
        (Channel::begin(ours, 7, soon()).unwrap(), agent)
    }

    #[test]
    fn a_program_is_started_with_its_words_environment_and_input() {
        let (mut channel, agent) = answering(r#"{"return": {"pid": 812}}"#);
        let command = GuestCommand {
            words: vec!["sh".into(), "-c".into(), "a \"b\"".into()],
            environment: vec!["A=1".into()],
            input: b"\0\xff".into(),
        };
        assert_eq!(run(&mut channel, &command, soon()).unwrap(), 812);
        let expected = json!({"execute": "guest-exec", "arguments": {
            "path": "sh", "arg": ["-c", "a \"b\""], "env": ["A=1", PATH], "input-data": "AP8=",
            "capture-output": true,
        }});
        assert_eq!(agent.join().unwrap(), expected);
    }

    #[test]
    fn the_end_of_a_program_is_read_from_every_form() {
        let end = |answer: &str| {
            let (mut channel, agent) = answering(&format!("{{\"return\": {answer}}}"));
            let end = exited(&mut channel, 812, soon());
            agent.join().unwrap();
            end
        };
        assert_eq!(end(r#"{"exited": false}"#).unwrap(), None);
        let written = end(
            r#"{"exited": true, "exitcode": 3, "out-data": "/wo=", "err-data": "ZQ==", "out-truncated": true}"#,
        );
        let expected = GuestExit {
            status: Some(3),
            stdout: vec![0xff, b'\n'],
            stderr: b"e".into(),
            stdout_truncated: true,
            ..GuestExit::default()
        };
        assert_eq!(written.unwrap(), Some(expected));
        let killed = end(r#"{"exited": true, "signal": 9}"#).unwrap().unwrap();
        assert_eq!((killed.status, killed.signal), (None, Some(9)));
        assert!(end(r#"{"exited": true, "out-data": "*"}"#).is_err());
        let odd = end(r#"{"exited": true, "exitcode": 99999999999}"#).unwrap().unwrap();
        assert_eq!(odd.status, None);
    }

    #[test]
    fn addresses_that_only_the_guest_can_use_are_left_out() {
        let (mut channel, agent) = answering(
            r#"{"return": [{"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8}]},
                {"name": "eth0", "hardware-address": "52:54:00:12:34:56", "ip-addresses": [{"ip-address": "192.0.2.7"},
                {"ip-address": "fe80::1"}, {"ip-address": "x"}, {"ip-address": "2001:db8::7"}]}, {"name": "eth1"}]}"#
                .replace('\n', "")
                .as_str(),
        );
        let found = interfaces(&mut channel, soon()).unwrap();
        agent.join().unwrap();
        let addresses = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(found, [GuestInterface { mac: Some("52:54:00:12:34:56".into()), addresses }]);
    }

    #[test]
    fn only_the_hash_of_a_password_is_sent() {
        let (mut channel, agent) = answering(r#"{"return": {}}"#);
        set_password(&mut channel, "root", "$6$salt$hash", soon()).unwrap();
        let asked = agent.join().unwrap();
        assert_eq!(asked["arguments"]["crypted"], true);
        assert_eq!(asked["arguments"]["password"], BASE64.encode("$6$salt$hash"));
    }
}
