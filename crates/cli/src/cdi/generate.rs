//! `handover cdi generate`: writes CDI specs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use api::client::segment;
use clap::Args;
use convert::cdi::{self, Host, Spec};
use model::{Address, Code, Inventory, Refusal};
use serde::Serialize;
use service::cdi::Folder;
use service::claims::ClaimService;
use uuid::Uuid;

use crate::backend::Backend;
use crate::failure::{Done, Failure};
use crate::output::{self, warning};
use crate::source::Source;
use crate::terminal;

/// Nodes that several functions share.
const SHARED: [&str; 1] = ["/dev/kfd"];

/// Write CDI specs, each to a file of its own
///
/// For a claim: its VFIO nodes, and its addresses in the variables that KubeVirt's launcher reads. For a device: the
/// VFIO nodes of its assembly, or the nodes of a GPU's native driver. Each spec has the lowest version of the format
/// that supports its contents.
#[derive(Debug, Args)]
pub struct Generate {
    /// Claims (id or owner KIND/ID), addresses, registered names, mediated devices, MIG instances (ADDRESS:gi1:ci0); by
    /// default, everything that containers can use
    #[arg(value_name = "WHAT")]
    what: Vec<String>,

    /// Directory to write to, such as /etc/cdi for persistent specs; - for standard output; --cdi-dir by default
    #[arg(long, value_name = "DIR|-")]
    output: Option<PathBuf>,

    #[command(flatten)]
    source: Source,
}

/// A file that was written.
#[derive(Debug, Serialize)]
struct Written {
    path: PathBuf,
    names: Vec<String>,
    cdi_version: String,
}

impl Generate {
    pub fn run(self, backend: &Backend) -> Done {
        let what = || Failure::to("generate CDI specs");
        let mut specs = self.specs(backend).map_err(what())?;
        if self.is_this_host() {
            specs.iter_mut().for_each(leave_out_missing);
        }
        let output = self.output.as_deref().unwrap_or(&backend.cdi_dir);
        if output == Path::new("-") {
            return Ok(specs.iter().try_for_each(|spec| terminal::print_file(&spec.render()))?);
        }
        let Some(folder) = Folder::from_option(output) else {
            let remedy = "name a directory: --output /var/run/cdi, or - for standard output";
            let why = "--cdi-dir is none: no directory to write to";
            return Err(what()(Refusal::new(Code::InvalidRequest, why, remedy)));
        };
        let written = write(&folder, &specs).map_err(what())?;
        if backend.connection.json() {
            return output::json(&written);
        }
        written.iter().try_for_each(|one| {
            output::line(&format!("{}  {}", one.names.join(" "), one.path.display()))
        })
    }

    fn is_this_host(&self) -> bool {
        self.source.root == Path::new("/")
    }

    fn specs(&self, backend: &Backend) -> Result<Vec<Spec>, Refusal> {
        let inventory = self.inventory()?;
        let mut present: Vec<String> = SHARED.map(str::to_owned).to_vec();
        present.retain(|path| self.is_this_host() && Path::new(path).exists());
        let host = Host { inventory: &inventory, present: &present };
        if self.what.is_empty() {
            return Ok(self.everything(backend, &host));
        }
        let mut specs: Vec<Spec> = Vec::new();
        for what in &self.what {
            for spec in self.of(backend, &host, what)? {
                if !specs.contains(&spec) {
                    specs.push(spec);
                }
            }
        }
        Ok(specs)
    }

    /// The host's hardware, with detail of NVIDIA GPUs for their MIG instances.
    fn inventory(&self) -> Result<Inventory, Refusal> {
        let host = self.source.open()?;
        let inventory = self.source.inventory(&host)?;
        let gpus = inventory.functions.values().filter(|one| one.nodes.nvidia_minor.is_some());
        let gpus: Vec<Address> = gpus.map(|function| function.address).collect();
        if gpus.is_empty() { Ok(inventory) } else { self.source.detail(&host, Some(&gpus)) }
    }

    /// The prepared claims, if they can be listed, and the devices.
    fn everything(&self, backend: &Backend, host: &Host<'_>) -> Vec<Spec> {
        let mut specs = Vec::new();
        if self.is_this_host() {
            match backend.list() {
                Ok(claims) => specs.extend(claims.iter().filter_map(service::cdi::spec)),
                Err(refusal) => warning(&format!("claims are omitted: {}", refusal.message)),
            }
        }
        specs.extend(cdi::all(host));
        specs
    }

    fn of(&self, backend: &Backend, host: &Host<'_>, what: &str) -> Result<Vec<Spec>, Refusal> {
        if let Ok(address) = what.parse::<Address>() {
            return Ok(vec![cdi::device(host, address, &address.to_string())?]);
        }
        if what.contains(":gi") {
            return Ok(vec![cdi::instance(host, what)?]);
        }
        let uuid = what.parse::<Uuid>().ok();
        if let Some(uuid) = uuid
            && (has_mdev(host.inventory, uuid) || !self.is_this_host())
        {
            return Ok(vec![cdi::mediated(host, uuid)?]);
        }
        if !self.is_this_host() {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!("{what:?} is not an address; --root supports only addresses"),
                "use addresses, such as 0000:01:00.0, or omit --root",
            ));
        }
        if uuid.is_some() || what.contains('/') {
            return claimed(backend, what, uuid.is_some());
        }
        registered(backend, host, what)
    }
}

/// The specs of a claim, or of all prepared claims of an owner.
fn claimed(backend: &Backend, key: &str, is_id: bool) -> Result<Vec<Spec>, Refusal> {
    let claims = backend.list()?;
    let own: Vec<&api::Claim> = claims
        .iter()
        .filter(|claim| if is_id { claim.id == key.to_lowercase() } else { claim.owner == key })
        .collect();
    let specs: Vec<Spec> = own.iter().filter_map(|claim| service::cdi::spec(claim)).collect();
    match (own.first(), specs.is_empty()) {
        (None, _) => Err(Refusal::new(
            Code::NotFound,
            format!("no such claim: {key}"),
            "run `handover claims` to list the claims",
        )),
        (Some(claim), true) => Err(Refusal::new(
            Code::InvalidState,
            format!("claim {key} is {}: its devices have no VFIO nodes yet", claim.state),
            format!("handover prepare {}", claim.id),
        )),
        (Some(_), false) => Ok(specs),
    }
}

/// The spec of a registered device, by its name.
fn registered(backend: &Backend, host: &Host<'_>, name: &str) -> Result<Vec<Spec>, Refusal> {
    if !cdi::is_name(name) {
        return Err(Refusal::new(
            Code::InvalidName,
            format!("{name:?} is not a valid CDI device name"),
            "use its address: `handover device list` prints it",
        ));
    }
    let path = format!("/devices/{}", segment(name));
    let address: String = backend.ask(
        async |client| client.get::<api::Device>(&path).await.map(|device| device.pci_address),
        |engine| engine.devices().find(name).map(|device| device.address.to_string()),
    )?;
    let address: Address = address.parse()?;
    Ok(vec![cdi::device(host, address, name)?])
}

fn has_mdev(inventory: &Inventory, uuid: Uuid) -> bool {
    inventory.functions.values().flat_map(|parent| &parent.mdevs).any(|mdev| mdev.uuid == uuid)
}

/// A missing node would keep a container from starting: NVIDIA's shared nodes are created on first use.
fn leave_out_missing(spec: &mut Spec) {
    let missing: BTreeSet<String> = service::cdi::missing(spec.paths()).into_iter().collect();
    for path in &missing {
        let name = spec.names().next().unwrap_or_default();
        warning(&format!("{path} does not exist on this host; omitted from {name}"));
    }
    for device in &mut spec.devices {
        device.container_edits.device_nodes.retain(|node| !missing.contains(&node.path));
    }
}

fn write(folder: &Folder, specs: &[Spec]) -> Result<Vec<Written>, Refusal> {
    let write = |spec: &Spec| {
        let path = folder.write(spec)?;
        let cdi_version = spec.cdi_version.clone();
        Ok(Written { path, names: spec.names().collect(), cdi_version })
    };
    specs.iter().map(write).collect()
}
