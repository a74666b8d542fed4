//! `handover instance`: machines of this host.

use api::client::{Client, query_value, segment};
use api::{AttachedDevice, CreateInstance, Instance as Machine, WaitOutcome, Wish};
use clap::{Args, Subcommand};
use model::{Code, Kind, Refusal, short_titles};

use crate::connection::{Connection, tag, tag_query};
use crate::failure::{Done, Failure};
use crate::progress::Progress;
use crate::{listing, output, values};

/// Run machines with devices of this host
#[derive(Debug, Args)]
pub struct Instance {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create an instance, hand its devices over, and start it
    Create(Create),
    /// List the instances
    #[command(visible_alias = "ls")]
    List {
        /// List only those with this tag (repeatable)
        #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
        tags: Vec<(String, String)>,
    },
    /// Show an instance
    Show {
        /// Name or id of the instance, as `handover instance list` shows it
        instance: String,
    },
    /// Start the machine of a stopped instance
    Start {
        /// Name or id of the instance, as `handover instance list` shows it
        instance: String,
    },
    /// Stop the machine of an instance; it keeps its devices
    Stop {
        /// Name or id of the instance, as `handover instance list` shows it
        instance: String,
    },
    /// Delete an instance, and return its devices to their previous drivers
    #[command(visible_alias = "delete")]
    Rm {
        /// Name or id of the instance, as `handover instance list` shows it
        instance: String,
    },
    /// Print the guest's console output
    Logs {
        /// Name or id
        instance: String,
        /// Follow the console until the machine ends
        #[arg(short, long)]
        follow: bool,
        /// Number of last lines to start with
        #[arg(long, default_value_t = 100, value_name = "LINES", value_parser = values::number::<u64>)]
        tail: u64,
        /// Print the bytes that the guest wrote; by default, control characters are escaped
        #[arg(long, conflicts_with = "json")]
        raw: bool,
    },
    /// Wait until an instance is in a state
    Wait {
        /// Name or id of the instance, as `handover instance list` shows it
        instance: String,
        /// State to wait for: Created, Initializing, Running, Paused, Shutdown, Stopped, Standby or Unknown
        #[arg(long, default_value = "Running")]
        state: String,
        /// Timeout, such as 30s, 2m or 1m30s
        #[arg(long, default_value = "60s", value_name = "TIME")]
        timeout: String,
    },
}

#[derive(Debug, Args)]
#[command(after_long_help = format!("What can be given to --device:\n{}", model::choose::GRAMMAR))]
struct Create {
    /// Name of the new instance: small letters, digits and hyphens
    name: String,
    /// Name of the image to boot, as `handover image list` shows it
    #[arg(long)]
    image: String,
    /// Memory, such as 512MB or 4GB (powers of 1024)
    #[arg(long, default_value = "1GB", value_parser = values::size_text)]
    size: String,
    /// Number of virtual CPUs
    #[arg(long, default_value_t = 2, value_parser = values::vcpus)]
    vcpus: u32,
    /// Device, as `handover claim` takes it (repeatable): a registered name, an address, gpu, 2xgpu, profile=L40S-1Q
    #[arg(long = "device", value_name = "WANT")]
    devices: Vec<String>,
    /// GPUs (repeatable): a number, as --device 2xgpu, or the profile of a vGPU, as --device profile=L40S-1Q
    #[arg(long = "gpu", value_name = "COUNT|PROFILE")]
    gpus: Vec<String>,
    /// Disk size, such as 20GB; the size of the image by default
    #[arg(long, value_name = "SIZE", value_parser = values::size_text)]
    disk_size: Option<String>,
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
}

impl Instance {
    pub fn run(self) -> Done {
        let Self { connection, command } = self;
        match command {
            Command::Create(create) => {
                let what = format!("create the instance {}", create.name);
                show_after(&connection, what, async |client| create.send(client).await)
            }
            Command::List { tags } => list(&connection, &tags),
            Command::Show { instance } => {
                let path = format!("/instances/{}", segment(&instance));
                let what = format!("show the instance {instance}");
                show_after(&connection, what, async |client| client.get(&path).await)
            }
            Command::Start { instance } => switch(&connection, &instance, "start"),
            Command::Stop { instance } => switch(&connection, &instance, "stop"),
            Command::Rm { instance } => {
                let path = format!("/instances/{}", segment(&instance));
                connection
                    .talk(async |client| client.delete(&path).await)
                    .map_err(Failure::to(format!("delete the instance {instance}")))?;
                output::changed(&connection, &format!("Deleted the instance {instance}."))
            }
            Command::Logs { instance, follow, tail, raw } => {
                logs(&connection, &instance, (follow, tail), raw)
            }
            Command::Wait { instance, state, timeout } => {
                wait(&connection, &instance, &state, &timeout)
            }
        }
    }
}

impl Create {
    async fn send(self, client: &Client) -> Result<Machine, Refusal> {
        let progress = Progress::of(client, "create", self.quiet).await;
        let body = CreateInstance {
            name: self.name,
            image: self.image,
            size: Some(self.size),
            vcpus: Some(self.vcpus),
            overlay_size: self.disk_size,
            devices: Some(wishes(self.devices, &self.gpus)),
            hypervisor: self.hypervisor,
            tags: (!self.tags.is_empty()).then(|| self.tags.into_iter().collect()),
            cmdline: self.cmdline,
            ..CreateInstance::default()
        };
        let created = client.post("/instances", Some(&body)).await;
        progress.end().await;
        created
    }
}

/// What `--device` and `--gpu` ask for, in the grammar of claims.
fn wishes(devices: Vec<String>, gpus: &[String]) -> Vec<Wish> {
    let gpu = |text: &String| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("{text}xgpu"),
        false => format!("profile={text}"),
    };
    devices.into_iter().chain(gpus.iter().map(gpu)).map(Wish::Words).collect()
}

fn switch(connection: &Connection, instance: &str, verb: &str) -> Done {
    let path = format!("/instances/{}/{verb}", segment(instance));
    let what = format!("{verb} the instance {instance}");
    show_after(connection, what, async |client| client.post(&path, None::<&()>).await)
}

/// Shows the instance that the daemon answers.
fn show_after(
    connection: &Connection,
    what: String,
    request: impl AsyncFnOnce(&Client) -> Result<Machine, Refusal>,
) -> Done {
    let answer = connection.talk(async |client| request(&client).await);
    show(connection, &answer.map_err(Failure::to(what))?)
}

fn list(connection: &Connection, tags: &[(String, String)]) -> Done {
    let path = format!("/instances{}", tag_query(tags));
    let machines: Vec<Machine> = connection
        .talk(async |client| client.get(&path).await)
        .map_err(Failure::to("list the instances"))?;
    let headings = ["NAME", "STATE", "IMAGE", "VCPUS", "SIZE", "TAGS", "DEVICES"];
    let none = "no instances; `handover instance create` creates one";
    listing::print(connection.json(), &machines, none, headings, |machine| {
        let [name, state] = [&machine.name, &machine.state].map(Clone::clone);
        let [image, size] = [&machine.image, &machine.size].map(Clone::clone);
        let (vcpus, tags) = (machine.vcpus.to_string(), output::tags(&machine.tags));
        [name, state, image, vcpus, size, tags, devices(machine)]
    })
}

/// The devices and vGPUs of an instance, by name and model; equal ones are counted.
fn devices(machine: &Machine) -> String {
    if machine.attached.is_empty() && !machine.devices.is_empty() {
        // A daemon of an earlier version lists only registered devices, by id.
        return machine.devices.len().to_string();
    }
    counted(&machine.attached)
}

fn counted(devices: &[AttachedDevice]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for device in devices.iter().map(brief) {
        match counts.iter_mut().find(|(known, _)| *known == device) {
            Some((_, count)) => *count += 1,
            None => counts.push((device, 1)),
        }
    }
    let text = |(device, count): (String, usize)| match count {
        1 => device,
        _ => format!("{count}x {device}"),
    };
    counts.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A device or vGPU in few words: `gpu0 (GA102 [GeForce RTX 3090])`, `vGPU L40S-1Q`.
fn brief(device: &AttachedDevice) -> String {
    if let Some(profile) = &device.profile {
        return format!("vGPU {profile}");
    }
    let model = short_titles(Kind::Other, &device.title).pop().unwrap_or_default();
    match (&device.name, model.is_empty()) {
        (Some(name), true) => name.clone(),
        (Some(name), false) => format!("{name} ({model})"),
        (None, true) => device.pci_address.clone(),
        (None, false) => model,
    }
}

/// A device or vGPU of an instance, for people: `gpu0 (0000:01:00.0, NVIDIA Corporation ...)`.
fn device(device: &AttachedDevice) -> String {
    let AttachedDevice { pci_address: address, title, name, profile, mdev_uuid, partition } =
        device;
    let part = profile.as_ref().map(|profile| format!("vGPU {profile}"));
    let what = name.clone().or(part).or_else(|| partition.clone());
    // Without a name, the address is it.
    let address = what.is_some().then(|| address.clone());
    let mdev = mdev_uuid.as_ref().map(|uuid| format!("mdev {uuid}"));
    let title = Some(title.clone()).filter(|title| !title.is_empty());
    let details: Vec<String> = [address, title, mdev].into_iter().flatten().collect();
    let what = what.unwrap_or_else(|| device.pci_address.clone());
    if details.is_empty() { what } else { format!("{what} ({})", details.join(", ")) }
}

fn show(connection: &Connection, machine: &Machine) -> Done {
    let notes = machine.notes.iter().chain(&machine.warnings);
    notes.for_each(|note| output::warning(note));
    // The first one is on the line of its heading.
    let mut devices = machine.attached.iter().map(device);
    let mut more = Vec::new();
    let first = devices.next().unwrap_or_else(|| machine.devices.join(" "));
    more.extend(devices);
    let mut fields = vec![
        ("name", machine.name.clone()),
        ("id", machine.id.clone()),
        ("state", machine.state.clone()),
        ("problem", machine.state_error.clone().unwrap_or_default()),
        ("image", machine.image.clone()),
        ("vcpus", machine.vcpus.to_string()),
        ("size", machine.size.clone()),
        ("disk size", machine.overlay_size.clone().unwrap_or_default()),
        ("devices", first),
    ];
    fields.extend(more.into_iter().map(|device| ("", device)));
    fields.extend([
        ("hypervisor", machine.hypervisor.clone()),
        ("process", machine.pid.map(|pid| pid.to_string()).unwrap_or_default()),
        ("exit code", machine.exit_code.map(|code| code.to_string()).unwrap_or_default()),
        ("created", machine.created_at.clone()),
        ("started", machine.started_at.clone().unwrap_or_default()),
        ("stopped", machine.stopped_at.clone().unwrap_or_default()),
        ("tags", output::tags(&machine.tags)),
    ]);
    listing::print_one(connection.json(), machine, &fields)
}

fn logs(connection: &Connection, instance: &str, (follow, tail): (bool, u64), raw: bool) -> Done {
    let what = format!("read the console of {instance}");
    let key = segment(instance);
    let path = format!("/instances/{key}/logs?source=app&tail={tail}&follow={follow}");
    if raw {
        let path = format!("{path}&format=raw");
        return connection
            .talk(async |client| {
                let mut chunks = client.bytes(&path).await?;
                while let Some(bytes) = chunks.next().await? {
                    if let Err(failure) = output::raw(&bytes) {
                        return Ok(Err(failure));
                    }
                }
                Ok(Ok(()))
            })
            .map_err(Failure::to(what))?;
    }
    let printed = connection.talk(async |client| {
        let mut lines = client.lines(&path).await?;
        while let Some(data) = lines.next().await? {
            let line: String = serde_json::from_str(&data).unwrap_or(data);
            let printed =
                if connection.json() { output::json_line(&line) } else { output::line(&line) };
            if let Err(failure) = printed {
                return Ok(Err(failure));
            }
        }
        Ok(Ok(()))
    });
    printed.map_err(Failure::to(what))?
}

fn wait(connection: &Connection, instance: &str, state: &str, timeout: &str) -> Done {
    let what = format!("wait until {instance} is {state}");
    let (key, state, time) = (segment(instance), query_value(state), query_value(timeout));
    let path = format!("/instances/{key}/wait?state={state}&timeout={time}");
    let outcome: WaitOutcome = connection
        .talk(async |client| client.get(&path).await)
        .map_err(Failure::to(what.clone()))?;
    if connection.json() {
        output::json(&outcome)?;
    }
    if !outcome.timed_out {
        return if connection.json() { Ok(()) } else { output::line(&outcome.state) };
    }
    let problem = outcome.state_error.map(|error| format!(": {error}")).unwrap_or_default();
    Err(Failure::to(what)(Refusal::new(
        Code::InvalidState,
        format!("timed out after {timeout}; the state is {}{problem}", outcome.state),
        format!("run `handover instance show {instance}` and `handover instance logs {instance}`"),
    )))
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
    fn devices_are_shown_by_their_names() {
        let whole = AttachedDevice {
            pci_address: "0000:01:00.0".into(),
            title: "NVIDIA Corporation AD102GL [L40S]".into(),
            name: Some("gpu0".into()),
            profile: None,
            mdev_uuid: None,
            partition: None,
        };
        let text = "gpu0 (0000:01:00.0, NVIDIA Corporation AD102GL [L40S])";
        assert_eq!(device(&whole), text);
        let unregistered = AttachedDevice { name: None, ..whole.clone() };
        assert_eq!(device(&unregistered), "0000:01:00.0 (NVIDIA Corporation AD102GL [L40S])");
        let vgpu = AttachedDevice {
            profile: Some("L40S-1Q".into()),
            mdev_uuid: Some("7".into()),
            partition: Some("mediated device 7 (nvidia-1) of 0000:01:00.0".into()),
            ..unregistered
        };
        assert_eq!(
            device(&vgpu),
            "vGPU L40S-1Q (0000:01:00.0, NVIDIA Corporation AD102GL [L40S], mdev 7)"
        );
        let vf = AttachedDevice {
            partition: Some("virtual function 0 of 0000:01:00.0".into()),
            profile: None,
            mdev_uuid: None,
            title: String::new(),
            ..vgpu
        };
        assert_eq!(device(&vf), "virtual function 0 of 0000:01:00.0 (0000:01:00.0)");
    }

    #[test]
    fn a_list_counts_equal_devices() {
        let gpu = AttachedDevice {
            pci_address: "0000:01:00.0".into(),
            title: "NVIDIA Corporation GA102 [GeForce RTX 3090]".into(),
            name: Some("gpu0".into()),
            profile: None,
            mdev_uuid: None,
            partition: None,
        };
        assert_eq!(brief(&gpu), "gpu0 (GA102 [GeForce RTX 3090])");
        let nameless = AttachedDevice { name: None, ..gpu.clone() };
        assert_eq!(brief(&nameless), "GA102 [GeForce RTX 3090]");
        let vgpu = AttachedDevice { profile: Some("L40S-1Q".into()), ..nameless.clone() };
        let gone = AttachedDevice { title: String::new(), ..nameless.clone() };
        let all = [gpu, nameless.clone(), nameless, vgpu, gone];
        assert_eq!(
            counted(&all),
            "gpu0 (GA102 [GeForce RTX 3090]), 2x GA102 [GeForce RTX 3090], vGPU L40S-1Q, 0000:01:00.0"
        );
    }
}
