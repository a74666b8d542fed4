//! `handover cdi`: Container Device Interface (CDI) specs of devices and claims.

mod generate;

use clap::{Args, Subcommand};
use service::cdi;
use service::claims::ClaimService;

use crate::backend::Backend;
use crate::failure::{Done, Failure};
use crate::{listing, output};

/// Write, list and remove CDI specs of devices for container tools such as podman
///
/// Each prepared claim has a spec in --cdi-dir automatically: `podman run --device handover.dev/claim=ID`.
#[derive(Debug, Args)]
#[command(after_long_help = "docs/cdi.md describes what a container gets.")]
pub struct Cdi {
    #[command(flatten)]
    backend: Backend,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Generate(generate::Generate),
    /// List the CDI specs that Handover wrote
    #[command(visible_alias = "ls")]
    List,
    /// Remove CDI specs of released claims, and of devices whose nodes are gone
    Clean {
        /// Remove all CDI specs that Handover wrote
        #[arg(long)]
        all: bool,
    },
}

impl Cdi {
    pub fn run(self) -> Done {
        match self.command {
            Command::Generate(generate) => generate.run(&self.backend),
            Command::List => list(&self.backend),
            Command::Clean { all } => clean(&self.backend, all),
        }
    }
}

fn list(backend: &Backend) -> Done {
    let all = cdi::list(&backend.cdi_dir).map_err(Failure::to("list the CDI specs"))?;
    listing::print(
        backend.connection.json(),
        &all,
        "no CDI specs of Handover",
        ["NAME", "STATE", "FILE"],
        |one| [one.names.join(" "), one.state(), one.path.display().to_string()],
    )
}

fn clean(backend: &Backend, all: bool) -> Done {
    let removed = cdi::clean(&backend.cdi_dir, all, || backend.list());
    let removed = removed.map_err(Failure::to("remove CDI specs"))?;
    if backend.connection.json() {
        return output::json(&removed);
    }
    if removed.is_empty() {
        return output::line("Nothing to remove.");
    }
    removed.iter().try_for_each(|path| output::line(&format!("removed {}", path.display())))
}
