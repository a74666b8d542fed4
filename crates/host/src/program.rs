//! Running the vendor's own programs.

use std::process::{Command, Stdio};

use model::HostError;

use crate::problem;
use crate::root::Root;

/// Where programs are; as the worker's own `PATH`.
const PATH: [&str; 6] = ["usr/sbin", "usr/bin", "sbin", "bin", "usr/local/sbin", "usr/local/bin"];

/// So much of what a program says goes into an error.
const WORDS: usize = 300;

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Whether it says that all went well.
    pub well: bool,
    /// What it wrote to its output.
    pub output: String,
    /// The first line of its complaints, else of its output.
    pub words: String,
}

/// Where a program is, below the root.
pub fn find(root: &Root, name: &str) -> Option<String> {
    PATH.iter().map(|dir| format!("{dir}/{name}")).find(|path| root.exists(path))
}

/// Runs a program to its end: whoever ended it in between would not know what it has changed. It has no input.
pub fn run(root: &Root, path: &str, args: &[&str]) -> Result<Ran, HostError> {
    let output = Command::new(root.path().join(path))
        .args(args)
        .env("LC_ALL", "C")
        // The worker's own input is the daemon's socket.
        .stdin(Stdio::null())
        .output()
        .map_err(|error| HostError::File {
            action: "run".into(),
            path: root.shown(path),
            reason: error.to_string(),
            errno: error.raw_os_error(),
        })?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (output_text, complaints) = (said(&output.stdout), said(&output.stderr));
    let first = [&complaints, &output_text].into_iter().find_map(|text| text.lines().next());
    let words = first.unwrap_or("it gave no reason").trim().chars().take(WORDS).collect();
    Ok(Ran { well: output.status.success(), output: output_text, words })
}

/// A program that is needed and not there.
pub fn missing(root: &Root, name: &str, package: &str) -> HostError {
    let reason = format!("it is not installed; install {package}");
    problem::because(root, "run", name, rustix::io::Errno::NOENT, reason)
}
