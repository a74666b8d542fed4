//! `handover ls`: what this host has, read from the host itself; no daemon is needed.

pub mod filter;
mod rows;
mod text;

use clap::Args;
use model::{Host, Kind};

use crate::failure::{Done, Failure};
use crate::source::Source;
use crate::{Json, output};
use filter::Filter;
use rows::{Listing, Wanted};

/// List what could be handed over, with all that goes with it, and what stands in the way
#[derive(Debug, Args)]
#[command(after_long_help = filter::HELP)]
pub struct Ls {
    /// Only assemblies with a function that is meant: an address or the beginning of one, ids, a kind, key:value, or
    /// free text; all must hold
    #[arg(value_name = "FILTER")]
    filters: Vec<Filter>,

    /// Everything, bridges too
    #[arg(short, long)]
    all: bool,

    /// Only this kind: gpu, accelerator, nic, nvme, storage, audio, usb, other or bridge
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<Kind>,

    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    output: Json,
}

impl Ls {
    pub fn run(self) -> Done {
        let host = self.source.open().map_err(Failure::to("list the host's devices"))?;
        self.print(&host)
    }

    /// Reads the host and prints what is there now.
    fn print(&self, host: &impl Host) -> Done {
        let failed = || Failure::to("list the host's devices");
        let inventory =
            host.inventory().map_err(|error| failed()(self.source.unreadable(&error)))?;
        let addresses: Vec<_> = inventory.functions.keys().copied().collect();
        // Who uses a device is told as far as this user may see it.
        let holders = host.holders(&addresses).unwrap_or_default();
        let wanted = Wanted { all: self.all, kind: self.kind, filters: &self.filters };
        let listing = Listing::of(&inventory, &holders, &wanted);
        if self.output.json {
            return output::json(&listing);
        }
        output::line(text::render(&listing, output::width()).trim_end())
    }
}
