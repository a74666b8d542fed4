//! `handover catalog`: checks a devices file against this host, or suggests one.

mod show;
mod suggest;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use engine::catalog::CatalogError;
use model::catalog::{Catalog, Survey};
use model::{Host, Refusal};

use crate::failure::{self, Done, Failure};
use crate::own_state::OwnStateDir;
use crate::source::Source;
use crate::{Json, output, terminal};

/// Check or suggest a devices file, which names devices for requests
#[derive(Debug, Args)]
pub struct CatalogCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    Suggest(Suggest),
}

/// Show which devices of this host a devices file matches, and which of its lines match nothing
///
/// Exits with 0 if every line matches a device, 10 if a line matches none, and 2 if the file is invalid.
#[derive(Debug, Args)]
struct Check {
    /// Devices file, in YAML or JSON (docs/catalog.md)
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    own: OwnStateDir,

    #[command(flatten)]
    output: Json,
}

/// Print a devices file for the GPUs, accelerators, network cards and NVMe drives of this host
#[derive(Debug, Args)]
struct Suggest {
    #[command(flatten)]
    source: Source,
}

impl CatalogCommand {
    pub fn run(self) -> Done {
        match self.command {
            Command::Check(check) => check.run(),
            Command::Suggest(suggest) => suggest.run(),
        }
    }
}

impl Check {
    fn run(self) -> Done {
        let file = self.file.display().to_string();
        let catalog = engine::catalog::load(&self.file).map_err(|error| self.refused(&error))?;
        let survey = self.survey(&catalog).map_err(Failure::to(format!("check {file}")))?;
        if self.output.json {
            output::json(&survey)?;
        } else {
            output::text(&show::render(&file, &survey, terminal::width()))?;
        }
        if survey.has_warnings() { Err(Failure::Answered(failure::WARNINGS)) } else { Ok(()) }
    }

    fn survey(&self, catalog: &Catalog) -> Result<Survey, Refusal> {
        let host = self.source.open()?;
        let inventory = self.source.listing(&host)?;
        let addresses: Vec<_> = inventory.functions.keys().copied().collect();
        // Shows the users of a device that this user may see.
        let holders = host.holders(&addresses).unwrap_or_default();
        Ok(catalog.survey(&inventory, &holders, &self.own.read(&self.source)))
    }

    fn refused(&self, error: &CatalogError) -> Failure {
        if let CatalogError::Mistakes(mistakes) = error
            && self.output.json
        {
            // The mistakes go to standard output as JSON; the error goes to standard error.
            if let Err(failure) = output::json(mistakes) {
                return failure;
            }
        }
        Failure::to(format!("use {}", self.file.display()))(error.into())
    }
}

impl Suggest {
    fn run(self) -> Done {
        let read = || {
            let host = self.source.open()?;
            self.source.inventory(&host)
        };
        let inventory = read().map_err(Failure::to("suggest a devices file"))?;
        output::file(&suggest::render(&inventory))
    }
}
