//! `handover sriov`: the number of virtual functions (VFs) of devices, now and at each boot.

use api::client::segment;
use api::{SetVfs, VfConfiguration};
use clap::{Args, Subcommand};

use crate::backend::Backend;
use crate::failure::{Done, Failure};
use crate::values::number;
use crate::{listing, output};

/// Set the number of virtual functions (VFs) of devices, now and at each boot
#[derive(Debug, Args)]
pub struct Sriov {
    #[command(flatten)]
    backend: Backend,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the configured VF counts
    #[command(visible_alias = "ls")]
    List,
    /// Set the number of VFs of a device; refused while a VF is in use
    Set {
        /// Address or registered name
        device: String,
        /// Number of VFs; 0 removes all
        #[arg(value_parser = number::<u16>)]
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
                    .map_err(Failure::to("list the VF counts"))?;
                let headings = ["ADDRESS", "VFS", "HOST DRIVERS"];
                let none =
                    "no VF counts are configured; `handover sriov set DEVICE COUNT` sets one";
                listing::print(backend.connection.json(), &all, none, headings, |one| {
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
                    .map_err(Failure::to(format!("set the VF count of {device}")))?;
                let text = format!("{device} has {count} VFs, now and at each boot.");
                output::changed(&backend.connection, &text)
            }
        }
    }
}
