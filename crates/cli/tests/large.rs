//! A host with ten thousand functions.
#![allow(clippy::unwrap_used)]

use std::io::{BufWriter, Read};
use std::process::{Command, Stdio};

use xtask::tree::{self, ProcessCounts, Shape};

const FUNCTIONS: usize = 10_000;

/// The peak memory of the process, in KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_functions_are_listed_in_less_than_100_mib() {
    // As an archive, which is kept in memory.
    let mut host = tempfile::NamedTempFile::new().unwrap();
    let processes = ProcessCounts { processes: 20, files: 10 };
    let shape = Shape { functions: FUNCTIONS, whole: true, processes };
    tree::archive(BufWriter::new(&mut host), shape).unwrap();
    let mut listing = Command::new(env!("CARGO_BIN_EXE_handover"))
        .args(["ls", "--all", "--json", "--root"])
        .arg(host.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = vec![0];
    let mut output = listing.stdout.take().unwrap();
    output.read_exact(&mut text).unwrap();
    // The pipe is much smaller than the listing: the process blocks with everything in memory.
    let peak = peak(listing.id());
    output.read_to_end(&mut text).unwrap();
    assert!(listing.wait().unwrap().success());
    assert!(peak < 100 << 10, "{peak} KiB");
    let listed: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let rows = listed["assemblies"].as_array().unwrap();
    let members: usize = rows.iter().map(|row| row["members"].as_array().unwrap().len()).sum();
    assert_eq!(rows.len() + members, FUNCTIONS);
    let held = rows.iter().filter(|row| row["state"] == "in_use").count();
    assert_eq!(held, 1, "only the first card is held by a process");
}
