//! Project tasks; see `cargo xtask --help`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use host::{HostConfig, LinuxHost};
use model::Address;
use xtask::tree::{self, ProcessCounts, Shape};
use xtask::{bench, contract, release};

#[derive(Parser)]
#[command(about = "Tasks of the Handover project")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Generate documents from the code (docs/errors.md, docs/inventory.schema.json, docs/machine.schema.json)
    #[cfg(feature = "docs")]
    Docs {
        /// Only check whether they are up to date
        #[arg(long)]
        check: bool,
    },
    /// Print the inventory in detail, in the format of docs/inventory.schema.json
    Inventory {
        /// Directory with the host's sys and proc
        #[arg(default_value = "/")]
        root: PathBuf,
    },
    /// Run a hand-over and return of an unused function of this host, checking each step; needs root
    Contract {
        /// The function, bound to its native driver
        address: Address,
        /// What to test: the whole device, its virtual functions, mediated devices or vGPUs
        #[arg(long, default_value = "whole", value_parser = ["whole", "vfs", "mdevs", "vgpus"])]
        of: String,
    },
    /// Generate a host of any size as a tree of files, for use with `--root`
    Tree {
        /// Target directory; created if missing
        folder: PathBuf,
        /// Number of PCI functions
        #[arg(long, default_value_t = 500)]
        functions: usize,
        /// Number of processes
        #[arg(long, default_value_t = 0)]
        processes: usize,
        /// Number of open files per process
        #[arg(long, default_value_t = 50)]
        files: usize,
    },
    /// Compare a listing with lspci, lstopo and a plain loop, on generated trees and on this machine
    BenchListing {
        /// The executable to measure
        #[arg(long, default_value = "target/release/handover")]
        handover: PathBuf,
    },
    /// Set the version and close the changelog's section; prints what to do next
    Release {
        /// The version, `0.2.0`
        version: String,
        /// The day of the release, `2026-12-31`
        date: String,
    },
    /// Build the archive of the current version, with checksums and the changelog's section
    ReleaseArchive {
        /// The executable, made by `make release`
        #[arg(long, default_value = "target/release/handover")]
        handover: PathBuf,
        /// Where to put the files
        #[arg(long, default_value = "target/dist")]
        folder: PathBuf,
    },
    /// Claim and release a simulated device this many times, for external tracing
    #[command(hide = true)]
    BenchVerbs {
        /// Number of repetitions
        times: usize,
    },
    /// Measure Handover's share of creates and claims, the idle daemon, and a long list
    Bench {
        /// The executable of the daemon to measure
        #[arg(long, default_value = "target/release/handover")]
        handover: PathBuf,
        /// Only this figure; an unknown name lists them
        #[arg(long)]
        only: Option<String>,
    },
}

fn main() -> Result<ExitCode> {
    // The host's workers are this executable, started again.
    if std::env::args_os().nth(1).is_some_and(|word| word == "worker") {
        return Ok(host::worker::main());
    }
    match Arguments::parse().chore {
        #[cfg(feature = "docs")]
        Chore::Docs { check } => {
            xtask::errors::write(check)?;
            xtask::schema::write(check)?;
            xtask::machine_schema::write(check)?;
        }
        Chore::Inventory { root } => {
            let inventory = LinuxHost::reader(&root)?.detail(None)?;
            println!("{}", serde_json::to_string_pretty(&inventory)?);
        }
        Chore::Contract { address, of } => {
            let run_dir = PathBuf::from("/run/handover-contract");
            let host = LinuxHost::new(HostConfig::this_host(run_dir))?;
            match of.as_str() {
                "vfs" => contract::vfs(&host, address)?,
                "mdevs" => contract::mdevs(&host, address)?,
                "vgpus" => contract::vgpus(&host, address)?,
                _ => contract::check(&host, address)?,
            }
            println!("{address}: the contract holds ({of})");
        }
        Chore::Tree { folder, functions, processes, files } => {
            std::fs::create_dir_all(&folder)?;
            tree::write(
                &folder,
                Shape { functions, whole: true, processes: ProcessCounts { processes, files } },
            )?;
        }
        Chore::Release { version, date } => release::prepare(&version, &date)?,
        Chore::ReleaseArchive { handover, folder } => release::archive(&handover, &folder)?,
        Chore::BenchListing { handover } => bench::listing::run(&handover)?,
        Chore::BenchVerbs { times } => bench::syncs::verbs(times)?,
        Chore::Bench { handover, only } => bench::run(&handover, only.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}
