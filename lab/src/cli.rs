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
    images::{Choice, Images},
    progress,
    resident::{self, Forward},
    topology::{self, Topology},
};

use crate::terminal;

/// The lab: an emulated passthrough host, with real VFIO, for a machine without a GPU, an IOMMU or KVM.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build what a lab boots from (other commands do it too, when something is missing).
    Build {
        /// Also build the slim kernel: some minutes, once; labs then start in two seconds.
        #[arg(long)]
        slim: bool,
        /// Choose the newest package versions first.
        #[arg(long)]
        refresh: bool,
    },
    /// Boot a fresh L1, run a command in it as root, and exit with its status.
    ///
    /// One argument is a bash script; several are a program and its arguments. Status 124: not done in time;
    /// 125: the lab itself failed.
    Run {
        #[command(flatten)]
        host: Host,
        /// End everything after so many seconds.
        #[arg(long, default_value_t = 600, value_name = "SECONDS")]
        timeout: u64,
        #[command(flatten)]
        what: RunArguments,
    },
    /// Boot an L1 that stays, and return when it is ready.
    Up {
        #[command(flatten)]
        host: Host,
        /// Make a TCP port of L1's loopback reachable on this machine's loopback (may be repeated). Instead of a port in L1,
        /// the path of a unix socket can be given.
        #[arg(long, value_name = "HOSTPORT:PORT")]
        forward: Vec<Forward>,
    },
    /// Run a command in the L1 that is up.
    Exec {
        #[command(flatten)]
        what: RunArguments,
    },
    /// Open a shell in the L1 that is up.
    Shell,
    /// End the L1 that is up.
    Down,
    /// Say whether an L1 is up, and what it is.
    Status,
    /// List the topologies.
    Topologies,
    /// The agent in L1 (L1 starts it by itself).
    #[command(hide = true)]
    Agent,
    /// The process behind `up` (which starts it).
    #[command(hide = true)]
    Resident {
        #[command(flatten)]
        host: Host,
        #[arg(long)]
        forward: Vec<Forward>,
    },
}

/// What L1 shall be.
#[derive(Debug, Clone, Args)]
struct Host {
    /// Which devices it has; see `lab topologies`.
    #[arg(long, short, default_value = "workstation", value_name = "NAME|FILE")]
    topology: String,
    /// slim, stock, or auto: slim if it is built.
    #[arg(long, default_value = "auto", value_parser = Choice::from_str)]
    kernel: Choice,
    /// A folder that L1 sees as /host, and can write to.
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// The `handover` program; if not given, the one built beside this program.
    #[arg(long, value_name = "FILE")]
    handover: Option<PathBuf>,
    /// A disk that stays when L1 ends, at its /var/lib/handover; made where the file is missing.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

/// What to run in L1.
#[derive(Debug, Clone, Args)]
struct RunArguments {
    /// Pass this command's stdin on.
    #[arg(long, short = 'i')]
    stdin: bool,
    /// The command.
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

    /// The same words again, for the process behind `up`.
    fn words(&self) -> Result<Vec<String>> {
        let absolute = |path: &PathBuf| -> Result<String> {
            let path =
                path.canonicalize().with_context(|| format!("there is no {}", path.display()))?;
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

/// Does what the command line says.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Build { slim, refresh } => build(slim, refresh),
        Command::Run { host, timeout, what } => {
            run_once(&host, Duration::from_secs(timeout), &what)
        }
        Command::Up { host, forward } => up(&host, &forward),
        Command::Exec { what } => {
            let mut session = resident::attach()?.start(&what.start())?;
            let end = terminal::stream(&mut session, what.stdin, None)?;
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

fn run_once(host: &Host, timeout: Duration, what: &RunArguments) -> Result<ExitCode> {
    let lab = Lab::start(&host.options())?;
    let start = Instant::now();
    let mut session = lab.open(&what.start())?;
    let end = terminal::stream(&mut session, what.stdin, Some(start + timeout))?;
    end.code(|| lab.explain())
}

fn up(host: &Host, forward: &[Forward]) -> Result<ExitCode> {
    // Built here, where its progress is seen.
    Topology::load(&host.topology)?;
    Images::ready(host.kernel)?;
    let mut words = host.words()?;
    for forward in forward {
        words.extend(["--forward".to_owned(), forward.to_string()]);
    }
    resident::start(&words)?;
    for forward in forward {
        progress::note(format_args!(
            "{}:{} is {} in L1",
            Ipv4Addr::LOCALHOST,
            forward.port,
            forward.address
        ));
    }
    progress::note("`cargo lab shell` to look inside, `cargo lab down` to end it");
    Ok(ExitCode::SUCCESS)
}

fn status() -> Result<ExitCode> {
    match resident::status()? {
        Some(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        None => {
            println!("no lab is up");
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
    /// The status to exit with.
    fn code(self, explain: impl FnOnce() -> String) -> Result<ExitCode> {
        match self {
            Self::Exit(status) => Ok(ExitCode::from(u8::try_from(status & 0xff)?)),
            Self::Timeout => {
                eprintln!("lab: not done in time; {}", explain());
                Ok(ExitCode::from(124))
            }
            Self::Gone => bail!("{}", explain()),
        }
    }
}
