//! The startup time of `handover serve`, and its memory when idle.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Figure;

const RUNS: usize = 20;

/// A daemon with its own directories, stopped and removed when dropped.
struct Daemon {
    child: Child,
    folder: PathBuf,
}

impl Daemon {
    fn start(handover: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("handover-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let child = Command::new(handover)
            .arg("serve")
            .arg("--socket")
            .arg(folder.join("socket"))
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--run-dir")
            .arg(folder.join("run"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", handover.display()))?;
        Ok(Self { child, folder })
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.folder.join("socket")) else { return false };
        let asked = stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains("\"ok\"")
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(10);
        while !self.answers() {
            ensure!(self.child.try_wait()?.is_none(), "the daemon exited; is another one running?");
            ensure!(Instant::now() < until, "the daemon does not answer");
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }

    /// Resident memory in KiB of the daemon, and of its workers (proportional set size).
    fn memory(&self) -> Result<(u64, u64)> {
        let pid = self.child.id();
        let field = |path: String, name: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        };
        let own = field(format!("/proc/{pid}/status"), "VmRSS:").context("no VmRSS")?;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let workers = children
            .split_whitespace()
            .filter_map(|child| field(format!("/proc/{child}/smaps_rollup"), "Pss:"))
            .sum();
        Ok((own, workers))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts the daemon repeatedly, each time with an empty state.
pub fn start(handover: &Path) -> Result<String> {
    let mut times = Vec::new();
    let mut memory = (0, 0);
    for run in 0..RUNS {
        let began = Instant::now();
        let mut daemon = Daemon::start(handover)?;
        daemon.wait_until_it_answers()?;
        times.push(began.elapsed());
        if run == RUNS - 1 {
            std::thread::sleep(Duration::from_secs(1));
            memory = daemon.memory()?;
        }
    }
    let began = Instant::now();
    Command::new(handover).arg("--version").stdout(Stdio::null()).status()?;
    let limit = format!(
        "starting the same executable for `--version` takes {:.2} ms",
        began.elapsed().as_secs_f64() * 1e3
    );
    let figure = Figure {
        what: "serve, from start to first answer".into(),
        goal: "under 50 ms",
        limit,
        times,
    };
    let (own, workers) = memory;
    Ok(format!(
        "{}\nidle daemon: {:.1} MiB resident (goal: under 20 MiB); plus {:.1} MiB for its workers",
        figure.line(),
        own as f64 / 1024.0,
        workers as f64 / 1024.0
    ))
}
