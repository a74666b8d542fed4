//! `handover pod`: a KubeVirt virtual machine as a pod for podman, with the devices that this host really has.

mod devices;
mod down;
mod files;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use convert::devices::MemoryLimit;
use convert::pod::{self, ConsoleProxy, Settings};
use convert::print::{self, Format};
use model::choose::Want;
use model::{Code, Refusal};
use service::pods::{self, Launcher, Machine};

use crate::backend::Backend;
use crate::failure::{Done, Failure};
use crate::output::warning as warn;

/// Convert KubeVirt virtual machines to pods that podman plays, with this host's devices
///
/// Reads VirtualMachine and VirtualMachineInstance, one or several, in YAML or JSON. The pods go to standard output and
/// all that is to be said to standard error: `handover pod vm.yaml | podman kube play -`. Nothing is printed where
/// something is missing.
#[derive(Debug, Args)]
#[command(after_long_help = "docs/kubevirt.md tells what each volume and device becomes.")]
pub struct Pod {
    /// The file with the virtual machines; standard input by default, or for -
    #[arg(value_name = "FILE", conflicts_with = "vm_file")]
    file: Option<PathBuf>,

    /// The same
    #[arg(long, value_name = "FILE")]
    vm_file: Option<PathBuf>,

    /// How the pods are printed
    #[arg(long, value_name = "FORMAT", default_value = "yaml")]
    output: Output,

    /// Whether the host's devices are mounted
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    mount_devices: bool,

    /// Keep the bindings of interfaces; passt, which needs no privileges, by default
    #[arg(long)]
    no_passt: bool,

    /// Add a container that serves the serial console as a web socket
    #[arg(long)]
    add_console_proxy: bool,

    /// The image of that container
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "quay.io/vladikr/kubevirt-console-proxy:latest"
    )]
    proxy_image: String,

    /// The port of that container
    #[arg(long, value_name = "PORT", default_value = "8080")]
    proxy_port: u16,

    /// The image of virt-launcher
    #[arg(long, value_name = "IMAGE", default_value = pod::LAUNCHER_IMAGE)]
    launcher_image: String,

    /// A file with instance types
    #[arg(long, value_name = "FILE")]
    instancetype_file: Option<PathBuf>,

    /// A file with preferences
    #[arg(long, value_name = "FILE")]
    preference_file: Option<PathBuf>,

    /// How machines get devices: by the nodes of their drivers, or by VFIO
    #[arg(long, value_name = "WAY", default_value = "auto")]
    devices: Way,

    /// Another machine's recording, the directory of a host, or none: the usual names, and nothing is checked
    #[arg(long, value_name = "FILE|none", default_value = "/")]
    host: PathBuf,

    /// What a resource is on this host, such as example.com/nic=8086:10fb (see `handover claim --help`)
    #[arg(long = "resource", value_name = "NAME=WANT", value_parser = resource)]
    resources: Vec<(String, Want)>,

    /// How much memory of each GPU a pod may take, such as 4Gi, where the kernel and the GPU's driver account it; the
    /// machine's annotation handover.dev/gpu-memory-limit by default
    #[arg(long, value_name = "QUANTITY", value_parser = memory_limit)]
    gpu_memory_limit: Option<MemoryLimit>,

    /// Claim the devices for the pod, and prepare them for VFIO; asked again it is the same claim
    #[arg(long, conflicts_with = "host")]
    claim: bool,

    /// With --claim: the user who may open what is prepared; the launcher's in root's podman by default
    #[arg(long, value_name = "UID", default_value = "107")]
    uid: u32,

    /// With --claim: ask processes that use a function to end; none is killed
    #[arg(long, requires = "claim")]
    evict: bool,

    /// Have the pod ask for its devices by name (Container Device Interface; podman 5.4 or newer)
    #[arg(long)]
    cdi: bool,

    /// Release what was claimed for a pod: its NAME, NAMESPACE/NAME, or the file with its machine
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["file", "vm_file", "claim"])]
    down: Option<String>,

    /// Refuse fields that KubeVirt does not have, which are only reported by default
    #[arg(long)]
    strict: bool,

    /// Go on where devices are missing, in use, or cannot be opened
    #[arg(long)]
    allow_missing: bool,

    /// Say why each volume and device is there
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
    /// vfio with --claim, or where the devices are on vfio already; else nodes
    Auto,
    /// The nodes that the devices' own drivers make, such as /dev/nvidia0 and /dev/dri/card0
    Nodes,
    /// VFIO, as virt-launcher gives devices to its guest
    Vfio,
}

fn resource(text: &str) -> Result<(String, Want), String> {
    let (name, want) = text.split_once('=').ok_or("write it like NAME=WANT")?;
    let want: Want = want.parse().map_err(|refusal: Refusal| refusal.message)?;
    Ok((name.to_owned(), want))
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
        // Last, so that nothing is claimed for a pod that there will not be.
        if way == Way::Vfio && self.claim {
            devices::claim(&self, &mut machines).map_err(what())?;
        }
        if self.cdi {
            devices::ask_by_name(&self, &mut machines).map_err(what())?;
        }
        self.print(machines)
    }

    /// The machines of the file, with all that KubeVirt fills in.
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

    /// Refuses nodes of this very host that are not there, or that the launcher may not open.
    fn check_nodes(&self, way: Way, machines: &[Machine]) -> Result<(), Refusal> {
        if !self.this_host() || !self.mount_devices {
            return Ok(());
        }
        let claimed_for = self.claim.then_some(self.uid);
        let launcher = Launcher { claimed_for, vfio: way == Way::Vfio };
        self.accept(pods::unusable_nodes(machines, launcher, warn))
    }

    /// The file for messages.
    fn source(&self) -> String {
        files::name(self.file.as_ref().or(self.vm_file.as_ref()))
    }

    /// Whether no host is to be looked at.
    fn no_host(&self) -> bool {
        self.host.as_os_str() == "none"
    }

    /// Whether it is this very host.
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

    /// The way, as far as it is known before the host is looked at.
    fn way(&self, machines: &[Machine]) -> Result<Way, Refusal> {
        let nothing = machines.iter().all(|machine| machine.wanted.is_empty());
        let vfio = self.devices == Way::Vfio || self.claim;
        if self.claim && self.devices == Way::Nodes {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "what is claimed is prepared for VFIO, and --devices=nodes asks for drivers' nodes",
                "use --devices=vfio with --claim",
            ));
        }
        if vfio && self.no_host() && !nothing {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "addresses and IOMMU groups are the host's, and --host none looks at none",
                "give a recording of the host (handover record), or run it there",
            ));
        }
        if self.cdi && self.no_host() && !nothing {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "with --cdi devices are asked for by address, and --host none looks at no host",
                "leave one of them out",
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

    /// Refuses what is missing, all of it at once, or warns of it.
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
                let text = machine.explain(&settings);
                let _ = anstream::stderr().write_all(text.as_bytes());
            }
        }
        let json = matches!(self.output, Output::Json) || self.backend.connection.json();
        let format = if json { Format::Json } else { Format::Yaml };
        let mut out = std::io::stdout().lock();
        out.write_all(print::documents(&objects, format).as_bytes())?;
        out.flush()?;
        Ok(())
    }
}

/// Says what is done.
fn say(text: &str) {
    let _ = anstream::stderr().write_all(format!("{text}\n").as_bytes());
}
