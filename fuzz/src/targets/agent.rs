//! What the agent in a guest answers. The guest can answer anything.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use engine::guest_agent::{
    AgentError, Channel, GuestCommand, exited, interfaces, run, set_password,
};

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "agent",
    reads: "the answers of the agent in a guest",
    read,
    words: &[
        "\u{ff}",
        "{\"return\": 7}\n",
        "{\"return\": {\"pid\": 812}}\n",
        "{\"return\": {\"exited\": true, \"exitcode\": 0, \"out-data\": \"",
        "{\"return\": {\"exited\": false}}\n",
        "{\"return\": [{\"name\": \"eth0\", \"ip-addresses\": [{\"ip-address\": \"",
        "{\"return\": {}}\n",
        "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"",
        "\\u001b[2J",
        "\"signal\": ",
        "[",
        "{\"a\":",
    ],
    longest: 1 << 15,
};

/// The number that the agent is asked to answer with.
const NUMBER: u32 = 7;

fn read(bytes: &[u8]) -> Kind {
    let Ok((ours, mut theirs)) = UnixStream::pair() else { return Kind::of("no sockets") };
    // Everything is said before it is asked.
    let said = theirs.write_all(bytes).and_then(|()| theirs.shutdown(Shutdown::Write));
    assert!(said.is_ok(), "{said:?}");
    let until = Instant::now() + Duration::from_secs(2);
    let mut channel = match Channel::begin(ours, NUMBER, until) {
        Ok(channel) => channel,
        Err(error) => return of_error(&error),
    };
    let command = GuestCommand { words: vec!["true".into()], ..GuestCommand::default() };
    let started = run(&mut channel, &command, until);
    let pid = started.as_ref().copied().unwrap_or_default();
    let kind = Kind::of("agent").with(of(started));
    let kind = kind.with(of(exited(&mut channel, pid, until).map(|exit| {
        let exit = exit.unwrap_or_default();
        (exit.status.is_some(), exit.signal.is_some(), exit.stdout.is_empty())
    })));
    let kind = kind.with(of(interfaces(&mut channel, until).map(|all| {
        assert!(all.len() <= 64 && all.iter().all(|one| (1..=64).contains(&one.addresses.len())));
        all.len()
    })));
    kind.with(of(set_password(&mut channel, "root", "$6$a$b", until)))
}

fn of<T: std::fmt::Debug>(answer: Result<T, AgentError>) -> Kind {
    match answer {
        Ok(answer) => Kind::of(format!("{answer:?}")),
        Err(error) => of_error(&error),
    }
}

/// An error is shown on a terminal.
fn of_error(error: &AgentError) -> Kind {
    let text = error.to_string();
    assert!(!text.contains(char::is_control) && text.len() < 8000, "{text:?}");
    assert!(!matches!(error, AgentError::Silent(_)), "{text}");
    Kind::of(text)
}
