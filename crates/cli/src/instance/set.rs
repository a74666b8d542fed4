//! `handover instance set`.

use api::client::{Client, segment};
use api::{CreateInstance, Instance as Machine, UpdateInstance};
use clap::Args;
use model::{Code, Refusal};

use super::create::wishes;
use super::life::Life;
use super::networks::Networks;
use crate::values;

/// Change an instance
///
/// What is not given stays. All but what starts the instance can be changed only while it is stopped, and takes effect when
/// it is started.
#[derive(Debug, Args)]
pub struct Set {
    /// Name or id of the instance, as `handover instance list` shows it
    instance: String,
    /// Number of virtual CPUs
    #[arg(long, value_parser = values::vcpus)]
    vcpus: Option<u32>,
    /// Memory, such as 512MB or 4GB (powers of 1024)
    #[arg(long, value_parser = values::size_text)]
    size: Option<String>,
    /// Firmware: uefi, uefi-secure or bios; another one begins with its own variables
    #[arg(long)]
    firmware: Option<String>,
    /// Whether it has a TPM 2.0: true or false
    #[arg(long, value_name = "BOOL")]
    tpm: Option<bool>,
    /// Huge pages for its memory: never, auto or required
    #[arg(long, value_name = "USE")]
    hugepages: Option<String>,
    /// Placement on the NUMA node of its devices: auto, required or none
    #[arg(long, value_name = "USE")]
    placement: Option<String>,
    #[command(flatten)]
    networks: Networks,
    /// Device (repeatable), as `handover instance create` takes it, in place of all that the instance has
    #[arg(long = "device", value_name = "WANT")]
    devices: Vec<String>,
    /// GPUs (repeatable), likewise: a number, or the profile of a vGPU
    #[arg(long = "gpu", value_name = "COUNT|PROFILE", value_parser = values::gpus)]
    gpus: Vec<String>,
    /// Take all its devices
    #[arg(long, conflicts_with_all = ["devices", "gpus"])]
    no_devices: bool,
    #[command(flatten)]
    life: Life,
}

impl Set {
    /// Sends the request.
    pub async fn send(self, client: &Client) -> Result<Machine, Refusal> {
        let mut cards = CreateInstance::default();
        self.networks.fill(&mut cards)?;
        let devices = wishes(self.devices, &self.gpus);
        let body = UpdateInstance {
            vcpus: self.vcpus,
            size: self.size,
            firmware: self.firmware,
            tpm: self.tpm,
            hugepages: self.hugepages,
            placement: self.placement,
            network: cards.network,
            networks: cards.networks,
            devices: (self.no_devices || !devices.is_empty()).then_some(devices),
            restart_policy: self.life.restart(),
            autostart: self.life.autostart(),
        };
        if body == UpdateInstance::default() {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "nothing to change is given",
                "`handover instance set --help` lists what can be changed",
            ));
        }
        client.patch(&format!("/instances/{}", segment(&self.instance)), &body).await
    }

    /// The action, for messages.
    pub fn what(&self) -> String {
        format!("change the instance {}", self.instance)
    }
}
