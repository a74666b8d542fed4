//! `handover instance set`.

use api::client::{Client, segment};
use api::{Instance as Machine, UpdateInstance};
use clap::Args;
use model::{Code, Refusal};

use super::life::Life;
use crate::values;

/// Change an instance
#[derive(Debug, Args)]
pub struct Set {
    /// Name or id of the instance, as `handover instance list` shows it
    instance: String,
    /// Number of virtual CPUs; the instance must be stopped
    #[arg(long, value_parser = values::vcpus)]
    vcpus: Option<u32>,
    /// Memory, such as 512MB or 4GB (powers of 1024); the instance must be stopped
    #[arg(long, value_parser = values::size_text)]
    size: Option<String>,
    #[command(flatten)]
    life: Life,
}

impl Set {
    /// Sends the request.
    pub async fn send(self, client: &Client) -> Result<Machine, Refusal> {
        let body = UpdateInstance {
            vcpus: self.vcpus,
            size: self.size,
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
