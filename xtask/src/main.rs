//! The project's own chores; `cargo xtask --help` lists them.

mod errors;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Handover's own chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Write the documents that are made from the code (docs/errors.md)
    Docs {
        /// Only say whether they are up to date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Docs { check } => errors::write(check),
    }
}
