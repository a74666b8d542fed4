//! Reads a host and performs single steps on it, for trying the crate in the lab: `host ls [ROOT]`,
//! `host holders ADDRESS...`, `host found ADDRESS...`, `host check ADDRESS...`, `host vf PARENT INDEX`,
//! `host step JSON...`, `host ping`. It starts itself as a worker.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use host::{HostConfig, LinuxHost};
use model::{Address, Host, Step};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["worker"] => return host::worker::main(),
        ["ls", rest @ ..] => list(rest.first().unwrap_or(&"/")),
        ["holders", rest @ ..] => show(&this_host().holders(&addresses(rest)).unwrap()),
        ["found", rest @ ..] => show(&this_host().as_found(&addresses(rest)).unwrap()),
        ["check", rest @ ..] => {
            let host = this_host();
            let found = host.as_found(&addresses(rest)).unwrap();
            let look = |found: &model::AsFound| host.check(found.address, found.link);
            show(&found.iter().map(look).collect::<Vec<_>>());
        }
        ["vf", parent, index] => {
            let settings = this_host().vf_settings(parent.parse().unwrap(), index.parse().unwrap());
            show(&settings);
        }
        ["ping"] => ping(),
        ["step", rest @ ..] => return steps(rest),
        _ => panic!("unknown command"),
    }
    ExitCode::SUCCESS
}

fn this_host() -> LinuxHost {
    LinuxHost::new(HostConfig::this_host("/run/handover-example".into())).unwrap()
}

fn addresses(words: &[&str]) -> Vec<Address> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

fn show<T: serde::Serialize>(value: &T) {
    println!("{}", serde_json::to_string_pretty(value).unwrap());
}

fn list(root: &str) {
    let host = LinuxHost::reader(Path::new(root)).unwrap();
    let first = Instant::now();
    let inventory = host.inventory().unwrap();
    let first = first.elapsed();
    let again = Instant::now();
    let _ = host.inventory().unwrap();
    show(&inventory);
    println!("{:?} {:?}", host.capacity(), host.boot_id());
    eprintln!("{} functions: {first:?}, again {:?}", inventory.functions.len(), again.elapsed());
}

fn ping() {
    let host = this_host();
    host.round_trip().unwrap();
    let start = Instant::now();
    for _ in 0..1000 {
        host.round_trip().unwrap();
    }
    println!("{:?} for a round trip", start.elapsed() / 1000);
}

/// Performs steps one after another, and prints a line of JSON for each: the observation before, the result, the
/// observation after, and the duration.
fn steps(words: &[&str]) -> ExitCode {
    let host = this_host();
    let mut code = ExitCode::SUCCESS;
    for word in words {
        let step: Step = serde_json::from_str(word).unwrap();
        let before = host.observe(&step);
        let start = Instant::now();
        let result = host.perform(&step);
        let took = start.elapsed();
        if result.is_err() {
            code = ExitCode::FAILURE;
        }
        let line = serde_json::json!({
            "step": step.describe(),
            "before": before,
            "result": result,
            "after": host.observe(&step),
            "ms": took.as_millis(),
        });
        println!("{line}");
    }
    code
}
