//! `handover instance create`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use api::client::{Client, segment};
use api::{Cpu, CreateInstance, Display, Instance as Machine, PlannedInstance, Rom, Wish};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use model::{Code, Refusal};
use serde_json::Value;

use super::container::Container;
use super::disks::Disks;
use super::life::Life;
use super::networks::Networks;
use super::seat::Seat;
use super::{password, plan, show, template};
use crate::connection::{Connection, tag};
use crate::failure::{Done, Failure};
use crate::image::Pull;
use crate::progress::Progress;
use crate::values;

/// The options that a file has instead.
const OPTIONS: [&str; 50] = [
    "image",
    "size",
    "vcpus",
    "sockets",
    "cores",
    "threads",
    "hide_kvm",
    "os",
    "devices",
    "gpus",
    "roms",
    "no_roms",
    "disk_size",
    "disks",
    "volumes",
    "blocks",
    "cdroms",
    "firmware",
    "display",
    "display_password_file",
    "video_memory",
    "hugepages",
    "placement",
    "spare_ports",
    "take_display",
    "restart_units",
    "usb",
    "input",
    "networks",
    "mac",
    "publish",
    "ssh_keys",
    "user_data",
    "hostname",
    "password",
    "password_file",
    "restart",
    "restart_attempts",
    "autostart",
    "start_order",
    "start_delay",
    "env",
    "entrypoint",
    "user",
    "workdir",
    "kernel",
    "command",
    "cmdline",
    "hypervisor",
    "tags",
];

#[derive(Debug, Args)]
#[command(
    override_usage = "handover instance create [OPTIONS] --image <IMAGE> <NAME> [-- <COMMAND>...]\n       \
                      handover instance create [OPTIONS] --cdrom <IMAGE> --disk <SIZE> <NAME>\n       \
                      handover instance create [OPTIONS] --file <FILE> [NAME]",
    after_long_help = format!("What can be given to --device:\n{}", model::choose::GRAMMAR)
)]
pub struct Create {
    /// Name of the new instance: small letters, digits and hyphens
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// Read the machine from this file, as `handover instance show --yaml` prints it; - for standard input
    #[arg(short, long, value_name = "FILE", conflicts_with_all = OPTIONS)]
    file: Option<PathBuf>,
    /// Name of the image to boot, as `handover image list` shows it
    #[arg(long, required_unless_present_any = ["cdroms", "file"])]
    image: Option<String>,
    /// Memory, such as 512MB or 4GB (powers of 1024)
    #[arg(long, visible_alias = "memory", default_value = "1GB", value_parser = values::size_text)]
    size: String,
    /// Number of virtual CPUs; 2 by default
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
    /// Do not tell the guest that it runs on KVM, for drivers that refuse that
    #[arg(long)]
    hide_kvm: bool,
    /// The guest's operating system: windows (Hyper-V's interfaces, a clock of local time) or other
    #[arg(long)]
    os: Option<String>,
    /// Device, as `handover claim` takes it (repeatable): a registered name, an address, gpu, 2xgpu, profile=L40S-1Q
    #[arg(long = "device", value_name = "WANT")]
    devices: Vec<String>,
    /// GPUs (repeatable): a number, as --device 2xgpu, or the profile of a vGPU, as --device profile=L40S-1Q
    #[arg(long = "gpu", value_name = "COUNT|PROFILE", value_parser = values::gpus)]
    gpus: Vec<String>,
    /// ROM of a device that the guest sees in place of the device's own (repeatable), such as 0000:01:00.0=card.rom
    #[arg(long = "rom", value_name = "DEVICE=FILE", value_parser = values::rom)]
    roms: Vec<(String, PathBuf)>,
    /// Device whose ROM the guest does not see (repeatable), by address or registered name
    #[arg(long = "no-rom", value_name = "DEVICE")]
    no_roms: Vec<String>,
    /// Size of the root disk, such as 20GB; the size of the image by default
    #[arg(long, value_name = "SIZE", value_parser = values::size_text)]
    disk_size: Option<String>,
    #[command(flatten)]
    disks: Disks,
    /// Firmware: uefi (the usual one for a disk image), uefi-secure (with Secure Boot) or bios (the usual one for a kernel)
    #[arg(long)]
    firmware: Option<String>,
    /// Give it a TPM 2.0, which swtpm emulates
    #[arg(long)]
    tpm: bool,
    /// Give it a screen for `handover instance view`: vnc or spice; with listen=ADDRESS or listen=ADDRESS:PORT, viewers can also reach it there, with
    /// a password
    #[arg(long, value_name = "PROTOCOL[,listen=ADDRESS[:PORT]]", value_parser = values::display)]
    display: Option<(String, Option<String>)>,
    /// File with the password of the screen on that address in its first line, - for standard input; one is made by default
    #[arg(long, value_name = "FILE", requires = "display")]
    display_password_file: Option<PathBuf>,
    /// Memory of the screen's adapter, such as 64MB, for high resolutions; 16MB by default
    #[arg(long, value_name = "SIZE", requires = "display", value_parser = values::size_text)]
    video_memory: Option<String>,
    /// Huge pages for its memory: never (the usual one), auto (if enough are free on its devices' NUMA node) or required
    #[arg(long, value_name = "USE")]
    hugepages: Option<String>,
    /// Placement on the NUMA node of its devices: auto (the usual one: with cores of its own if enough are free), required or none
    #[arg(long, value_name = "USE")]
    placement: Option<String>,
    /// Ports for devices that it gets while it runs, 0 to 16; 4 by default
    #[arg(long, value_name = "COUNT", value_parser = values::number::<u32>)]
    spare_ports: Option<u32>,
    #[command(flatten)]
    seat: Seat,
    #[command(flatten)]
    networks: Networks,
    /// File with the public SSH keys that may log in (repeatable), such as ~/.ssh/id_ed25519.pub
    #[arg(long = "ssh-key", value_name = "FILE")]
    ssh_keys: Vec<PathBuf>,
    /// File with the configuration for cloud-init in the guest
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// The guest's name; the instance's name by default
    #[arg(long)]
    hostname: Option<String>,
    /// Ask for a password of the image's usual user, for the console and the screen; SSH takes none
    #[arg(long, conflicts_with = "password_file")]
    password: bool,
    /// File with such a password in its first line, - for standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    container: Container,
    #[command(flatten)]
    life: Life,
    /// Words to append to the kernel command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// Hypervisor: qemu, which is the default
    #[arg(long)]
    hypervisor: Option<String>,
    /// Tag (repeatable)
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Only show what would be chosen, and why; change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Create {
    pub fn run(self, connection: &Connection) -> Done {
        let what = Failure::to(self.what());
        if self.dry_run {
            let ask = async |client: Client| self.plan(&client).await;
            return plan::print(connection, &connection.talk(ask).map_err(what)?);
        }
        // It shows its steps.
        let created = connection.talk(async |client| self.send(&client).await);
        show(connection, &created.map_err(what)?)
    }

    /// What would be made.
    async fn plan(self, client: &Client) -> Result<PlannedInstance, Refusal> {
        let path = "/instances?dry_run=true";
        match &self.file {
            Some(file) => client.post(path, Some(&self.fields(file)?)).await,
            None => client.post(path, Some(&self.body()?)).await,
        }
    }

    /// Sends the request, and shows its progress. An instance that is what a file asks for is the answer.
    async fn send(self, client: &Client) -> Result<Machine, Refusal> {
        self.pull_missing(client).await?;
        let progress = Progress::of(client, "create", self.quiet).await;
        let created = match &self.file {
            Some(file) => client.post("/instances?once=true", Some(&self.fields(file)?)).await,
            None => client.post("/instances", Some(&self.body()?)).await,
        };
        progress.end().await;
        created
    }

    /// Pulls a container image that is not there, if its name is that of one in a registry.
    async fn pull_missing(&self, client: &Client) -> Result<(), Refusal> {
        let Some(name) = self.image.as_deref().filter(|name| name.contains('/')) else {
            return Ok(());
        };
        // The daemon itself pulls one that may be another by now.
        if self.container.pull != "missing" {
            return Ok(());
        }
        let found: Result<api::Image, Refusal> =
            client.get(&format!("/images/{}", segment(name))).await;
        match found {
            Err(refusal) if refusal.code == Code::NotFound => {
                Pull::of(name).send(client).await.map(drop)
            }
            // Whatever else there is to say of it, the creation says.
            _ => Ok(()),
        }
    }

    /// The request in a file.
    fn fields(&self, file: &Path) -> Result<Value, Refusal> {
        let (mut fields, _) = template::read(file)?;
        if let (Some(name), Some(fields)) = (&self.name, fields.as_object_mut()) {
            let other = fields.insert("name".into(), name.clone().into());
            if other.is_some_and(|other| other != name.as_str()) {
                // Another machine than the one in the file.
                template::without_own_addresses(fields);
            }
        }
        Ok(fields)
    }

    /// The request that the options make.
    fn body(self) -> Result<CreateInstance, Refusal> {
        let ssh_keys =
            self.ssh_keys.iter().map(|file| keys(file)).collect::<Result<Vec<_>, _>>()?;
        let user_data = self.user_data.as_deref().map(read).transpose()?;
        let password_hash = match &self.password_file {
            Some(file) => Some(password::of_file(file)?),
            None => self.password.then(password::asked).transpose()?,
        };
        let roms = roms(&self.roms, &self.no_roms)?;
        let cpu = self.cpu();
        let screen_password =
            self.display_password_file.as_deref().map(password::first_line).transpose()?;
        let display = self.display.map(|(protocol, listen)| Display {
            enabled: None,
            protocol: Some(protocol),
            video_memory: self.video_memory,
            listen,
            password: screen_password,
        });
        let mut body = CreateInstance {
            name: self.name.unwrap_or_default(),
            image: self.image,
            size: Some(self.size),
            vcpus: self.vcpus,
            cpu,
            os: self.os,
            overlay_size: self.disk_size,
            devices: Some(wishes(self.devices, &self.gpus)),
            hypervisor: self.hypervisor,
            tags: (!self.tags.is_empty()).then(|| self.tags.into_iter().collect()),
            cmdline: self.cmdline,
            firmware: self.firmware,
            display,
            tpm: self.tpm.then_some(true),
            hugepages: self.hugepages,
            placement: self.placement,
            spare_ports: self.spare_ports,
            roms: (!roms.is_empty()).then_some(roms),
            ssh_keys: (!ssh_keys.is_empty()).then(|| ssh_keys.concat()),
            user_data,
            hostname: self.hostname,
            password_hash,
            restart_policy: self.life.restart(),
            autostart: self.life.autostart(),
            ..CreateInstance::default()
        };
        self.disks.fill(&mut body);
        self.networks.fill(&mut body)?;
        self.seat.fill(&mut body);
        self.container.fill(&mut body);
        Ok(body)
    }

    /// The processors that the options ask for, besides their number.
    fn cpu(&self) -> Option<Cpu> {
        let Self { sockets, cores, threads, hide_kvm, .. } = *self;
        let cpu = Cpu { sockets, cores, threads, hide_kvm: hide_kvm.then_some(true) };
        (cpu != Cpu::default()).then_some(cpu)
    }

    /// The action, for messages.
    pub fn what(&self) -> String {
        match (&self.name, &self.file) {
            (Some(name), _) => format!("create the instance {name}"),
            (None, Some(file)) => format!("create the instance of {}", file.display()),
            (None, None) => "create the instance".into(),
        }
    }
}

/// The keys in a file, which has one in each line, as `authorized_keys` has them.
fn keys(path: &Path) -> Result<Vec<String>, Refusal> {
    let text = read(path)?;
    if text.contains("PRIVATE KEY") {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("{} is a private key, which must stay where it is", path.display()),
            format!("give the public one, usually {}.pub", path.display()),
        ));
    }
    let lines = text.lines().map(str::trim);
    let keys: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if keys.is_empty() {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("{} has no SSH key", path.display()),
            "`ssh-keygen -t ed25519` makes a key; the file of its public half ends with .pub",
        ));
    }
    Ok(keys)
}

/// The ROMs of devices, with the content of the files.
fn roms(files: &[(String, PathBuf)], none: &[String]) -> Result<Vec<Rom>, Refusal> {
    let mut roms = Vec::new();
    for (device, path) in files {
        let most = model::Rom::SIZE.end() + 1;
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(most as u64).read_to_end(&mut bytes));
        read.map_err(|error| unreadable(path, &error))?;
        model::check_rom(&bytes)?;
        roms.push(Rom { device: device.clone(), content: Some(BASE64.encode(bytes)) });
    }
    roms.extend(none.iter().map(|device| Rom { device: device.clone(), content: None }));
    Ok(roms)
}

/// A text file of the user's. The daemon never reads one that a request names.
fn read(path: &Path) -> Result<String, Refusal> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(
        Code::InvalidRequest,
        format!("cannot read {}: {error}", path.display()),
        "check the file's name and whether you may read it",
    )
}

/// What `--device` and `--gpu` ask for, in the grammar of claims.
pub fn wishes(devices: Vec<String>, gpus: &[String]) -> Vec<Wish> {
    let gpu = |text: &String| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("{text}xgpu"),
        false => format!("profile={text}"),
    };
    devices.into_iter().chain(gpus.iter().map(gpu)).map(Wish::Words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_short_for_wishes() {
        let texts = |devices: &[&str], gpus: &[&str]| {
            let own = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<String>>();
            let wishes = wishes(own(devices), &own(gpus)).into_iter();
            let text = |wish: Wish| match wish {
                Wish::Words(text) => text,
                Wish::Spelt(want) => panic!("{want:?}"),
            };
            wishes.map(text).collect::<Vec<String>>()
        };
        let all = texts(&["nic0", "4xvf@nic1,vlan=7"], &["2", "L40S-1Q", "NVIDIA L40S-1Q@gpu0"]);
        let read =
            ["nic0", "4xvf@nic1,vlan=7", "2xgpu", "profile=L40S-1Q", "profile=NVIDIA L40S-1Q@gpu0"];
        assert_eq!(all, read);
        for text in read {
            text.parse::<model::choose::Want>().unwrap();
        }
        assert!(
            texts(&[], &["0"])[0].parse::<model::choose::Want>().is_err(),
            "no GPU is a mistake"
        );
    }

    #[test]
    fn a_file_has_a_key_in_each_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let two = file("two", "# mine\n\nssh-ed25519 AAAA a\n ssh-rsa BBBB b\n");
        assert_eq!(keys(&two).unwrap(), ["ssh-ed25519 AAAA a", "ssh-rsa BBBB b"]);
        let private = file("id", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
        let refusal = keys(&private).unwrap_err();
        assert!(refusal.remedy.ends_with("id.pub"), "{refusal:?}");
        assert!(keys(&file("empty", "#\n")).unwrap_err().message.contains("has no SSH key"));
        assert!(keys(&dir.path().join("none")).is_err());
    }
}
