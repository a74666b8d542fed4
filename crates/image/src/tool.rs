//! Programs that read foreign disk images, or write file systems: confined, because what they read may attack them.
//!
//! Such a program runs as a user of its own without privileges, cannot gain any, ends with the thread that started it (so with
//! the daemon), and has limits of memory, processor time, and size of what it writes. `prlimit` and `setpriv`, which are in
//! every Debian (util-linux), set that before they execute it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, MemfdFlags, Mode, Uid, fchmod, fchown};
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};

use crate::{Cancel, ImageError};

/// The program that reads and writes disk images.
pub const QEMU_IMG: &str = "qemu-img";

/// The address space of a program.
const MEMORY: u64 = 2 << 30;

/// The processor time of a program, in seconds: converting a terabyte with compression takes hours.
const PROCESSOR: u64 = 12 * 3600;

/// The most that is read of what a program prints.
const MOST_OUTPUT: u64 = 64 << 10;

/// The least limit of what it writes.
const LEAST_FILE: u64 = 1 << 20;

/// How often it is checked whether the work was cancelled, in milliseconds.
const TICK: i64 = 100;

/// The exit status if the program is not installed (`errexec` in util-linux).
const NOT_INSTALLED: i32 = 127;

/// Runs programs confined.
#[derive(Clone, Debug, Default)]
pub struct Tool {
    /// The user that they run as; `None` if this process cannot change it.
    user: Option<u32>,
}

impl Tool {
    /// Programs run as this user, if this process may change its user.
    #[must_use]
    pub fn of_user(user: u32) -> Self {
        Self { user: (geteuid().is_root() && user != 0).then_some(user) }
    }

    /// Gives a file to the user of the programs.
    pub fn lend(&self, file: &File) -> io::Result<()> {
        let Some(user) = self.user else { return Ok(()) };
        Ok(fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?)
    }

    /// Lets the user of the programs pass through a directory of root's, and no one else.
    pub fn let_in(&self, dir: &File) -> io::Result<()> {
        let Some(user) = self.user else { return Ok(()) };
        fchown(dir, Some(Uid::ROOT), Some(Gid::from_raw(user)))?;
        Ok(fchmod(dir, Mode::from_raw_mode(0o710))?)
    }

    /// Whether the programs run as another user than this process.
    pub const fn is_other_user(&self) -> bool {
        self.user.is_some()
    }

    /// Takes a file back.
    pub fn take_back(&self, file: &File) -> io::Result<()> {
        if self.user.is_none() {
            return Ok(());
        }
        Ok(fchown(file, Some(Uid::ROOT), Some(Gid::ROOT))?)
    }

    /// Runs a program until it ends, and returns what it printed. It can write files of at most `largest` bytes.
    ///
    /// # Errors
    /// [`ImageError::NoTool`], [`ImageError::Tool`] with what it said, [`ImageError::NoSpace`], [`ImageError::Cancelled`].
    pub fn run(
        &self,
        program: &'static str,
        arguments: &[OsString],
        largest: u64,
        cancel: &Cancel,
    ) -> Result<String, ImageError> {
        self.run_on(Stdio::null(), program, arguments, largest, cancel)
    }

    /// The same with this as its standard input.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_on(
        &self,
        input: Stdio,
        program: &'static str,
        arguments: &[OsString],
        largest: u64,
        cancel: &Cancel,
    ) -> Result<String, ImageError> {
        let failed = |error: io::Error| ImageError::io("run", program, error);
        let output = rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC);
        let mut output = output.map(File::from).map_err(|error| failed(error.into()))?;
        let shared = || output.try_clone().map(Stdio::from).map_err(failed);
        let mut command = self.command(largest);
        command.arg(program).args(arguments);
        command.stdin(input).stdout(shared()?).stderr(shared()?);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ImageError::NoTool { program: "prlimit" },
            _ => failed(error),
        })?;
        let status = wait(&mut child, cancel).map_err(failed)?;
        cancel.check()?;
        let mut bytes = Vec::new();
        output.rewind().map_err(failed)?;
        output.take(MOST_OUTPUT).read_to_end(&mut bytes).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if status.success() {
            return Ok(text);
        }
        match self.blocked(arguments) {
            Some(said) => Err(ImageError::Tool { program, said }),
            None => Err(explain(program, status, &text)),
        }
    }

    /// Why the programs' user cannot reach one of these files, if that is so.
    fn blocked(&self, arguments: &[OsString]) -> Option<String> {
        let user = self.user?;
        let paths = arguments.iter().map(Path::new).filter(|path| path.is_absolute());
        let said = |path: &Path| {
            let blocked = own_files::blocked(path, user).ok()??;
            Some(format!(
                "its user {user} cannot reach {} through {}: {blocked}",
                path.display(),
                blocked.dir.display()
            ))
        };
        paths.filter_map(said).next()
    }

    fn command(&self, largest: u64) -> Command {
        let mut command = Command::new("prlimit");
        command
            .arg(format!("--as={MEMORY}"))
            .arg(format!("--cpu={PROCESSOR}"))
            // What it prints is a file too.
            .arg(format!("--fsize={}", largest.max(LEAST_FILE)))
            .args(["--core=0", "--nofile=64", "setpriv", "--no-new-privs", "--pdeathsig", "KILL"]);
        if let Some(user) = self.user {
            let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
            command.args([uid, gid, "--clear-groups".into(), "--inh-caps=-all".into()]);
        }
        let path =
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        command.env_clear().env("PATH", path).env("LC_ALL", "C").current_dir("/");
        command
    }
}

/// Waits for a child, or kills it when the work is cancelled.
fn wait(child: &mut Child, cancel: &Cancel) -> io::Result<ExitStatus> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let tick = Timespec { tv_sec: 0, tv_nsec: TICK * 1_000_000 };
    loop {
        if cancel.is_set() {
            child.kill()?;
            return child.wait();
        }
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&tick)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return child.wait(),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                return Err(error.into());
            }
        }
    }
}

/// The error of a program that failed.
fn explain(program: &'static str, status: ExitStatus, text: &str) -> ImageError {
    if status.code() == Some(NOT_INSTALLED) {
        return ImageError::NoTool { program };
    }
    if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
        return ImageError::NoSpace { path: PathBuf::new() };
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = match lines.as_slice() {
        [] => status.to_string(),
        lines => lines.join("; "),
    };
    ImageError::Tool { program, said }
}

/// The error of a program that wrote below a directory.
pub fn below(error: ImageError, dir: &Path) -> ImageError {
    match error {
        ImageError::NoSpace { path } if path.as_os_str().is_empty() => {
            ImageError::NoSpace { path: dir.to_owned() }
        }
        error => error,
    }
}

/// Arguments for a program.
pub fn words<const N: usize>(words: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    words.into_iter().map(|word| word.as_ref().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn sh(tool: &Tool, script: &str) -> Result<String, ImageError> {
        tool.run("sh", &words([&"-c", &script]), 1 << 20, &Cancel::default())
    }

    #[test]
    fn a_directory_that_its_user_cannot_pass_is_named() {
        if !geteuid().is_root() {
            println!("SKIPPED: it needs root, to change the user");
            return;
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let dir = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let tool = Tool::of_user(1_900_001_000);
        let error = tool.run("cat", &words([&file]), 1 << 20, &Cancel::default()).unwrap_err();
        let chmod = format!("chmod o+x {}", dir.path().display());
        assert!(error.to_string().ends_with(&chmod), "{error}");
    }

    #[test]
    fn a_program_has_another_user_no_privileges_and_limits() {
        let tool = Tool::of_user(1_900_001_000);
        let said = sh(&tool, "id -u; id -G; ulimit -v; ulimit -t; cat /proc/self/status").unwrap();
        let lines: Vec<&str> = said.lines().collect();
        if geteuid().is_root() {
            assert_eq!(lines[..2], ["1900001000", "1900001000"], "{said}");
            assert!(said.contains("CapEff:\t0000000000000000"), "{said}");
        }
        assert_eq!(lines[2..4], ["2097152", "43200"], "{said}");
        assert!(said.contains("NoNewPrivs:\t1"), "{said}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("large");
        let script = format!("head -c 2000000 /dev/zero > {}", file.display());
        assert!(sh(&Tool::default(), &script).is_err());
        assert_eq!(std::fs::metadata(file).unwrap().len(), 1 << 20);
    }

    #[test]
    fn a_failure_says_why() {
        let tool = Tool::default();
        let error = sh(&tool, "echo one >&2; echo; echo two >&2; exit 3").unwrap_err();
        assert_eq!(error.to_string(), "sh failed: one; two");
        let error = tool.run("no-such-program", &[], 0, &Cancel::default()).unwrap_err();
        assert!(matches!(error, ImageError::NoTool { program: "no-such-program" }), "{error}");
        let error = sh(&tool, "echo x: No space left on device; exit 1").unwrap_err();
        assert!(matches!(error, ImageError::NoSpace { .. }), "{error}");
    }

    #[test]
    fn a_cancelled_program_ends_at_once() {
        let cancel = Cancel::default();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let run = || Tool::default().run("sleep", &words([&"1000"]), 0, &cancel);
            let running = scope.spawn(run);
            cancel.set();
            let error = running.join().unwrap().unwrap_err();
            assert!(matches!(error, ImageError::Cancelled), "{error}");
        });
        assert!(begun.elapsed() < Duration::from_secs(100));
    }
}
