//! The project's own chores; `cargo xtask --help` lists them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use host::{HostConfig, LinuxHost};
use model::Address;
use xtask::tree::{self, Crowd, Shape};
use xtask::{bench, contract, release};

#[derive(Parser)]
#[command(about = "Handover's own chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Write the documents that are made from the code (docs/errors.md, docs/inventory.schema.json)
    #[cfg(feature = "docs")]
    Docs {
        /// Only say whether they are up to date
        #[arg(long)]
        check: bool,
    },
    /// Print the inventory in detail, as docs/inventory.schema.json describes it
    Inventory {
        /// The directory that has the host's sys and proc in it
        #[arg(default_value = "/")]
        root: PathBuf,
    },
    /// Drive a free function of this host through a hand-over and back, checking each step; needs root
    Contract {
        /// The function, on its native driver
        address: Address,
        /// What of it: itself as a whole, its virtual functions, mediated devices or vGPUs
        #[arg(long, default_value = "whole", value_parser = ["whole", "vfs", "mdevs", "vgpus"])]
        of: String,
    },
    /// Write a generated host as a tree of files, for trying `--root` with any size
    Tree {
        /// Where; made if it is not there
        folder: PathBuf,
        /// How many PCI functions
        #[arg(long, default_value_t = 500)]
        functions: usize,
        /// How many processes
        #[arg(long, default_value_t = 0)]
        processes: usize,
        /// How many files each process has open
        #[arg(long, default_value_t = 50)]
        files: usize,
    },
    /// Measure a listing beside lspci, lstopo and a bare loop, on generated trees and on this machine
    BenchListing {
        /// The executable that lists
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
    /// Claim and release a simulated device so many times, for who counts from outside what it does
    #[command(hide = true)]
    BenchVerbs {
        /// How many times
        times: usize,
    },
    /// Measure our own part of creates and claims, and the daemon at rest
    Bench {
        /// The executable whose daemon is measured
        #[arg(long, default_value = "target/release/handover")]
        handover: PathBuf,
    },
}

fn main() -> Result<ExitCode> {
    // The workers of the host are this executable, started again.
    if std::env::args_os().nth(1).is_some_and(|word| word == "worker") {
        return Ok(host::worker::main());
    }
    match Arguments::parse().chore {
        #[cfg(feature = "docs")]
        Chore::Docs { check } => {
            xtask::errors::write(check)?;
            xtask::schema::write(check)?;
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
                Shape { functions, whole: true, crowd: Crowd { processes, files } },
            )?;
        }
        Chore::Release { version, date } => release::prepare(&version, &date)?,
        Chore::ReleaseArchive { handover, folder } => release::archive(&handover, &folder)?,
        Chore::BenchListing { handover } => bench::listing::run(&handover)?,
        Chore::BenchVerbs { times } => bench::syncs::verbs(times)?,
        Chore::Bench { handover } => bench::run(&handover)?,
    }
    Ok(ExitCode::SUCCESS)
}
