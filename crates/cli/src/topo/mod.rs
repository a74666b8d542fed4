//! `handover topo`: draws the host's tree of devices; needs no daemon.

mod matrix;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};

use clap::Args;
use model::topology::{Picture, Wanted, svg};
use model::{Code, Function, Inventory, Refusal};

use crate::failure::{Done, Failure};
use crate::filter::{self, Filter};
use crate::own_state::OwnStateDir;
use crate::source::Source;
use crate::{Json, output, terminal};

/// Examples, for the help.
const EXAMPLES: &str = "  handover topo                     this host
  handover topo gpu                 GPUs, and the path to them
  handover topo --svg topology.svg  as a picture";

/// Draw the host's device tree: NUMA nodes, root ports, switches, links, IOMMU groups, distances
#[derive(Debug, Args)]
#[command(after_long_help = filter::help(EXAMPLES))]
pub struct Topo {
    /// Draw only matching devices and the path to them: an address or its beginning, ids, a kind, key:value, or free
    /// text; all filters must match
    #[arg(value_name = "FILTER")]
    filters: Vec<Filter>,

    /// Draw everything, including the host's own functions and empty ports
    #[arg(short, long)]
    all: bool,

    /// Show the distances between all GPUs, accelerators, NICs and NVMe drives, however many
    #[arg(long)]
    distances: bool,

    /// Write the picture as SVG to this file, - for standard output; it contains no host name and no date
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    svg: Option<PathBuf>,

    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    own: OwnStateDir,

    #[command(flatten)]
    output: Json,
}

impl Topo {
    pub fn run(self) -> Done {
        let inventory = self.read().map_err(Failure::to("read the host's devices"))?;
        Source::note_unidentified(&inventory);
        let meant = |function: &Function| Filter::all_match(&self.filters, function);
        let own = self.own.read(&self.source);
        let wanted = Wanted {
            all: self.all,
            distances: self.distances,
            own: Some(&own),
            meant: Some(&meant),
        };
        let picture = Picture::of(&inventory, wanted);
        if let Some(file) = &self.svg {
            if file == Path::new("-") {
                return output::file(&svg::render(&picture));
            }
            return write(file, &svg::render(&picture)).map_err(Failure::to("write the picture"));
        }
        if self.output.json {
            return output::json(&picture);
        }
        if !inventory.functions.values().any(meant) {
            return output::line("No matching device.");
        }
        output::text(&text::render(&picture, terminal::width()))
    }

    fn read(&self) -> Result<Inventory, Refusal> {
        let host = self.source.open()?;
        self.source.detail(&host, None)
    }
}

fn write(file: &Path, text: &str) -> Result<(), Refusal> {
    std::fs::write(file, text).map_err(|error| {
        Refusal::new(
            Code::InvalidRequest,
            format!("cannot write {}: {error}", file.display()),
            "name a file in an existing, writable directory",
        )
    })
}
