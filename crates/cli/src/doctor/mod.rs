//! `handover doctor`: what stands in the way of hand-overs on this host, and how to mend it.

mod render;

use clap::Args;
use model::doctor::{Severity, Verdict, remedy};
use model::{Address, Examining, Refusal};

use crate::failure::{Done, Failure, IMPOSSIBLE, WARNINGS};
use crate::source::Source;
use crate::{Json, output};

/// Report what blocks handing devices over, and how to fix it on this system
///
/// Nothing is changed. The exit status is 0 where the host is ready, 10 where there are warnings and 11 where a hand-over
/// is not possible. Without root's rights some things cannot be seen; it says which.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Look at what concerns the function at this address, and all that goes with it
    #[arg(long = "for", value_name = "ADDRESS")]
    address: Option<Address>,

    /// Show what is good, too
    #[arg(short, long)]
    all: bool,

    /// Print a shell script of all remedies, to be read before it is run
    #[arg(long, conflicts_with_all = ["json", "all"])]
    fix_script: bool,

    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    output: Json,
}

impl Doctor {
    pub fn run(self) -> Done {
        let verdict = self.examine().map_err(Failure::to("examine the host"))?;
        if self.fix_script {
            // A script that was printed is a success: its exit status is no verdict.
            return output::line(remedy::script(&verdict).trim_end());
        }
        if self.output.json {
            output::json(&verdict)?;
        } else {
            output::line(render::text(&verdict, self.all, self.address).trim_end())?;
        }
        match verdict.worst() {
            Severity::Good | Severity::Note | Severity::Unseen => Ok(()),
            Severity::Warning => Err(Failure::Answered(WARNINGS)),
            Severity::Impossible => Err(Failure::Answered(IMPOSSIBLE)),
        }
    }

    fn examine(&self) -> Result<Verdict, Refusal> {
        let host = self.source.open()?;
        let facts = host.facts().map_err(|error| self.source.unreadable(&error))?;
        facts.examine(self.address)
    }
}
