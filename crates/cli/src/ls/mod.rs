//! `handover ls`: what this host has, read from the host itself; no daemon is needed.

mod rows;
mod show;

use clap::Args;
use model::{Host, Kind, Refusal};

use crate::failure::{Done, Failure};
use crate::source::Source;
use crate::{Json, output};
use rows::{Listing, Wanted};

/// List what could be handed over, with all that goes with it, and what stands in the way
#[derive(Debug, Args)]
pub struct Ls {
    /// Only what has this in its address, name, ids or driver (may be several)
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,

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
        let listing = self.listing().map_err(Failure::to("list the host's devices"))?;
        if self.output.json {
            return output::json(&listing);
        }
        output::line(show::render(&listing).trim_end())
    }

    fn listing(&self) -> Result<Listing, Refusal> {
        let host = self.source.open()?;
        let inventory = self.source.inventory(&host)?;
        let wanted = Wanted { all: self.all, kind: self.kind, filters: &self.filters };
        let addresses: Vec<_> = inventory.functions.keys().copied().collect();
        // Who uses a device is told as far as this user may see it.
        let holders = host.holders(&addresses).unwrap_or_default();
        Ok(Listing::of(&inventory, &holders, &wanted))
    }
}
