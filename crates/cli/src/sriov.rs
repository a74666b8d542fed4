//! `handover sriov`: how many virtual functions devices have, now and at each boot.

use api::client::segment;
use api::{SetVfs, VfConfiguration};
use clap::{Args, Subcommand};

use crate::backend::Backend;
use crate::failure::{Done, Failure};
use crate::listing;

/// Set how many virtual functions devices have, now and at each boot
#[derive(Debug, Args)]
pub struct Sriov {
    #[command(flatten)]
    backend: Backend,
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
        /// Let host drivers bind new VFs automatically (not for VFs that machines will use)
        #[arg(long)]
        autoprobe: bool,
    },
}

impl Sriov {
    pub fn run(self) -> Done {
        let Self { backend, command } = self;
        match command {
            Command::List => {
                let all: Vec<VfConfiguration> = backend
                    .ask(async |client| client.get("/sriov").await, service::sriov::list)
                    .map_err(Failure::to("list what is configured"))?;
                let headings = ["ADDRESS", "VFS", "HOST DRIVERS"];
                listing::print(backend.connection.json(), &all, headings, |one| {
                    let autoprobe = if one.autoprobe { "yes" } else { "no" }.to_owned();
                    [one.pci_address.clone(), one.count.to_string(), autoprobe]
                })
            }
            Command::Set { device, count, autoprobe } => {
                let path = format!("/sriov/{}", segment(&device));
                let body = SetVfs { count, autoprobe };
                backend
                    .ask(
                        async |client| client.post_quietly(&path, Some(&body)).await,
                        |engine| engine.vf_counts().set(&device, count, autoprobe),
                    )
                    .map_err(Failure::to(format!("set the virtual functions of {device}")))
            }
        }
    }
}
