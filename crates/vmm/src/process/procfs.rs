//! Processes in procfs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::{MachineHandle, ProcessStat};
use rustix::io::Errno;

/// The procfs of one root.
#[derive(Clone, Debug)]
pub struct Proc {
    dir: PathBuf,
}

impl Proc {
    /// The procfs below `root`.
    pub fn below(root: &Path) -> Self {
        Self { dir: root.join("proc") }
    }

    /// This boot's id.
    pub fn boot_id(&self) -> io::Result<String> {
        Ok(fs::read_to_string(self.dir.join("sys/kernel/random/boot_id"))?.trim().to_owned())
    }

    /// The stat of a process, by its pid or `self`; `None` if there is none.
    pub fn stat(&self, pid: &str) -> io::Result<Option<ProcessStat>> {
        match fs::read(self.dir.join(pid).join("stat")) {
            Ok(text) => ProcessStat::parse(&text)
                .map(Some)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed stat")),
            // ESRCH: the process exited between open and read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether exactly this process lives.
    pub fn lives(&self, handle: &MachineHandle) -> io::Result<bool> {
        let Some(process) = handle.process() else { return Ok(false) };
        if handle.boot_id != self.boot_id()? {
            return Ok(false);
        }
        let stat = self.stat(&process.pid.to_string())?;
        Ok(stat.is_some_and(|stat| !stat.has_ended() && stat.start_time == process.start_time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    /// A VMM that its guest has compromised can rename itself.
    #[test]
    fn a_process_with_an_odd_name_is_parsed() {
        let script = r#"printf 'a) \377 (b' >/proc/$$/comm; echo; read line"#;
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let proc = Proc::below(Path::new("/"));
        let stat = proc.stat(&child.id().to_string()).unwrap().unwrap();
        assert!(!stat.has_ended());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(proc.stat(&child.id().to_string()).unwrap(), None);
    }
}
