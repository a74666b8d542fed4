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
mod watch;
mod wrap;

use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Hand this host's PCI devices to virtual machines, and take them back
#[derive(Debug, Parser)]
#[command(name = "handover", version, disable_help_subcommand = false)]
struct Handover {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Ls(ls::Ls),
    Catalog(catalog::CatalogCommand),
    Doctor(doctor::Doctor),
    Record(record::Record),
    Show(show::Show),
    Topo(topo::Topo),
    Watch(watch::Watch),
    Claim(claim::Claim),
    Claims(claim::Claims),
    Prepare(claim::Prepare),
    Unprepare(claim::Unprepare),
    Release(claim::Release),
    Renew(claim::Renew),
    Cdi(Box<cdi::Cdi>),
    Sriov(sriov::Sriov),
    #[command(alias = "reserve")]
    BootList(boot_list::BootList),
    #[command(alias = "recover")]
    Return(return_devices::Return),
    Reconcile(return_devices::Reconcile),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Device(device::Device),
    Instance(instance::Instance),
    Image(image::Image),
    Pod(Box<pod::Pod>),
    Resources(resources::Resources),
    Completions(generate::Completions),
    Man(generate::Man),
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

/// Parses the arguments of the process and runs the command.
#[must_use]
pub fn run() -> ExitCode {
    terminal::guard_panics();
    let parsed = match command().try_get_matches().and_then(|of| Handover::from_arg_matches(&of)) {
        Ok(parsed) => parsed,
        Err(error) => return usage::report(error),
    };
    let done = match parsed.command {
        Command::Serve(serve) => serve.run(),
        Command::Ls(ls) => ls.run(),
        Command::Catalog(catalog) => catalog.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Record(record) => record.run(),
        Command::Show(show) => show.run(),
        Command::Topo(topo) => topo.run(),
        Command::Watch(watch) => watch.run(),
        Command::Claim(claim) => claim.run(),
        Command::Claims(claims) => claims.run(),
        Command::Prepare(prepare) => prepare.run(),
        Command::Unprepare(unprepare) => unprepare.run(),
        Command::Release(release) => release.run(),
        Command::Renew(renew) => renew.run(),
        Command::Cdi(cdi) => cdi.run(),
        Command::Sriov(sriov) => sriov.run(),
        Command::BootList(boot_list) => boot_list.run(),
        Command::Return(return_devices) => return_devices.run(),
        Command::Reconcile(reconcile) => reconcile.run(),
        Command::Backup(backup) => backup.run(),
        Command::Restore(restore) => restore.run(),
        Command::Device(device) => device.run(),
        Command::Instance(instance) => instance.run(),
        Command::Image(image) => image.run(),
        Command::Pod(pod) => pod.run(),
        Command::Resources(resources) => resources.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
