//! `handover sriov`: how many virtual functions devices have, now and at each boot.

use api::client::segment;
use api::{SetVfs, VfConfiguration};
use clap::{Args, Subcommand};

use crate::door::Door;
use crate::failure::{Done, Failure};
use crate::output;
use crate::table::Table;

/// Set how many virtual functions devices have, now and at each boot
#[derive(Debug, Args)]
pub struct Sriov {
    #[command(flatten)]
    door: Door,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what is configured
    #[command(visible_alias = "ls")]
    List,
    /// Set the number of a device's virtual functions; refused while one of them is used
    Set {
        /// Its address, or the name that it is registered by
        device: String,
        /// How many; 0 for none
        count: u16,
        /// Give them to the host's drivers by themselves; those for machines do without
        #[arg(long)]
        autoprobe: bool,
    },
}

impl Sriov {
    pub fn run(self) -> Done {
        let Self { door, command } = self;
        match command {
            Command::List => {
                let all: Vec<VfConfiguration> = door
                    .ask(async |client| client.get("/sriov").await, daemon::door::vfs)
                    .map_err(Failure::to("list what is configured"))?;
                if door.connection.json() {
                    return output::json(&all);
                }
                let mut table = Table::new(&["ADDRESS", "VFS", "HOST DRIVERS"]);
                for one in all {
                    let autoprobe = if one.autoprobe { "yes" } else { "no" }.to_owned();
                    table.row([one.pci_address, one.count.to_string(), autoprobe]);
                }
                output::line(table.render().trim_end())
            }
            Command::Set { device, count, autoprobe } => {
                let path = format!("/sriov/{}", segment(&device));
                let body = SetVfs { count, autoprobe };
                door.ask(
                    async |client| client.post_quietly(&path, Some(&body)).await,
                    |engine| engine.set_vf_count(&device, count, autoprobe),
                )
                .map_err(Failure::to(format!("set the virtual functions of {device}")))
            }
        }
    }
}
