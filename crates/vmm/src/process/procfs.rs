//! Processes in procfs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::{MachineHandle, ProcessStat};
use rustix::io::Errno;

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What is in the host's memory.
    pub resident: u64,
    /// Its address space.
    pub address_space: u64,
}

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
            Ok(text) => ProcessStat::parse(&text).map(Some).ok_or_else(|| malformed("stat")),
            // ESRCH: the process exited between open and read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a thread belongs to a process.
    pub fn has_thread(&self, process: u32, thread: u32) -> bool {
        self.dir.join(format!("{process}/task/{thread}")).exists()
    }

    /// The name of a process, which it can change; `None` if it has ended.
    pub fn name(&self, pid: u32) -> Option<String> {
        let name = fs::read(self.dir.join(pid.to_string()).join("comm")).ok()?;
        Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
    }

    /// The soft and the hard limit of locked memory of a process in bytes; `None` is no limit.
    pub fn memlock(&self, pid: u32) -> io::Result<(Option<u64>, Option<u64>)> {
        let text = fs::read_to_string(self.dir.join(pid.to_string()).join("limits"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        let mut words = line.ok_or_else(|| malformed("limits"))?.split_whitespace();
        let mut limit = || match words.next() {
            Some("unlimited") => Ok(None),
            Some(number) => number.parse().map(Some).map_err(|_| malformed("limits")),
            None => Err(malformed("limits")),
        };
        Ok((limit()?, limit()?))
    }

    /// The processor time of a process, in clock ticks.
    pub fn cpu_ticks(&self, pid: &str) -> io::Result<u64> {
        let text = fs::read(self.dir.join(pid).join("stat"))?;
        ProcessStat::cpu_ticks(&text).ok_or_else(|| malformed("stat"))
    }

    /// The memory of a process.
    pub fn memory(&self, pid: &str) -> io::Result<Memory> {
        let text = fs::read(self.dir.join(pid).join("status"))?;
        memory(&String::from_utf8_lossy(&text)).ok_or_else(|| malformed("status"))
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

fn malformed(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed {file}"))
}

/// The fields `VmRSS`, `HugetlbPages`, which the first one leaves out, and `VmSize` (proc_pid_status(5)), which are in KiB. A
/// process that has ended has none. The first
/// line has the program's name, in which the kernel escapes line ends.
fn memory(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    let resident = bytes("VmRSS:")?.saturating_add(bytes("HugetlbPages:").unwrap_or_default());
    Some(Memory { resident, address_space: bytes("VmSize:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_process_is_in_bytes() {
        let text = "Name:\tVmRSS:\\nVmRSS:\t9 kB\nVmPeak:\t 300 kB\nVmSize:\t    200 kB\nVmRSS:\t  100 kB\n";
        let expected = Memory { resident: 100 << 10, address_space: 200 << 10 };
        assert_eq!(memory(text), Some(expected));
        let huge = format!("{text}HugetlbPages:\t 50 kB\n");
        assert_eq!(memory(&huge).map(|memory| memory.resident), Some(150 << 10));
        for broken in [
            "",
            "VmRSS: 1 kB\n",
            "VmRSS: x kB\nVmSize: 1 kB\n",
            "VmRSS: 18446744073709551615 kB\nVmSize: 1 kB\n",
        ] {
            assert_eq!(memory(broken), None, "{broken:?}");
        }
    }

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
        assert_eq!(proc.name(child.id()).unwrap(), "a) \u{fffd} (b");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(proc.stat(&child.id().to_string()).unwrap(), None);
        assert_eq!(proc.name(child.id()), None);
    }
}
