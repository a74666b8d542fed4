//! A lab that keeps running: a separate process owns it (started by `lab up`), and others connect to its socket.

use std::{
    fmt, fs,
    fs::File,
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
    str::FromStr,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    Lab, Options,
    agent::{Client, relay},
    folder,
};

/// A port of this machine's loopback that is forwarded into L1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The port on this machine.
    pub port: u16,
    /// The target in L1: an address, or a unix socket's path.
    pub address: String,
}

impl FromStr for Forward {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((port, there)) = text.split_once(':') else {
            bail!("{text:?} does not have the form HOSTPORT:PORT");
        };
        let port = port.parse().with_context(|| format!("{port:?} is not a port"))?;
        let address = if there.starts_with('/') || there.contains(':') {
            there.to_owned()
        } else {
            let inner: u16 = there.parse().with_context(|| format!("{there:?} is not a port"))?;
            format!("127.0.0.1:{inner}")
        };
        Ok(Self { port, address })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.port, self.address)
    }
}

fn socket() -> Result<PathBuf> {
    Ok(folder::state()?.join("up.sock"))
}

/// Connects to the running lab.
pub fn attach() -> Result<Client> {
    let Ok(stream) = UnixStream::connect(socket()?) else {
        bail!("no lab is running; start one with `cargo lab up`");
    };
    Client::connect(stream, Instant::now() + Duration::from_secs(10))
}

/// Starts the process behind `up` with these arguments, and returns when L1 is ready.
pub fn start(arguments: &[String]) -> Result<()> {
    ensure!(attach().is_err(), "a lab is already running; end it with `cargo lab down`");
    let log_path = folder::state()?.join("up.log");
    let log = File::create(&log_path)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("resident")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Its own process group: it must not get the terminal's Ctrl-C and hang-up.
        .process_group(0)
        .spawn()?;
    loop {
        if attach().is_ok() {
            eprint!("{}", fs::read_to_string(&log_path)?);
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("the lab did not start ({status}):\n{}", fs::read_to_string(&log_path)?);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The process behind `up`: boots L1 and owns it until `down`, or until L1 exits.
pub fn serve(options: &Options, forwards: &[Forward]) -> Result<()> {
    let lab = Lab::start(options)?;
    for forward in forwards {
        lab.forward(forward.port, &forward.address)?;
    }
    let path = socket()?;
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    fs::write(folder::state()?.join("up.status"), describe(options, forwards, &lab))?;
    let (down, requests) = mpsc::channel();
    let agent = lab.agent().clone();
    thread::spawn(move || relay::serve(&listener, &agent, &down));
    let result = loop {
        match requests.recv_timeout(Duration::from_millis(500)) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break Ok(()),
            Err(RecvTimeoutError::Timeout) if lab.ended().is_some() => {
                break Err(anyhow::anyhow!(lab.explain()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    // The socket last: `down` waits until it is gone.
    drop(lab);
    let _ = fs::remove_file(&path);
    result
}

fn describe(options: &Options, forwards: &[Forward], lab: &Lab) -> String {
    let mut text =
        format!("topology  {}\nqemu      pid {}\n", options.topology, lab.pid().as_raw_nonzero());
    text += &format!("folder    {}\n", lab.folder().display());
    for forward in forwards {
        text += &format!("forward   127.0.0.1:{} -> {}\n", forward.port, forward.address);
    }
    text
}

/// A description of the running lab, if any.
pub fn status() -> Result<Option<String>> {
    match attach() {
        Ok(_) => Ok(Some(fs::read_to_string(folder::state()?.join("up.status"))?)),
        Err(_) => Ok(None),
    }
}

/// Ends the running lab, and returns when it is gone.
pub fn down() -> Result<()> {
    attach()?.down()?;
    let path = socket()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while path.exists() {
        ensure!(
            Instant::now() < deadline,
            "timed out while ending the lab; see {}",
            path.with_extension("log").display()
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read() {
        let read = |text: &str| text.parse::<Forward>().map(|f| (f.port, f.address)).ok();
        assert_eq!(read("8080:80"), Some((8080, "127.0.0.1:80".to_owned())));
        assert_eq!(read("8080:/run/x.sock"), Some((8080, "/run/x.sock".to_owned())));
        assert_eq!(read("8080:127.0.0.1:9"), Some((8080, "127.0.0.1:9".to_owned())));
        assert_eq!(read("8080"), None);
        assert_eq!(read("http:80"), None);
    }
}
