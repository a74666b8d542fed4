//! `handover instance set`.

use std::path::PathBuf;

use api::client::{Client, segment};
use api::{Cpu, CreateInstance, Display, Instance as Machine, UpdateInstance};
use clap::Args;
use model::{Code, Refusal};

use super::create::wishes;
use super::life::Life;
use super::networks::Networks;
use super::password;
use super::seat::ChangedSeat;
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
    /// Sockets of the virtual CPUs; with --cores and --threads, this also gives their number
    #[arg(long, value_name = "COUNT", value_parser = values::number::<u32>)]
    sockets: Option<u32>,
    /// Cores of each socket
    #[arg(long, value_name = "COUNT", value_parser = values::number::<u32>)]
    cores: Option<u32>,
    /// Threads of each core
    #[arg(long, value_name = "COUNT", value_parser = values::number::<u32>)]
    threads: Option<u32>,
    /// The guest is not told that it runs on KVM; false tells it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    hide_kvm: Option<bool>,
    /// Host name of the guest; cloud-init sets it at the next start, unless it was changed in the guest
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Screen, as `handover instance create` takes it, in place of the one that it has; or none
    #[arg(long, value_name = "PROTOCOL[,listen=ADDRESS[:PORT]]", value_parser = values::display)]
    display: Option<(String, Option<String>)>,
    /// File with the password of the screen on that address in its first line, - for standard input; one is made by default
    #[arg(long, value_name = "FILE", requires = "display")]
    display_password_file: Option<PathBuf>,
    /// Memory of the screen's graphics adapter, a power of two from 1MB to 512MB; 16MB by default
    #[arg(long, value_name = "SIZE", requires = "display", value_parser = values::size_text)]
    video_memory: Option<String>,
    /// Memory, such as 512MB or 4GB (powers of 1024)
    #[arg(long, visible_alias = "memory", value_parser = values::size_text)]
    size: Option<String>,
    /// Firmware: uefi, uefi-secure or bios; another one begins with its own variables
    #[arg(long)]
    firmware: Option<String>,
    /// It has a TPM 2.0; false removes it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    tpm: Option<bool>,
    /// Huge pages for its memory: never, auto or required
    #[arg(long, value_name = "USE")]
    hugepages: Option<String>,
    /// Placement on the NUMA node of its devices: auto, required or none
    #[arg(long, value_name = "USE")]
    placement: Option<String>,
    #[command(flatten)]
    seat: ChangedSeat,
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
        let cpu = Cpu {
            sockets: self.sockets,
            cores: self.cores,
            threads: self.threads,
            hide_kvm: self.hide_kvm,
        };
        let password =
            self.display_password_file.as_deref().map(password::first_line).transpose()?;
        let video_memory = self.video_memory;
        let display = self.display.map(|(protocol, listen)| match protocol.as_str() {
            "none" => {
                Display { enabled: Some(false), protocol: None, video_memory, listen, password }
            }
            _ => {
                Display { enabled: None, protocol: Some(protocol), video_memory, listen, password }
            }
        });
        let mut body = UpdateInstance {
            vcpus: self.vcpus,
            cpu: (cpu != Cpu::default()).then_some(cpu),
            hostname: self.hostname,
            display,
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
            ..UpdateInstance::default()
        };
        self.seat.fill(&mut body);
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
