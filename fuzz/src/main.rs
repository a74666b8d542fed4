//! Runs fuzz targets for some seconds each, or replays an input.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use fuzz::{TARGETS, Target, driver, target};

/// Feed readers of foreign input with broken input
#[derive(Parser)]
struct Fuzz {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Run targets one after another; all by default
    Run {
        /// Their names
        targets: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// List the targets
    List,
    /// Print a target's words, as a dictionary of libFuzzer
    Words {
        /// The target
        target: String,
    },
    /// Read one input, as a target does
    Replay {
        /// The target
        target: String,
        /// The file with the input
        file: PathBuf,
    },
    /// Run one target in this process
    #[command(hide = true)]
    Work {
        /// The target
        target: String,
        #[command(flatten)]
        how: How,
        /// The directory for failing inputs
        #[arg(long)]
        folder: PathBuf,
    },
}

#[derive(Args)]
struct How {
    /// Seconds per target
    #[arg(long, default_value_t = 60, env = "FUZZ_SECONDS")]
    seconds: u64,
    /// Where the random numbers begin; the time of day by default
    #[arg(long)]
    seed: Option<u64>,
}

fn named(name: &str) -> anyhow::Result<&'static Target> {
    target(name).with_context(|| format!("no target {name:?}; `list` names them"))
}

fn main() -> anyhow::Result<ExitCode> {
    let now = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    match Fuzz::parse().what {
        What::Run { targets, how } => {
            let all: Vec<&Target> = if targets.is_empty() {
                TARGETS.iter().collect()
            } else {
                targets.iter().map(|name| named(name)).collect::<Result<_, _>>()?
            };
            let failed = driver::run(&all, how.seconds, how.seed.unwrap_or_else(now))?;
            if failed > 0 {
                bail!("{failed} failing inputs");
            }
        }
        What::List => TARGETS.iter().for_each(|one| println!("{:<12} {}", one.name, one.reads)),
        What::Words { target } => {
            for word in named(&target)?.words {
                let escaped: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
                println!("\"{escaped}\"");
            }
        }
        What::Replay { target, file } => driver::replay(named(&target)?, &file)?,
        What::Work { target, how, folder } => {
            let seed = how.seed.unwrap_or_else(now);
            let order = driver::Order { seconds: how.seconds, seed, folder };
            driver::work(named(&target)?, &order)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
