//! The process that turns into a command.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{Gid, Mode, Uid};
use rustix::process::{Resource, Rlimit, chdir, setrlimit, umask};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::environment::value;
use super::users::{Identity, resolve};
use super::{CommandFailure, CommandSpec, environment};
use crate::regular::read_text;
use crate::sys;

/// The largest file of users or groups.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The most files that a process of the command can have open.
const MAX_FILES: u64 = 1 << 20;
/// The largest specification.
const MAX_SPEC_BYTES: u64 = 2 << 20;

/// Becomes the command that the file specifies. If it cannot, it says why in the report.
pub fn stage(specification: &str, report: &str) -> ExitCode {
    let Ok(mut report) = OpenOptions::new().write(true).open(report) else {
        return ExitCode::from(126);
    };
    let failure = match read_text(Path::new(specification), MAX_SPEC_BYTES) {
        Err(error) => CommandFailure::not_executable(format!("cannot read the command: {error}")),
        Ok(text) => {
            let _ = report.write_all(b"\n");
            match serde_json::from_str(&text) {
                Ok(spec) => become_command(&spec),
                Err(error) => CommandFailure::not_executable(error.to_string()),
            }
        }
    };
    if let Ok(text) = serde_json::to_vec(&failure) {
        let _ = report.write_all(&text);
    }
    ExitCode::from(failure.code)
}

/// Becomes the command. It returns only if that fails. This process must have one thread.
pub fn become_command(spec: &CommandSpec) -> CommandFailure {
    match prepare(spec) {
        Ok((path, arguments, environment)) => {
            let error = sys::execute(&path, &arguments, &environment);
            of_exec(&spec.argv, &path, &error)
        }
        Err(failure) => failure,
    }
}

type Prepared = (CString, Vec<CString>, Vec<CString>);

fn prepare(spec: &CommandSpec) -> Result<Prepared, CommandFailure> {
    let setting_up = |what: &'static str| {
        move |error: io::Error| CommandFailure::not_executable(format!("cannot {what}: {error}"))
    };
    sys::unblock_signals().map_err(setting_up("unblock signals"))?;
    umask(Mode::from_raw_mode(0o022));
    // The agent is protected from the kernel's choice when memory is short; commands are not.
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    // As podman's containers have it; the kernel's own limit of 1024 is too low for many servers.
    let files = Rlimit { current: Some(MAX_FILES), maximum: Some(MAX_FILES) };
    let _ = setrlimit(Resource::Nofile, files);
    if !spec.same_session {
        rustix::process::setsid()
            .map_err(io::Error::from)
            .map_err(setting_up("begin a session"))?;
        if spec.terminal {
            rustix::process::ioctl_tiocsctty(io::stdin())
                .map_err(io::Error::from)
                .map_err(setting_up("take the terminal"))?;
        }
    }
    let read = |path: &str| read_text(Path::new(path), MAX_FILE_BYTES).unwrap_or_default();
    let identity = resolve(&spec.user, &read("/etc/passwd"), &read("/etc/group"))?;
    enter(&spec.working_dir)?;
    let hostname = rustix::system::uname();
    let hostname = hostname.nodename().to_string_lossy();
    let environment = environment(&spec.env, &identity.home, &hostname, spec.terminal);
    if spec.terminal {
        // Programs of the image's user open their terminal by its path.
        let owner = Some(Uid::from_raw(identity.uid));
        let _ = rustix::fs::fchown(io::stdin(), owner, None);
    }
    take_identity(&identity).map_err(setting_up("become the image's user"))?;
    let path = find(&spec.argv, value(&environment, "PATH").unwrap_or_default())?;
    let strings = |texts: &[String]| -> Result<Vec<CString>, CommandFailure> {
        let strings = texts.iter().map(|text| CString::new(text.as_str()));
        strings.collect::<Result<_, _>>().map_err(|_| {
            CommandFailure::not_executable("an argument or a variable contains a zero byte")
        })
    };
    let path = path.into_os_string().into_string().unwrap_or_default();
    let path = CString::new(path)
        .map_err(|_| CommandFailure::not_executable("the command's name contains a zero byte"))?;
    Ok((path, strings(&spec.argv)?, strings(&environment)?))
}

/// Enters the working directory, which is made if it is missing.
fn enter(directory: &str) -> Result<(), CommandFailure> {
    let directory = if directory.is_empty() { "/" } else { directory };
    let failed = |error: io::Error| {
        let message = format!("cannot enter the working directory {directory:?}: {error}");
        CommandFailure::not_executable(message)
    };
    if !directory.starts_with('/') {
        return Err(failed(io::Error::other("it is not an absolute path")));
    }
    fs::create_dir_all(directory).map_err(failed)?;
    chdir(directory).map_err(|errno| failed(errno.into()))
}

/// Becomes the user. The calls change one thread, and this process has only one.
fn take_identity(identity: &Identity) -> io::Result<()> {
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups)?;
    set_thread_gid(Gid::from_raw(identity.gid))?;
    set_thread_uid(Uid::from_raw(identity.uid))?;
    Ok(())
}

/// The file to execute: a name without `/` is searched in `PATH`.
fn find(argv: &[String], path: &str) -> Result<PathBuf, CommandFailure> {
    let Some(name) = argv.first().filter(|name| !name.is_empty()) else {
        return Err(CommandFailure::not_found(
            "there is no command: the image has none, and none was given",
        ));
    };
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let mut denied = None;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        if !candidate.is_file() {
            continue;
        }
        if rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK).is_ok() {
            return Ok(candidate);
        }
        denied.get_or_insert(candidate);
    }
    denied.ok_or_else(|| {
        CommandFailure::not_found(format!("the image has no program {name:?} in its PATH {path:?}"))
    })
}

/// Why the kernel does not execute it.
fn of_exec(argv: &[String], path: &CString, error: &io::Error) -> CommandFailure {
    let name = argv.first().map(String::as_str).unwrap_or_default();
    let file = Path::new(path.to_str().unwrap_or_default());
    match error.raw_os_error() {
        Some(libc::ENOENT) if file.exists() => CommandFailure::not_found(format!(
            "cannot execute {name:?}: the image does not have the interpreter or dynamic linker that the file names"
        )),
        Some(libc::ENOENT | libc::ENOTDIR) => {
            CommandFailure::not_found(format!("the image has no file {name:?}"))
        }
        Some(libc::EACCES) if file.is_dir() => {
            CommandFailure::not_executable(format!("cannot execute {name:?}: it is a directory"))
        }
        Some(libc::EACCES) => CommandFailure::not_executable(format!(
            "cannot execute {name:?}: the image's user has no permission for it"
        )),
        Some(libc::ENOEXEC) => CommandFailure::not_executable(format!(
            "cannot execute {name:?}: it is no program for this processor, and a script must begin with `#!`"
        )),
        Some(libc::E2BIG) => CommandFailure::not_executable(
            "the command's arguments and environment are longer than the kernel allows",
        ),
        _ => CommandFailure::not_executable(format!("cannot execute {name:?}: {error}")),
    }
}
