//! `handover pod`: converts a KubeVirt virtual machine to a pod for podman, with this host's devices.

mod devices;
mod down;
mod files;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use convert::devices::MemoryLimit;
use convert::pod::{self, ConsoleProxy, Settings};
use convert::print::{self, Format};
use model::choose::{Want, WantKind};
use model::{Code, Refusal};
use service::pods::{self, Launcher, Machine};

use crate::backend::Backend;
use crate::failure::{Done, Failure};
use crate::output::{note as say, warning as warn};
use crate::{terminal, values};

/// Convert KubeVirt virtual machines to pods for podman, with this host's devices
///
/// Reads one or more VirtualMachine and VirtualMachineInstance objects, in YAML or JSON. Prints the pods to standard
/// output and messages to standard error: `handover pod vm.yaml | podman kube play -`. Prints no pod if a device is
/// missing.
#[derive(Debug, Args)]
#[command(after_long_help = "docs/kubevirt.md describes what each volume and device becomes.")]
pub struct Pod {
    /// File with the virtual machines; - or no file: standard input
    #[arg(value_name = "FILE", conflicts_with = "vm_file")]
    file: Option<PathBuf>,

    /// The same as FILE
    #[arg(long, value_name = "FILE")]
    vm_file: Option<PathBuf>,

    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "yaml")]
    output: Output,

    /// Mount the host's devices
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    mount_devices: bool,

    /// Keep the bindings of network interfaces; by default passt, which needs no privileges
    #[arg(long)]
    no_passt: bool,

    /// Add a container that serves the serial console over a WebSocket
    #[arg(long)]
    add_console_proxy: bool,

    /// Image of the console container
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "quay.io/vladikr/kubevirt-console-proxy:latest"
    )]
    proxy_image: String,

    /// Port of the console container
    #[arg(long, value_name = "PORT", default_value = "8080", value_parser = values::port)]
    proxy_port: u16,

    /// Image of virt-launcher
    #[arg(long, value_name = "IMAGE", default_value = pod::LAUNCHER_IMAGE)]
    launcher_image: String,

    /// File with instance types
    #[arg(long, value_name = "FILE")]
    instancetype_file: Option<PathBuf>,

    /// File with preferences
    #[arg(long, value_name = "FILE")]
    preference_file: Option<PathBuf>,

    /// How machines get devices: through their drivers' nodes, or through VFIO
    #[arg(long, value_name = "WAY", default_value = "auto")]
    devices: Way,

    /// Recording or root directory of the host; `none` uses default device names and checks nothing
    #[arg(long, value_name = "FILE|none", default_value = "/")]
    host: PathBuf,

    /// Devices of this host for a resource name, such as example.com/nic=8086:10fb (see `handover claim --help`)
    #[arg(long = "resource", value_name = "NAME=WANT", value_parser = resource)]
    resources: Vec<(String, Want)>,

    /// Memory that a pod may use of each GPU, such as 4Gi, if the kernel and the GPU's driver account for it; the
    /// machine's annotation handover.dev/gpu-memory-limit by default
    #[arg(long, value_name = "QUANTITY", value_parser = memory_limit)]
    gpu_memory_limit: Option<MemoryLimit>,

    /// Claim the devices for the pod, and prepare them for VFIO; claiming is idempotent
    #[arg(long, conflicts_with = "host")]
    claim: bool,

    /// With --claim: user id that may open the prepared devices; by default virt-launcher's in root's podman
    #[arg(long, value_name = "UID", default_value = "107", value_parser = values::number::<u32>)]
    uid: u32,

    /// With --claim: ask processes that use a function to terminate; none is killed
    #[arg(long, requires = "claim")]
    evict: bool,

    /// With --claim: take devices that the host's network uses, if a --resource names them by address or registered
    /// name; their routes, addresses and sessions end
    #[arg(long, requires = "claim")]
    force_network: bool,

    /// Request the devices by CDI name (Container Device Interface; podman 5.4 or newer)
    #[arg(long)]
    cdi: bool,

    /// Release the claims of a pod: its NAME, NAMESPACE/NAME, or the file with its machine
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["file", "vm_file", "claim"])]
    down: Option<String>,

    /// Refuse unknown fields; by default they are only reported
    #[arg(long)]
    strict: bool,

    /// Continue if devices are missing, in use, or cannot be opened
    #[arg(long)]
    allow_missing: bool,

    /// Explain each volume and device
    #[arg(long)]
    explain: bool,

    #[command(flatten)]
    backend: Backend,
}

/// How pods are printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

/// How machines get devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// vfio with --claim or if the devices are already on vfio; otherwise nodes
    Auto,
    /// Nodes of the devices' native drivers, such as /dev/nvidia0 and /dev/dri/card0
    Nodes,
    /// VFIO, as virt-launcher assigns devices to its guest
    Vfio,
}

fn resource(text: &str) -> Result<(String, Want), String> {
    let (name, want) =
        text.split_once('=').ok_or("expected NAME=WANT, such as example.com/nic=8086:10fb")?;
    check_resource_name(name)?;
    let read: Want = want.parse().map_err(|refusal: Refusal| refusal.message)?;
    if matches!(&read.kind, WantKind::Any(filter) if filter.resource.is_some()) {
        return Err(format!(
            "{want:?} is a name of the daemon's devices file, which a pod cannot use: give VENDOR:DEVICE or an address"
        ));
    }
    Ok((name.to_owned(), read))
}

/// Checks an extended resource's name: a DNS subdomain, a slash and up to 63 letters, digits, `-`, `_` and `.`
/// (`IsQualifiedName` of Kubernetes; a name without a domain is one of Kubernetes' own).
fn check_resource_name(name: &str) -> Result<(), String> {
    let ends = |text: &str| {
        let last = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        last(text.bytes().next()) && last(text.bytes().last())
    };
    let label = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ends(text) && text.len() <= 63 && text.bytes().all(inner)
    };
    let name_fits = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        ends(text) && text.len() <= 63 && text.bytes().all(inner)
    };
    match name.split_once('/') {
        Some((domain, own))
            if domain.len() <= 253 && domain.split('.').all(label) && name_fits(own) =>
        {
            Ok(())
        }
        _ => Err(format!(
            "{name:?} is not a resource name of Kubernetes: use DOMAIN/NAME, such as example.com/nic"
        )),
    }
}

fn memory_limit(text: &str) -> Result<MemoryLimit, String> {
    text.parse().map_err(|refusal: Refusal| format!("{}; {}", refusal.message, refusal.remedy))
}

impl Pod {
    pub fn run(self) -> Done {
        if let Some(down) = &self.down {
            return down::release(&self.backend, down);
        }
        let what = || Failure::to(format!("convert {}", self.source()));
        let mut machines = self.read()?;
        let way = self.way(&machines).map_err(what())?;
        let chosen = devices::choose(&self, way, &mut machines).map_err(what())?;
        devices::limit_memory(&self, chosen, &mut machines).map_err(what())?;
        let missing: Vec<Refusal> =
            machines.iter_mut().flat_map(|one| std::mem::take(&mut one.devices.missing)).collect();
        self.accept(missing).map_err(what())?;
        self.check_nodes(way, &machines).map_err(what())?;
        // Last, so that nothing is claimed for a pod that fails to convert.
        if way == Way::Vfio && self.claim {
            devices::claim(&self, &mut machines).map_err(what())?;
        }
        if self.cdi {
            devices::ask_by_name(&self, &mut machines).map_err(what())?;
        }
        self.print(machines)
    }

    /// Reads the machines of the file, with KubeVirt's defaults filled in.
    fn read(&self) -> Result<Vec<Machine>, Failure> {
        let file = self.file.as_ref().or(self.vm_file.as_ref());
        let documents = files::read(file, self.strict)?;
        let mut given = Vec::new();
        for file in [&self.instancetype_file, &self.preference_file].into_iter().flatten() {
            given.extend(files::read(Some(file), self.strict)?);
        }
        let what = Failure::to(format!("convert {}", self.source()));
        let mut machines = pods::machines(documents, given, "it").map_err(what)?;
        if !self.mount_devices {
            machines.iter_mut().for_each(|machine| machine.wanted.clear());
        }
        Ok(machines)
    }

    /// Refuses nodes that do not exist on this host, or that the launcher may not open.
    fn check_nodes(&self, way: Way, machines: &[Machine]) -> Result<(), Refusal> {
        if !self.this_host() || !self.mount_devices {
            return Ok(());
        }
        let claimed_for = self.claim.then_some(self.uid);
        let launcher = Launcher { claimed_for, vfio: way == Way::Vfio };
        self.accept(pods::unusable_nodes(machines, launcher, warn))
    }

    /// The file's name for messages.
    fn source(&self) -> String {
        files::name(self.file.as_ref().or(self.vm_file.as_ref()))
    }

    /// Whether `--host none` is set.
    fn no_host(&self) -> bool {
        self.host.as_os_str() == "none"
    }

    /// Whether the host is the one that runs this process.
    fn this_host(&self) -> bool {
        self.host.as_os_str() == "/"
    }

    fn settings(&self) -> Settings {
        let proxy = ConsoleProxy { image: self.proxy_image.clone(), port: self.proxy_port };
        Settings {
            launcher_image: self.launcher_image.clone(),
            passt: !self.no_passt,
            mount_devices: self.mount_devices,
            console_proxy: self.add_console_proxy.then_some(proxy),
        }
    }

    /// The way, as far as it is known before reading the host.
    fn way(&self, machines: &[Machine]) -> Result<Way, Refusal> {
        let nothing = machines.iter().all(|machine| machine.wanted.is_empty());
        let vfio = self.devices == Way::Vfio || self.claim;
        if self.claim && self.devices == Way::Nodes {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "--claim prepares devices for VFIO, but --devices=nodes requests drivers' nodes",
                "use --devices=vfio with --claim",
            ));
        }
        if vfio && self.no_host() && !nothing {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "VFIO needs addresses and IOMMU groups of a host, but --host is none",
                "name a recording of the host (`handover record`), or run the command on the host",
            ));
        }
        if self.cdi && self.no_host() && !nothing {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "--cdi needs addresses of a host, but --host is none",
                "omit one of the two options",
            ));
        }
        Ok(if nothing {
            Way::Nodes
        } else if vfio {
            Way::Vfio
        } else if self.no_host() {
            Way::Nodes
        } else {
            self.devices
        })
    }

    /// Refuses all missing devices at once, or warns of them.
    fn accept(&self, missing: Vec<Refusal>) -> Result<(), Refusal> {
        let Some(first) = missing.first() else { return Ok(()) };
        if self.allow_missing {
            missing.iter().for_each(|one| warn(&format!("{}; {}", one.message, one.remedy)));
            return Ok(());
        }
        let texts = |text: fn(&Refusal) -> &String| {
            let mut all: Vec<&str> = missing.iter().map(|one| text(one).as_str()).collect();
            all.dedup();
            all.join("\n       ")
        };
        Err(Refusal::new(first.code, texts(|one| &one.message), texts(|one| &one.remedy)))
    }

    fn print(&self, mut machines: Vec<Machine>) -> Done {
        let settings = self.settings();
        let mut objects = Vec::new();
        for machine in &mut machines {
            objects.extend(machine.objects(&settings));
            machine.notes().for_each(|note| warn(note));
            if self.explain {
                terminal::report(&machine.explain(&settings));
            }
        }
        let json = matches!(self.output, Output::Json) || self.backend.connection.json();
        let format = if json { Format::Json } else { Format::Yaml };
        Ok(terminal::print_file(&print::documents(&objects, format))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_needs_a_name_that_a_pod_can_request() {
        let longest = format!("example.com/{}", "a".repeat(63));
        for name in ["example.com/nic", "nvidia.com/GA102_RTX.3090", longest.as_str()] {
            assert!(resource(&format!("{name}=gpu")).is_ok(), "{name}");
        }
        let long = format!("example.com/{}", "a".repeat(64));
        for name in [
            "",
            "foo",
            "/",
            "foo/",
            "/foo",
            "a/b/c",
            "Example.com/nic",
            "a..b/nic",
            "a/-b",
            "a/b c",
            &long,
        ] {
            let error = resource(&format!("{name}=gpu")).unwrap_err();
            assert!(error.contains("use DOMAIN/NAME"), "{name}: {error}");
        }
    }
}
