//! The command line: parses arguments, calls the daemon or the engine, prints.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod age;
#[cfg(test)]
mod any_inventory;
mod backend;
mod backup;
mod boot_list;
mod catalog;
mod cdi;
mod claim;
mod commands;
mod connection;
mod device;
mod doctor;
mod failure;
pub mod filter;
mod generate;
mod habits;
mod image;
mod instance;
mod listing;
mod log;
mod ls;
mod names;
mod opening;
mod output;
mod own_state;
mod pod;
mod progress;
mod record;
mod resources;
mod return_devices;
mod serve;
mod show;
mod source;
mod sriov;
mod table;
mod terminal;
mod this_host;
mod topo;
mod usage;
mod values;
mod volume;
mod watch;
mod wrap;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

use commands::Command;

/// Hand this host's PCI devices to virtual machines, and take them back
#[derive(Debug, Parser)]
#[command(name = "handover", version, disable_help_subcommand = false)]
struct Handover {
    #[command(subcommand)]
    command: Command,
}

/// `--json`.
#[derive(Debug, Clone, Copy, Args)]
struct Json {
    /// Print JSON, as the REST API has it
    #[arg(long, global = true)]
    json: bool,
}

/// The command-line parser, with the table of exit statuses in its long help.
#[must_use]
pub fn command() -> clap::Command {
    Handover::command().after_long_help(failure::exit_statuses())
}

/// Parses a command line. The grammar of the command that it names is enough, which is a fraction of the whole. What does
/// not fit that is parsed again with the whole, for its help and its errors.
fn parse(words: &[OsString]) -> Result<Handover, clap::Error> {
    let with = |grammar: clap::Command| {
        grammar.try_get_matches_from(words).and_then(|of| Handover::from_arg_matches(&of))
    };
    let name = words.get(1).and_then(|word| word.to_str());
    let one = name.and_then(commands::grammar_of);
    let quick = one.and_then(|one| with(clap::Command::new("handover").subcommand(one)).ok());
    quick.map_or_else(|| with(command()), Ok)
}

/// Parses the arguments of the process and runs the command.
#[must_use]
pub fn run() -> ExitCode {
    terminal::guard_panics();
    let parsed = match parse(&std::env::args_os().collect::<Vec<_>>()) {
        Ok(parsed) => parsed,
        Err(error) => return usage::report(error),
    };
    match parsed.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
