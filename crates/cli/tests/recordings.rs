//! The output of every reading command for each recorded host.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/recordings");

/// The device to show: a card that every topology of the lab has, or the only one of a rented machine.
fn card(host: &str) -> &'static str {
    if host.starts_with("rented") { "0000:00:06.0" } else { "0000:01:00.0" }
}

/// The empty string stands for the card.
const COMMANDS: [(&str, &[&str]); 5] = [
    ("ls", &["ls", "--all"]),
    ("show", &["show", ""]),
    ("topo", &["topo", "--all"]),
    ("doctor", &["doctor", "--all"]),
    ("catalog", &["catalog", "suggest"]),
];

fn recordings() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(RECORDINGS).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Replacements differ in each recording.
fn shown(recording: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_handover"))
        .args(arguments)
        .arg("--root")
        .arg(recording)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let status = output.status.code().unwrap();
    let place = recording.parent().unwrap().display().to_string();
    let text = format!("{}{}[{status}]\n", text(output.stdout), text(output.stderr));
    text.replace(&place, "recordings")
}

#[test]
fn each_command_shows_what_it_showed_of_each_recorded_host() {
    let recordings = recordings();
    assert!(recordings.len() >= 14, "{recordings:?}");
    for recording in recordings {
        let name = recording.file_name().unwrap().to_str().unwrap().to_owned();
        let host = name.split('.').next().unwrap();
        for (command, words) in COMMANDS {
            let arguments: Vec<&str> =
                words.iter().map(|word| if word.is_empty() { card(host) } else { word }).collect();
            insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(format!("{host}-{command}"), shown(&recording, &arguments));
            });
        }
    }
}
