//! Running vendors' programs.

use std::process::{Command, Stdio};

use model::HostError;

use crate::problem;
use crate::root::Root;

/// Where programs are searched; like the worker's own `PATH`.
const PATH: [&str; 6] = ["usr/sbin", "usr/bin", "sbin", "bin", "usr/local/sbin", "usr/local/bin"];

/// The longest part of a program's output that goes into an error, in characters.
const WORDS: usize = 300;

/// The result of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Whether its exit status is 0.
    pub well: bool,
    /// Its standard output.
    pub output: String,
    /// The first line of its standard error, else of its output.
    pub words: String,
}

/// The path of a program below the root.
pub fn find(root: &Root, name: &str) -> Option<String> {
    PATH.iter().map(|dir| format!("{dir}/{name}")).find(|path| root.exists(path))
}

/// Runs a program to its end, without input. It has no timeout: after a kill it is unknown what it changed.
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
    let words = first.unwrap_or("no error message").trim().chars().take(WORDS).collect();
    Ok(Ran { well: output.status.success(), output: output_text, words })
}

/// The error for a missing program.
pub fn missing(root: &Root, name: &str, package: &str) -> HostError {
    let reason = format!("not installed; install {package}");
    problem::because(root, "run", name, rustix::io::Errno::NOENT, reason)
}
