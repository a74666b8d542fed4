//! `handover instance attach` and `detach`: devices, volumes, CD-ROMs, block devices and network cards.

use api::client::{Client, segment};
use api::{
    AttachDevice, AttachVolume, BlockDisk, Cdrom, Instance as Machine, NetworkRequest, Wish,
};
use clap::Args;
use model::{Address, Code, Mac, Refusal};

use super::networks::network;

/// `handover instance attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// Name or id of the instance, as `handover instance list` shows it
    instance: String,
    /// Address or registered name of a device, or gpu and the like; or a volume, as `handover volume list` shows it
    #[arg(value_name = "DEVICE|VOLUME", required_unless_present_any = ["device", "cdrom", "block", "network"])]
    what: Option<String>,
    /// Device, as `handover instance create` takes it: a name or an address, gpu, vf@nic0, profile=L40S-1Q, ...
    #[arg(long, value_name = "WANT", conflicts_with_all = ["what", "cdrom", "block", "read_only", "bus", "serial"])]
    device: Option<String>,
    /// Network card, as `handover instance create` takes it: bridge=br0, macvtap=eth0, each also with ,mac=...; user only while
    /// it is stopped
    #[arg(long, value_name = "MODE[,OPTION...]", value_parser = network, conflicts_with_all = ["what", "device", "cdrom", "block", "read_only", "bus", "serial"])]
    network: Option<NetworkRequest>,
    /// Image of a CD-ROM instead of a volume
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["what", "read_only", "bus"])]
    cdrom: Option<String>,
    /// Block device of the host instead of a volume, below a --block-dir of the daemon
    #[arg(long, value_name = "NAME", conflicts_with_all = ["what", "cdrom"])]
    block: Option<String>,
    /// The block device may have data
    #[arg(long, requires = "block")]
    allow_data: bool,
    /// The guest cannot write to it; several instances can have a volume so
    #[arg(long)]
    read_only: bool,
    /// How it is connected: virtio (the usual one), scsi, nvme or sata
    #[arg(long)]
    bus: Option<String>,
    /// Serial number by which the guest finds it; the volume's name, or disk1, disk2, ...
    #[arg(long)]
    serial: Option<String>,
}

impl Attach {
    pub async fn send(self, client: &Client) -> Result<Machine, Refusal> {
        let instance = segment(&self.instance);
        if let Some(device) = self.device(client).await? {
            if self.read_only || self.bus.is_some() || self.serial.is_some() {
                return Err(Refusal::new(
                    Code::InvalidRequest,
                    format!("{device} is a device, not a disk"),
                    "leave --read-only, --bus and --serial out",
                ));
            }
            let body = AttachDevice { device: Wish::Words(device) };
            return client.post(&format!("/instances/{instance}/devices"), Some(&body)).await;
        }
        if let Some(card) = self.network {
            return client.post(&format!("/instances/{instance}/networks"), Some(&card)).await;
        }
        if let Some(device) = self.block {
            let body = BlockDisk {
                device,
                bus: self.bus,
                serial: self.serial,
                readonly: self.read_only.then_some(true),
                allow_data: self.allow_data.then_some(true),
                ..BlockDisk::default()
            };
            return client.post(&format!("/instances/{instance}/blocks"), Some(&body)).await;
        }
        match (self.cdrom, self.what) {
            (Some(image), _) => {
                let body = Cdrom { image, serial: self.serial };
                client.post(&format!("/instances/{instance}/cdroms"), Some(&body)).await
            }
            (None, volume) => {
                let body = AttachVolume {
                    mount_path: None,
                    readonly: self.read_only.then_some(true),
                    bus: self.bus,
                    serial: self.serial,
                };
                let volume = volume.unwrap_or_default();
                let path = format!("/instances/{instance}/volumes/{}", segment(&volume));
                client.post(&path, Some(&body)).await
            }
        }
    }

    /// The device, if one is meant: what has the form of an address, or is no volume.
    async fn device(&self, client: &Client) -> Result<Option<String>, Refusal> {
        let Some(what) = &self.what else { return Ok(self.device.clone()) };
        if what.parse::<Address>().is_ok() {
            return Ok(Some(what.clone()));
        }
        match client.get::<api::Volume>(&format!("/volumes/{}", segment(what))).await {
            Err(refusal) if refusal.code == Code::NotFound => Ok(Some(what.clone())),
            answer => answer.map(|_| None),
        }
    }

    /// The action, for messages.
    pub fn what(&self) -> String {
        let all = [&self.what, &self.device, &self.cdrom, &self.block];
        let usual = if self.network.is_some() { "a network card" } else { "" };
        let what = all.into_iter().flatten().next().map_or(usual, String::as_str);
        format!("attach {what} to {}", self.instance)
    }
}

/// `handover instance detach`.
#[derive(Debug, Args)]
pub struct Detach {
    /// Name or id of the instance, as `handover instance list` shows it
    instance: String,
    /// Name or address of a device, volume, serial number of a disk, image of a CD-ROM, block device, or hardware address of a
    /// network card, as `handover instance show` shows them
    #[arg(value_name = "DEVICE|DISK|MAC")]
    what: String,
    /// How long a running guest may take to let go of it, such as 2m; 30s by default
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
}

impl Detach {
    pub async fn send(self, client: &Client) -> Result<Machine, Refusal> {
        let (instance, what) = (segment(&self.instance), segment(&self.what));
        let path = format!("/instances/{instance}");
        let timeout = self.timeout.map(|text| format!("?timeout={}", segment(&text)));
        let timeout = timeout.unwrap_or_default();
        if self.what.parse::<Mac>().is_ok() {
            let answer =
                client.delete_and_read(&format!("{path}/networks/{what}{timeout}")).await?;
            return match answer {
                Some(machine) => Ok(machine),
                None => client.get(&path).await,
            };
        }
        let device = format!("{path}/devices/{what}{timeout}");
        let answer = match client.delete_and_read(&device).await {
            // It may be a disk; or there is no such instance, which the next answer says too.
            Err(refusal) if refusal.code == Code::NotFound => {
                client.delete_and_read(&format!("{path}/volumes/{what}{timeout}")).await.map_err(
                    |other: Refusal| if other.code == Code::NotFound { refusal } else { other },
                )?
            }
            answer => answer?,
        };
        match answer {
            Some(machine) => Ok(machine),
            None => client.get(&path).await,
        }
    }

    /// The action, for messages.
    pub fn what(&self) -> String {
        format!("detach {} from {}", self.what, self.instance)
    }
}
