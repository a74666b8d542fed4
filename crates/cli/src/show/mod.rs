//! `handover show`: prints everything about one function; needs no daemon.

pub mod find;
mod sheet;
#[cfg(test)]
mod tests;
mod text;

use clap::Args;
use model::doctor::{self, Patient, Platform};
use model::{Address, Assembly, Holder, Host, Id, Inventory, OwnState, Refusal};

use crate::failure::{Done, Failure};
use crate::own_state::OwnStateDir;
use crate::source::Source;
use crate::{Json, output, terminal};
use sheet::Sheet;

/// Show everything about one device: location, users, assembly, obstacles
#[derive(Debug, Args)]
pub struct Show {
    /// Address, such as 0000:01:00.0, or an unambiguous part of it: 01:00.0, 01:; or the name of a registered device
    #[arg(value_name = "ADDRESS|NAME")]
    address: String,

    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    own: OwnStateDir,

    #[command(flatten)]
    output: Json,
}

/// NVIDIA's vendor id.
const NVIDIA: Id = Id(0x10de);

/// What was read of the host.
struct Seen {
    inventory: Inventory,
    address: Address,
    holders: Vec<Holder>,
    console: Platform,
}

impl Show {
    pub fn run(self) -> Done {
        let what = format!("show {}", self.address);
        let own = self.own.read(&self.source);
        let Seen { inventory, address, holders, console } =
            self.read(&own).map_err(Failure::to(what))?;
        let Some(function) = inventory.function(address) else {
            let gone = model::no_such_function(address);
            return Err(Failure::to(format!("show {address}"))(gone));
        };
        let patient =
            Patient { inventory: &inventory, holders: &holders, platform: &console, own: &own };
        let framebuffers = doctor::framebuffers(patient, address);
        let sheet = Sheet { framebuffers, ..Sheet::of(&inventory, function, &holders, &own) };
        if self.output.json {
            return output::json(&sheet);
        }
        output::text(&text::render(&sheet, terminal::width()))
    }

    fn read(&self, own: &OwnState) -> Result<Seen, Refusal> {
        let host = self.source.open()?;
        self.source.note_hidden_users();
        let listing = self.source.inventory(&host)?;
        let address =
            own.named(&self.address).map_or_else(|| find::find(&listing, &self.address), Ok)?;
        let mut wanted = vec![address];
        if let Some(function) = listing.function(address) {
            wanted
                .extend(function.path.iter().filter(|bridge| listing.function(**bridge).is_some()));
        }
        if let Some(function) = listing.function(address).filter(|one| one.vendor == NVIDIA)
            && let Some(parent) = function.physical_function
        {
            // They list the names of the types of vGPUs.
            let siblings = listing.functions.values();
            let siblings = siblings.filter(|one| one.physical_function == Some(parent));
            wanted.extend(siblings.map(|one| one.address));
        }
        if let Some(assembly) = Assembly::of(&listing, address) {
            wanted.extend(assembly.taken().map(|member| member.address));
            wanted.sort_unstable();
            wanted.dedup();
        }
        let inventory = self.source.detail(&host, Some(&wanted))?;
        let addresses: Vec<Address> = inventory.functions.keys().copied().collect();
        // Shows the users that this user may see.
        let holders = host.holders(&addresses).unwrap_or_default();
        Ok(Seen { inventory, address, holders, console: host.console() })
    }
}
