//! `handover ls`: lists the devices of this host; needs no daemon.

mod footnotes;
mod parts;
mod rows;
#[cfg(test)]
mod tests;
mod text;

use clap::Args;
use host::LinuxHost;
use model::{Holder, Host, Inventory, Kind, Refusal};

use crate::failure::{Done, Failure};
use crate::filter::{self, Filter};
use crate::own_state::OwnStateDir;
use crate::source::Source;
use crate::{Json, output, terminal, watch};
use rows::{Listing, Wanted};

/// Examples, for the help.
const EXAMPLES: &str = "  handover ls gpu driver:none  GPUs without a driver
  handover ls 10de: node:1     NVIDIA devices on NUMA node 1";

/// The action, for errors.
const WHAT: &str = "list the host's devices";

/// List devices that can be handed over, with their assemblies, and what blocks the others
#[derive(Debug, Args)]
#[command(after_long_help = filter::help(EXAMPLES))]
pub struct Ls {
    /// List only assemblies with a matching function: an address or its beginning, ids, a kind, key:value, or free text;
    /// all filters must match
    #[arg(value_name = "FILTER")]
    filters: Vec<Filter>,

    /// List everything, including bridges
    #[arg(short, long)]
    all: bool,

    /// List only this kind: gpu, accelerator, nic, nvme, storage, audio, usb, other or bridge
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<Kind>,

    /// Also list the vGPU profiles of each card, and how many are left
    #[arg(long)]
    parts: bool,

    /// Print the list again each time a device changes, until Ctrl-C
    #[arg(short, long, conflicts_with = "root")]
    watch: bool,

    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    own: OwnStateDir,

    #[command(flatten)]
    output: Json,
}

impl Ls {
    pub fn run(self) -> Done {
        let host = self.source.open().map_err(Failure::to(WHAT))?;
        self.source.note_hidden_users();
        if self.watch {
            return watch::at_each_change(!self.output.json, move || self.print(&host));
        }
        self.print(&host)
    }

    /// Reads the host and prints the current listing.
    fn print(&self, host: &LinuxHost) -> Done {
        let (mut inventory, holders) = self.read(host).map_err(Failure::to(WHAT))?;
        self.add_parts(host, &mut inventory);
        Source::note_unidentified(&inventory);
        let wanted =
            Wanted { all: self.all, kind: self.kind, filters: &self.filters, parts: self.parts };
        let listing = Listing::of(&inventory, &holders, &self.own.read(&self.source), &wanted);
        if self.output.json {
            return output::json(&listing);
        }
        let listing = Listing { users_hidden: self.source.hides_users(), ..listing };
        output::text(&text::render(&listing, terminal::width()))
    }

    /// The inventory at the depth that rows need, and the holders that this user may see.
    fn read(&self, host: &LinuxHost) -> Result<(Inventory, Vec<Holder>), Refusal> {
        // Free text can name an interface or a disk, which rows do not need.
        if self.filters.iter().any(|filter| matches!(filter, Filter::Text(_))) {
            let inventory = self.source.listing(host)?;
            let addresses: Vec<_> = inventory.functions.keys().copied().collect();
            let holders = host.holders(&addresses).unwrap_or_default();
            return Ok((inventory, holders));
        }
        host.overview().map_err(|error| self.source.unreadable(&error))
    }

    /// Adds the types of vGPUs, which only `--parts` shows.
    fn add_parts(&self, host: &LinuxHost, inventory: &mut Inventory) {
        if self.parts {
            let sources = parts::sources(inventory);
            host.offers(inventory, &sources);
        }
    }
}
