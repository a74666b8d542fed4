//! `handover device`: the register of devices that may be handed over, and hand-overs without a machine.

use api::client::segment;
use api::{
    AvailableDevice, BindDevice, Cleared, CreateDevice, Device as Registered, Released,
    ResetDevice, UnbindDevice,
};
use clap::{Args, Subcommand};

use crate::connection::{Connection, tag, tag_query};
use crate::failure::{Done, Failure};
use crate::listing::MODEL;
use crate::names::Names;
use crate::output::changed;
use crate::{claim, listing, output, values};

/// Register devices that may be handed over; bind, unbind and reset them by hand
#[derive(Debug, Args)]
pub struct Device {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List devices that can be handed over and are not claimed, registered or not: GPUs and all NVIDIA devices, or others
    /// with --type
    Available {
        /// Kind: all, gpu, accelerator, nic, nvme, storage, audio, usb or other
        #[arg(long = "type", value_name = "KIND")]
        kind: Option<String>,
    },
    /// List the registered devices
    #[command(visible_alias = "ls")]
    List {
        /// List only those with this tag (repeatable)
        #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
        tags: Vec<(String, String)>,
    },
    /// Register a device
    #[command(visible_alias = "register")]
    Add {
        /// PCI address, as `handover ls` prints it
        address: String,
        /// Name; derived from the address by default
        #[arg(long)]
        name: Option<String>,
        /// Tag (repeatable)
        #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
        tags: Vec<(String, String)>,
    },
    /// Show a registered device
    Show {
        /// Name, id or address of a registered device
        device: String,
    },
    /// Unregister a device; the hardware is not touched
    #[command(visible_alias = "delete")]
    Rm {
        /// Name, id or address of a registered device
        device: String,
    },
    /// Bind a device to its vfio driver, with its IOMMU group and companions, as a claim of yours
    Bind {
        /// Address, name or id
        device: String,
        /// Owner of the claim, KIND/ID; person/YOU by default
        #[arg(long, value_name = "KIND/ID")]
        owner: Option<String>,
        /// User id that may open the device; root by default
        #[arg(long, value_name = "UID", value_parser = values::number::<u32>)]
        uid: Option<u32>,
        /// Ask processes that use the device to terminate; none is killed
        #[arg(long)]
        evict: bool,
    },
    /// Return a device that was bound to its driver, and end the claim
    Unbind {
        /// Address, name or id
        device: String,
        /// Owner of the claim that bound it, KIND/ID; person/YOU by default
        #[arg(long, value_name = "KIND/ID")]
        owner: Option<String>,
    },
    /// Reset a device, with its companions; if it is not bound, it returns to its driver afterwards
    Reset {
        /// Address, name or id
        device: String,
        /// Owner of the claim, KIND/ID; person/YOU by default
        #[arg(long, value_name = "KIND/ID")]
        owner: Option<String>,
        /// Ask processes that use the device to terminate; none is killed
        #[arg(long)]
        evict: bool,
    },
    /// Clear a wedged or quarantined device after checking it, and undo what is left of its hand-over
    Clear {
        /// Address, name or id
        device: String,
    },
}

impl Device {
    pub fn run(self) -> Done {
        let Self { connection, command } = self;
        match command {
            Command::Available { kind } => available(&connection, kind.as_deref()),
            Command::List { tags } => list(&connection, &tags),
            Command::Add { address, name, tags } => {
                let what = Failure::to(format!("register {address}"));
                let tags = (!tags.is_empty()).then(|| tags.into_iter().collect());
                let body = CreateDevice { pci_address: address, name, tags };
                let device = connection
                    .talk(async |client| client.post("/devices", Some(&body)).await)
                    .map_err(what)?;
                show(&connection, &device, &Names::default())
            }
            Command::Show { device } => {
                let path = format!("/devices/{}", segment(&device));
                let (shown, instances) = connection
                    .talk(async |client| {
                        let shown: Registered = client.get(&path).await?;
                        let names = Names::of_instances(&client).await;
                        Ok((shown, names))
                    })
                    .map_err(Failure::to(format!("show the device {device}")))?;
                show(&connection, &shown, &instances)
            }
            Command::Rm { device } => {
                let path = format!("/devices/{}", segment(&device));
                connection
                    .talk(async |client| client.delete(&path).await)
                    .map_err(Failure::to(format!("unregister the device {device}")))?;
                changed(&connection, &format!("Unregistered the device {device}."))
            }
            Command::Bind { device, owner, uid, evict } => {
                let owner = Some(owner.unwrap_or_else(claim::person));
                bind(&connection, &device, &BindDevice { owner, uid, evict })
            }
            Command::Unbind { device, owner } => {
                let owner = Some(owner.unwrap_or_else(claim::person));
                by_hand(&connection, ("unbind", "Unbound"), &device, &UnbindDevice { owner })
            }
            Command::Reset { device, owner, evict } => {
                let owner = Some(owner.unwrap_or_else(claim::person));
                by_hand(&connection, ("reset", "Reset"), &device, &ResetDevice { owner, evict })
            }
            Command::Clear { device } => {
                let path = format!("/devices/{}/clear", segment(&device));
                let cleared: Option<Cleared> = connection
                    .talk(async |client| client.post_and_read(&path, None::<&()>).await)
                    .map_err(Failure::to(format!("clear the device {device}")))?;
                let notes = cleared.unwrap_or_default().notes;
                notes.iter().for_each(|note| output::warning(note));
                changed(&connection, &format!("Cleared the device {device}."))
            }
        }
    }
}

/// Binds a device, and shows the claim.
fn bind(connection: &Connection, device: &str, how: &BindDevice) -> Done {
    let path = format!("/devices/{}/bind", segment(device));
    let bound = connection
        .talk(async |client| client.post(&path, Some(how)).await)
        .map_err(Failure::to(format!("bind the device {device}")))?;
    claim::show(connection, &bound)
}

/// Unbinds or resets a device; the answer may have notes.
fn by_hand(
    connection: &Connection,
    (verb, done): (&str, &str),
    device: &str,
    how: &impl serde::Serialize,
) -> Done {
    let path = format!("/devices/{}/{verb}", segment(device));
    let released: Option<Released> = connection
        .talk(async |client| client.post_and_read(&path, Some(how)).await)
        .map_err(Failure::to(format!("{verb} the device {device}")))?;
    released.unwrap_or_default().notes.iter().for_each(|note| output::warning(note));
    changed(connection, &format!("{done} the device {device}."))
}

fn available(connection: &Connection, kind: Option<&str>) -> Done {
    let path = match kind {
        Some(kind) => format!("/devices/available?type={}", api::client::query_value(kind)),
        None => "/devices/available".to_owned(),
    };
    let devices: Vec<AvailableDevice> = connection
        .talk(async |client| client.get(&path).await)
        .map_err(Failure::to("list the available devices"))?;
    let headings = ["ADDRESS", "KIND", MODEL, "GROUP", "DRIVER"];
    let none = "no such device can be handed over, or all are claimed; `handover ls` shows all devices and what blocks them";
    listing::print(connection.json(), &devices, none, headings, |device| {
        let name = format!("{} {}", device.vendor_name, device.device_name);
        let group = device.iommu_group.to_string();
        let driver = device.current_driver.clone().unwrap_or_default();
        [device.pci_address.clone(), device.kind.clone(), name, group, driver]
    })
}

fn list(connection: &Connection, tags: &[(String, String)]) -> Done {
    let path = format!("/devices{}", tag_query(tags));
    let (devices, instances) = connection
        .talk(async |client| {
            let devices: Vec<Registered> = client.get(&path).await?;
            let names = Names::of_instances(&client).await;
            Ok((devices, names))
        })
        .map_err(Failure::to("list the devices"))?;
    let headings = ["NAME", "ADDRESS", "KIND", MODEL, "STATE", "ON VFIO", "ATTACHED TO", "TAGS"];
    let none = "no registered devices; `handover device add ADDRESS` registers one";
    listing::print(connection.json(), &devices, none, headings, |device| {
        let [name, address] = [&device.name, &device.pci_address].map(Clone::clone);
        let [kind, state] = [&device.kind, &device.state].map(Clone::clone);
        let on_vfio = if device.bound_to_vfio { "yes" } else { "no" }.to_owned();
        let attached = device.attached_to.as_deref().map(|id| instances.name(id));
        let attached = attached.unwrap_or_default().to_owned();
        let tags = output::tags(&device.tags);
        [name, address, kind, model(device), state, on_vfio, attached, tags]
    })
}

/// What a device is: its ids while its function is gone.
fn model(device: &Registered) -> String {
    let ids = || format!("{}:{}", device.vendor_id, device.device_id);
    device.title.clone().unwrap_or_else(ids)
}

fn show(connection: &Connection, device: &Registered, instances: &Names) -> Done {
    device.warnings.iter().for_each(|warning| output::warning(warning));
    let attached = device.attached_to.as_deref().map_or("no instance", |id| instances.name(id));
    let group = device.iommu_group.map_or_else(|| "none".to_owned(), |group| group.to_string());
    let fields = [
        ("name", device.name.clone()),
        ("id", device.id.clone()),
        ("address", device.pci_address.clone()),
        ("kind", device.kind.clone()),
        ("model", device.title.clone().unwrap_or_default()),
        ("ids", format!("{}:{}", device.vendor_id, device.device_id)),
        ("IOMMU group", group),
        ("state", device.state.clone()),
        ("why", device.state_reason.clone().unwrap_or_default()),
        ("on vfio", if device.bound_to_vfio { "yes" } else { "no" }.to_owned()),
        ("attached to", attached.to_owned()),
        ("registered", crate::age::shown(&device.created_at)),
        ("tags", output::tags(&device.tags)),
    ];
    listing::print_one(connection.json(), device, &fields)
}
