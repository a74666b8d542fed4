//! `handover topo`: the host's tree of devices, read from the host itself; no daemon is needed.

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
use crate::source::Source;
use crate::{Json, output};

/// Draw the host's tree of devices: NUMA nodes, root ports, switches, links, IOMMU groups, distances
#[derive(Debug, Args)]
#[command(after_long_help = filter::HELP)]
pub struct Topo {
    /// Only the devices that are meant, and the way to them: an address or the beginning of one, ids, a kind, key:value,
    /// or free text; all must hold
    #[arg(value_name = "FILTER")]
    filters: Vec<Filter>,

    /// Everything, the host's own functions and idle ports too
    #[arg(short, long)]
    all: bool,

    /// How far apart all GPUs, accelerators, NICs and NVMe drives are, also where they are many
    #[arg(long)]
    distances: bool,

    /// Write the picture as SVG; it has no host name and no date in it
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    svg: Option<PathBuf>,

    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    output: Json,
}

impl Topo {
    pub fn run(self) -> Done {
        let inventory = self.read().map_err(Failure::to("read the host's devices"))?;
        let meant = |function: &Function| Filter::all_match(&self.filters, function);
        let wanted = Wanted { all: self.all, distances: self.distances, meant: Some(&meant) };
        let picture = Picture::of(&inventory, wanted);
        if let Some(file) = &self.svg {
            return write(file, &svg::render(&picture)).map_err(Failure::to("write the picture"));
        }
        if self.output.json {
            return output::json(&picture);
        }
        output::line(text::render(&picture, output::width()).trim_end())
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
            format!("{} cannot be written: {error}", file.display()),
            "name a file in a directory that is there and that you may write to",
        )
    })
}
