//! `handover show`: everything about one function, read from the host itself; no daemon is needed.

mod find;
mod sheet;
#[cfg(test)]
mod tests;
mod text;

use clap::Args;
use model::doctor::{self, Patient, Platform};
use model::{Address, Holder, Host, Inventory, Refusal};

use crate::failure::{Done, Failure};
use crate::source::Source;
use crate::{Json, output};
use sheet::Sheet;

/// Show everything about one device: where it is, what uses it, what goes with it, what stands in the way
#[derive(Debug, Args)]
pub struct Show {
    /// Its address, such as 0000:01:00.0; short where that is clear: 01:00.0, 01:
    #[arg(value_name = "ADDRESS")]
    address: String,

    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    output: Json,
}

/// What was read for it.
struct Seen {
    inventory: Inventory,
    address: Address,
    holders: Vec<Holder>,
    console: Platform,
}

impl Show {
    pub fn run(self) -> Done {
        let what = format!("show {}", self.address);
        let Seen { inventory, address, holders, console } =
            self.read().map_err(Failure::to(what))?;
        let Some(function) = inventory.function(address) else {
            let gone = model::no_such_function(address);
            return Err(Failure::to(format!("show {address}"))(gone));
        };
        let patient = Patient { inventory: &inventory, holders: &holders, platform: &console };
        let framebuffers = doctor::framebuffers(patient, address);
        let sheet = Sheet { framebuffers, ..Sheet::of(&inventory, function, &holders) };
        if self.output.json {
            return output::json(&sheet);
        }
        output::line(text::render(&sheet).trim_end())
    }

    fn read(&self) -> Result<Seen, Refusal> {
        let host = self.source.open()?;
        let listing = self.source.inventory(&host)?;
        let address = find::find(&listing, &self.address)?;
        let mut wanted = vec![address];
        if let Some(function) = listing.function(address) {
            wanted
                .extend(function.path.iter().filter(|bridge| listing.function(**bridge).is_some()));
        }
        let inventory = self.source.detail(&host, Some(&wanted))?;
        let addresses: Vec<Address> = inventory.functions.keys().copied().collect();
        // Who uses it is told as far as this user may see it.
        let holders = host.holders(&addresses).unwrap_or_default();
        Ok(Seen { inventory, address, holders, console: host.console() })
    }
}
