//! Finding programs, asking them for their version, and waiting for them.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long a program may take to tell its version. An emulated host is slow.
const TELLING: Duration = Duration::from_secs(20);

/// The most of a program's output that is read, in bytes.
const MOST_OUTPUT: u64 = 16 << 10;

/// A program on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|path| path.is_absolute() && is_executable(path))
}

/// Whether a file can be executed.
pub fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// What a program prints about its version, cached until the file changes.
#[derive(Debug, Default)]
pub struct VersionText(Mutex<Option<Told>>);

#[derive(Debug)]
struct Told {
    path: PathBuf,
    modified: SystemTime,
    text: String,
}

impl VersionText {
    /// The output of the program with these arguments.
    ///
    /// # Errors
    /// Why there is none, in words: the file cannot be run, does not exit in time, or exits with another status than 0.
    pub fn of(&self, path: &Path, arguments: &[&str]) -> Result<String, String> {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
        let modified = modified.map_err(|error| format!("cannot stat it: {error}"))?;
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = &*told
            && told.modified == modified
            && told.path == path
        {
            return Ok(told.text.clone());
        }
        let text = version(path, arguments)?;
        *told = Some(Told { path: path.to_owned(), modified, text: text.clone() });
        Ok(text)
    }
}

/// What a program prints with these arguments, whatever its exit status is; an error says why there is nothing.
pub fn printed(path: &Path, arguments: &[&str]) -> Result<String, String> {
    tell(path, arguments, TELLING).map(|(_, text)| text)
}

/// What a program prints about its version.
fn version(path: &Path, arguments: &[&str]) -> Result<String, String> {
    let (status, text) = tell(path, arguments, TELLING)?;
    if status.success() {
        return Ok(text);
    }
    let last = text.lines().last().unwrap_or("no error message");
    Err(format!("`{}` failed ({status}): {last}", arguments.join(" ")))
}

/// Runs a program for what it prints. Its output goes to a file in memory: a pipe could be kept open by a child of its own.
fn tell(
    path: &Path,
    arguments: &[&str],
    patience: Duration,
) -> Result<(ExitStatus, String), String> {
    let failed = |error: io::Error| format!("cannot run it: {error}");
    let output = rustix::fs::memfd_create("version", MemfdFlags::CLOEXEC);
    let mut output = output.map(File::from).map_err(|error| failed(error.into()))?;
    let shared = || output.try_clone().map(Stdio::from).map_err(failed);
    let mut command = Command::new(path);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(shared()?).stderr(shared()?);
    let mut child = command.spawn().map_err(failed)?;
    let status = wait(&mut child, patience).map_err(failed)?;
    let mut bytes = Vec::new();
    output.rewind().map_err(failed)?;
    output.take(MOST_OUTPUT).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let late = || {
        let command = arguments.join(" ");
        format!("`{command}` did not exit within {} s", patience.as_secs())
    };
    status.map(|status| (status, text)).ok_or_else(late)
}

/// Waits for a child, and kills it after `patience`; then there is no status.
pub fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let ended = ends_within(child, patience);
    if !matches!(ended, Ok(true)) {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok(ended?.then_some(status))
}

/// Whether a child ends within `patience`. It is not reaped.
fn ends_within(child: &Child, patience: Duration) -> io::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An executable script.
    fn script(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("program");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_version_is_asked_for_once_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let path = script(dir.path(), &format!("echo once >> {}; echo \"v$1\"", count.display()));
        let cache = VersionText::default();
        for _ in 0..3 {
            assert_eq!(cache.of(&path, &["--version"]).unwrap(), "v--version\n");
        }
        assert_eq!(fs::read_to_string(&count).unwrap(), "once\n");
        let path = script(dir.path(), "echo v2");
        let later = SystemTime::now() + Duration::from_secs(5);
        File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(cache.of(&path, &["--version"]).unwrap(), "v2\n");
    }

    #[test]
    fn a_program_that_fails_or_is_missing_is_told_with_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "echo no such option >&2; exit 3");
        let error = VersionText::default().of(&path, &["--version"]).unwrap_err();
        assert_eq!(error, "`--version` failed (exit status: 3): no such option");
        let error = VersionText::default().of(&dir.path().join("none"), &["-v"]).unwrap_err();
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exit_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "exec sleep 1000");
        let error = tell(&path, &["--version"], Duration::from_millis(50)).unwrap_err();
        assert_eq!(error, "`--version` did not exit within 0 s");
    }

    #[test]
    fn a_child_of_the_program_does_not_delay_the_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "sleep 1000 & echo $!");
        let (_, told) = tell(&path, &["--version"], TELLING).unwrap();
        let child = Pid::from_raw(told.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    }
}
