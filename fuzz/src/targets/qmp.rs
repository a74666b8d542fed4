//! What a VMM says on its monitor. Its guest may have compromised it.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use model::Execution;
use serde_json::json;
use vmm::process::Vmm;
use vmm::qemu::Qemu;
use vmm::qemu::blockstats::disk_usage;
use vmm::qemu::execution::execution;
use vmm::qemu::qmp::Monitor;

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "qmp",
    reads: "a VMM's answers on its monitor, and its log",
    read,
    words: &[
        "{\"QMP\": {}}\n",
        "{\"return\": {}, \"id\": 1}\n",
        "{\"return\": [], \"id\": 2}\n",
        "{\"event\": \"STOP\"}\n",
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"",
        "\"id\": ",
        "\r\n",
        "\\u001b[2J",
        "\\u0000",
        "[",
        "{\"a\":",
    ],
    longest: 1 << 15,
};

fn read(bytes: &[u8]) -> Kind {
    let log = Qemu::new(None, &host::KernelFilter).explain(&String::from_utf8_lossy(bytes));
    assert!(!log.is_empty() && log.len() < 8000 && !log.contains(char::is_control), "{log:?}");
    let Ok((ours, mut theirs)) = UnixStream::pair() else { return Kind::of("no sockets") };
    // Everything is said before it is asked.
    let said = theirs.write_all(bytes).and_then(|()| theirs.shutdown(Shutdown::Write));
    assert!(said.is_ok(), "{said:?}");
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut monitor = match Monitor::begin(ours, deadline) {
        Ok(monitor) => monitor,
        Err(error) => return of_error(&error.to_string()),
    };
    let mut kind = Kind::of("monitor");
    for command in ["query-status", "cont", "quit"] {
        kind = kind.with(match monitor.execute(command, json!({}), deadline) {
            Ok(answer) => Kind::of(answer),
            Err(error) => of_error(&error.to_string()),
        });
    }
    kind = kind.with(match execution(&mut monitor, deadline) {
        Ok(Execution::Halted(halt)) => {
            let words = halt.to_string();
            assert!(words.len() < 8000 && !words.contains(char::is_control), "{words:?}");
            Kind::of(words)
        }
        Ok(runs) => Kind::of(format!("{runs:?}")),
        Err(error) => of_error(&error.to_string()),
    });
    kind.with(match disk_usage(&mut monitor, deadline) {
        Ok(_) => Kind::of("disks"),
        Err(error) => of_error(&error.to_string()),
    })
}

/// An error is shown on a terminal.
fn of_error(error: &str) -> Kind {
    assert!(!error.contains(char::is_control), "an error with control characters: {error:?}");
    assert!(!error.starts_with("timed out"), "{error}");
    Kind::of(error)
}
