//! `handover doctor`: what blocks handing devices over on this host, and how to fix it.

mod render;

use clap::Args;
use model::doctor::{Facts, Severity, Verdict, remedy};
use model::{Address, Refusal, Scan};

use crate::failure::{Done, Failure, IMPOSSIBLE, WARNINGS};
use crate::own_state::OwnStateDir;
use crate::show::find;
use crate::source::Source;
use crate::{Json, output, terminal};

/// Report what blocks handing devices over, and how to fix it on this system
///
/// Changes nothing. Exits with 0 if devices can be handed over, 10 if there are warnings, and 11 if handing over is not possible.
/// Without root some checks are not possible; these are listed.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Check only what concerns the function at this address (or its beginning, if only one function has it), its assembly,
    /// and hand-overs of its kind
    #[arg(long = "for", value_name = "ADDRESS")]
    address: Option<String>,

    /// Show passed checks too
    #[arg(short, long)]
    all: bool,

    /// Print a shell script with all remedies; read it before running it
    #[arg(long, conflicts_with_all = ["json", "all"])]
    fix_script: bool,

    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    own: OwnStateDir,

    #[command(flatten)]
    output: Json,
}

impl Doctor {
    pub fn run(self) -> Done {
        let (verdict, address) = self.examine().map_err(Failure::to("examine the host"))?;
        if self.fix_script {
            // Printing the script is a success, whatever the verdict.
            return output::file(&remedy::script(&verdict));
        }
        if self.output.json {
            output::json(&verdict)?;
        } else {
            output::text(&render::text(&verdict, self.all, address, terminal::width()))?;
        }
        match verdict.worst() {
            Severity::Good | Severity::Note | Severity::Unseen => Ok(()),
            Severity::Warning => Err(Failure::Answered(WARNINGS)),
            Severity::Impossible => Err(Failure::Answered(IMPOSSIBLE)),
        }
    }

    /// The verdict, and the address that was asked for.
    fn examine(&self) -> Result<(Verdict, Option<Address>), Refusal> {
        let host = self.source.open()?;
        let facts = host.facts().map_err(|error| self.source.unreadable(&error))?;
        let facts = Facts { own: self.own.read(&self.source), ..facts };
        let find = |text: &String| find::find(&facts.inventory, text);
        let address = self.address.as_ref().map(find).transpose()?;
        Ok((facts.examine(address)?, address))
    }
}
