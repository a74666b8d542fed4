//! Images of podman's store, by the program podman: its store on the disk has no stable form.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::ContainerError;
use crate::{Cancel, ImageError};

/// How often it is checked whether the work was cancelled.
const TICK: Duration = Duration::from_millis(100);

/// The most that is read of what podman says.
const MOST_SAID: u64 = 4096;

/// Writes an image of podman's to a file, as an archive of a layout.
pub fn save(name: &str, to: &Path, cancel: &Cancel) -> Result<(), ImageError> {
    let failed = |problem: String| ContainerError::Podman { name: name.to_owned(), problem };
    let file = rustix::fs::memfd_create("podman", rustix::fs::MemfdFlags::CLOEXEC);
    let mut said = file.map(File::from).map_err(|error| failed(error.to_string()))?;
    let shared = said.try_clone().map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new("podman")
        .args(["image", "save", "--quiet", "--format", "oci-archive", "--output"])
        .arg(to)
        .args(["--", name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(shared))
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => failed("it is not installed: `apt install podman`".into()),
            _ => failed(error.to_string()),
        })?;
    let status = loop {
        if cancel.is_set() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(ImageError::Cancelled);
        }
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => thread::sleep(TICK),
            Err(error) => return Err(failed(error.to_string()).into()),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let read = io::Seek::rewind(&mut said)
        .and_then(|()| (&mut said).take(MOST_SAID).read_to_string(&mut text));
    let text = if read.is_ok() && !text.trim().is_empty() { text } else { status.to_string() };
    let line = text.trim().lines().last().unwrap_or_default();
    Err(failed(model::shown::escaped(line).into_owned()).into())
}
