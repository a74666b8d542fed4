//! A QEMU that has no guest: it speaks enough of the monitor's protocol, and misbehaves as the machine's name asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use serde_json::{Value, json};

/// The machine's name is how it behaves:
/// `good` works; `refuses` exits at once; `short` lacks its devices; `deaf` ignores the power button;
/// `ends` exits as soon as the guest runs; `mute` never answers; `full` finds no space for its disk as soon as it is paused;
/// `broken` fails as soon as it is paused.
pub fn main(arguments: &[String]) -> ExitCode {
    let behaviour = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("guest=")?.split(',').next())
        .unwrap_or_default();
    if behaviour == "refuses" {
        eprintln!(
            "qemu-system-x86_64: -device {{\"host\":\"0000:01:00.0\"}}: vfio 0000:01:00.0: group 12 is not viable"
        );
        return ExitCode::FAILURE;
    }
    let devices: Vec<Value> = arguments
        .iter()
        .filter_map(|argument| serde_json::from_str::<Value>(argument).ok())
        .filter_map(|device| Some(json!({"name": device.get("id")?, "type": "child<device>"})))
        .filter(|_| behaviour != "short")
        .collect();
    // The wrapper has made the monitor's socket our standard input.
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut status = "prelaunch";
    for stream in listener.incoming() {
        if let Some(code) = serve(stream.unwrap(), behaviour, &devices, &mut status) {
            return ExitCode::from(code);
        }
    }
    ExitCode::SUCCESS
}

/// The status of the guest after a command.
fn after(command: &str, behaviour: &str, status: &'static str) -> &'static str {
    match (command, behaviour, status) {
        ("stop", "full", _) | ("cont", _, "io-error") => "io-error",
        ("stop", "broken", _) => "internal-error",
        ("stop", _, "running") => "paused",
        ("cont", _, _) => "running",
        _ => status,
    }
}

/// Speaks to one client, and says with what status to end, if at all.
fn serve(
    mut stream: UnixStream,
    behaviour: &str,
    devices: &[Value],
    status: &mut &'static str,
) -> Option<u8> {
    if behaviour == "mute" {
        // Nothing comes before the client leaves.
        let _ = stream.read_to_end(&mut Vec::new());
        return None;
    }
    let greeting = json!({"QMP": {"version": {}, "capabilities": []}});
    stream.write_all(format!("{greeting}\r\n").as_bytes()).unwrap();
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let command: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let name = command["execute"].as_str().unwrap();
        *status = after(name, behaviour, status);
        let is_running = *status == "running";
        let answer = match name {
            "qom-list" => json!(devices),
            "query-status" => json!({"running": is_running, "status": *status}),
            "query-block" => json!([{"device": "", "io-status": "nospace"}]),
            "query-blockstats" => json!([
                {"qdev": "/machine/peripheral/disk0/virtio-backend", "stats": {"rd_bytes": 7, "wr_bytes": 8}},
                {"qdev": "/machine/system.flash1", "stats": {"rd_bytes": 1, "wr_bytes": 1}},
            ]),
            _ => json!({}),
        };
        let event = json!({"event": "NOISE", "timestamp": {"seconds": 0, "microseconds": 0}});
        let answer = json!({"return": answer, "id": command["id"]});
        let _ = stream.write_all(format!("{event}\r\n{answer}\r\n").as_bytes());
        match (name, behaviour) {
            ("query-status", "ends") => return Some(7),
            ("system_powerdown", "deaf") => {}
            ("system_powerdown", _) if is_running => return Some(0),
            ("quit", _) => return Some(3),
            _ => {}
        }
    }
    None
}
