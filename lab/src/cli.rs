//! The command line.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use lab::{
    Lab, Options,
    agent::{Start, server},
    images::{Choice, Images, debian_disk},
    progress,
    resident::{self, Forward},
    topology::{self, Topology},
};

use crate::terminal;

/// Run commands in an emulated passthrough host with real VFIO, on a machine without GPU, IOMMU and KVM
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the lab's images in advance (other commands build missing images themselves)
    Build {
        /// Also build the slim kernel, which takes some minutes once; L1 then boots in two seconds
        #[arg(long)]
        slim: bool,
        /// Use the newest package versions
        #[arg(long)]
        refresh: bool,
    },
    /// Build the disk that UEFI boots, with Debian's signed boot loaders and kernel, and print its path
    Disk,
    /// Boot a fresh L1, run a command in it as root, and exit with its status
    ///
    /// One argument is a bash script; several are a program and its arguments. Status 124: timeout; 125: the lab itself
    /// failed.
    Run {
        #[command(flatten)]
        host: Host,
        /// End L1 after this time
        #[arg(long, default_value_t = 600, value_name = "SECONDS")]
        timeout: u64,
        #[command(flatten)]
        run: RunArguments,
    },
    /// Boot an L1 that keeps running, and return when it is ready
    Up {
        #[command(flatten)]
        host: Host,
        /// Forward a TCP port on this machine's loopback to a port of L1's loopback, or to the path of a unix socket in
        /// L1 (can be repeated)
        #[arg(long, value_name = "HOSTPORT:PORT")]
        forward: Vec<Forward>,
    },
    /// Run a command in the running L1
    Exec {
        #[command(flatten)]
        run: RunArguments,
    },
    /// Open a shell in the running L1
    Shell,
    /// End the running L1
    Down,
    /// Show whether an L1 is running, and its topology
    Status,
    /// List the topologies
    Topologies,
    /// The agent in L1 (started by L1)
    #[command(hide = true)]
    Agent,
    /// The process behind `up` (started by it)
    #[command(hide = true)]
    Resident {
        #[command(flatten)]
        host: Host,
        #[arg(long)]
        forward: Vec<Forward>,
    },
}

/// Options for L1.
#[derive(Debug, Clone, Args)]
struct Host {
    /// The devices of L1; see `lab topologies`
    #[arg(long, short, default_value = "workstation", value_name = "NAME|FILE")]
    topology: String,
    /// The kernel: slim, stock, or auto (slim if it is built)
    #[arg(long, default_value = "auto", value_parser = Choice::from_str)]
    kernel: Choice,
    /// A directory that L1 mounts at /host, writable
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// The `handover` program; default: the one built beside this program
    #[arg(long, value_name = "FILE")]
    handover: Option<PathBuf>,
    /// A disk for L1's /var/lib/handover, which is kept when L1 ends; created if missing
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

/// A command for L1.
#[derive(Debug, Clone, Args)]
struct RunArguments {
    /// Forward standard input
    #[arg(long, short = 'i')]
    stdin: bool,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Host {
    fn options(&self) -> Options {
        Options {
            topology: self.topology.clone(),
            kernel: self.kernel,
            share: self.share.clone(),
            handover: self.handover.clone(),
            state: self.state.clone(),
            ..Options::default()
        }
    }

    /// The same options as arguments, for the process behind `up`.
    fn words(&self) -> Result<Vec<String>> {
        let absolute = |path: &PathBuf| -> Result<String> {
            let path =
                path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
            Ok(path.to_string_lossy().into_owned())
        };
        let kernel = format!("{:?}", self.kernel).to_lowercase();
        let mut words =
            vec!["--topology".to_owned(), self.topology.clone(), "--kernel".to_owned(), kernel];
        for (name, path) in [("--share", &self.share), ("--handover", &self.handover)] {
            if let Some(path) = path {
                words.extend([name.to_owned(), absolute(path)?]);
            }
        }
        if let Some(state) = &self.state {
            let state = std::path::absolute(state)?;
            words.extend(["--state".to_owned(), state.to_string_lossy().into_owned()]);
        }
        Ok(words)
    }
}

impl RunArguments {
    fn start(&self) -> Start {
        match self.command.as_slice() {
            [script] => Start::script(script),
            argv => Start::Run { argv: argv.to_vec(), env: Vec::new() },
        }
    }
}

/// Runs a command line.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Build { slim, refresh } => build(slim, refresh),
        Command::Disk => {
            println!("{}", debian_disk::ready()?.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { host, timeout, run } => run_once(&host, Duration::from_secs(timeout), &run),
        Command::Up { host, forward } => up(&host, &forward),
        Command::Exec { run } => {
            let mut session = resident::attach()?.start(&run.start())?;
            let end = terminal::stream(&mut session, run.stdin, None)?;
            end.code(|| "L1 is gone".to_owned())
        }
        Command::Shell => terminal::shell(&resident::attach()?),
        Command::Down => resident::down().map(|()| ExitCode::SUCCESS),
        Command::Status => status(),
        Command::Topologies => topologies(),
        Command::Agent => server::serve().map(|()| ExitCode::SUCCESS),
        Command::Resident { host, forward } => {
            resident::serve(&host.options(), &forward).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn build(slim: bool, refresh: bool) -> Result<ExitCode> {
    if refresh {
        Images::refresh()?;
    }
    if slim {
        Images::build_slim()?;
    }
    let images = Images::ready(if slim { Choice::Slim } else { Choice::Auto })?;
    progress::note(format_args!("ready: kernel {}", images.kernel.version));
    Ok(ExitCode::SUCCESS)
}

fn run_once(host: &Host, timeout: Duration, run: &RunArguments) -> Result<ExitCode> {
    let lab = Lab::start(&host.options())?;
    let start = Instant::now();
    let mut session = lab.open(&run.start())?;
    let end = terminal::stream(&mut session, run.stdin, Some(start + timeout))?;
    end.code(|| lab.explain())
}

fn up(host: &Host, forward: &[Forward]) -> Result<ExitCode> {
    // Built in this process, which shows the progress.
    Topology::load(&host.topology)?;
    Images::ready(host.kernel)?;
    let mut words = host.words()?;
    for forward in forward {
        words.extend(["--forward".to_owned(), forward.to_string()]);
    }
    resident::start(&words)?;
    for forward in forward {
        progress::note(format_args!(
            "{}:{} is forwarded to {} in L1",
            Ipv4Addr::LOCALHOST,
            forward.port,
            forward.address
        ));
    }
    progress::note("open a shell with `cargo lab shell`, end L1 with `cargo lab down`");
    Ok(ExitCode::SUCCESS)
}

fn status() -> Result<ExitCode> {
    match resident::status()? {
        Some(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        None => {
            println!("no lab is running");
            Ok(ExitCode::from(3))
        }
    }
}

fn topologies() -> Result<ExitCode> {
    let names = topology::names()?;
    let width = names.iter().map(String::len).max().unwrap_or(0);
    for name in names {
        println!("{name:width$}  {}", Topology::load(&name)?.summary);
    }
    Ok(ExitCode::SUCCESS)
}

impl terminal::End {
    /// The exit status of this program.
    fn code(self, explain: impl FnOnce() -> String) -> Result<ExitCode> {
        match self {
            Self::Exit(status) => Ok(ExitCode::from(u8::try_from(status & 0xff)?)),
            Self::Timeout => {
                eprintln!("lab: timed out; {}", explain());
                Ok(ExitCode::from(124))
            }
            Self::Gone => bail!("{}", explain()),
        }
    }
}
