//! `handover instance`: machines of this host.

mod access;
mod attach;
mod console;
mod container;
mod copy;
mod create;
mod disks;
mod exec;
mod exec_session;
mod life;
mod networks;
mod password;
mod pause;
mod plan;
mod raw;
mod seat;
mod set;
mod ssh;
mod stats;
mod stop;
mod template;
mod view;

use api::client::{Client, query_value, segment};
use api::{AttachedDevice, Instance as Machine, WaitOutcome};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::{Code, Kind, Refusal, short_titles};

use crate::connection::{Connection, tag, tag_query};
use crate::failure::{Done, Failure};
use crate::progress::waiting;
use crate::{age, listing, output, values};

use attach::{Attach, Detach};
use console::Console;
use copy::Copy;
use create::Create;
use exec::Exec;
use password::SetPassword;
use pause::{Several, Verb};
use set::Set;
use ssh::Ssh;
use stats::Stats;
use stop::Stop;
use view::View;

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
    Create(Box<Create>),
    /// List the instances
    #[command(visible_alias = "ls")]
    List {
        /// List only those with this tag (repeatable)
        #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
        tags: Vec<(String, String)>,
    },
    /// Show an instance
    #[command(visible_alias = "info")]
    Show {
        /// Name or id of the instance, as `handover instance list` shows it
        instance: String,
        /// Print the file that makes an instance like this one: `handover instance create --file`
        #[arg(long, conflicts_with = "json")]
        yaml: bool,
    },
    /// Start the machines of stopped instances
    Start {
        #[command(flatten)]
        several: Several,
        /// From now on, end the host's desktop and console on its GPUs while it runs, as `handover instance set --take-display true`
        #[arg(long)]
        take_display: bool,
    },
    /// Stop the machine of an instance; it keeps its devices
    Stop(Stop),
    /// Stop the machines of instances if they run, and start them
    #[command(alias = "reboot")]
    Restart(Several),
    /// Pause guests: their processors stop, and they keep their memory and devices
    Pause(Several),
    /// Let paused guests continue, or those that the hypervisor has stopped
    Resume(Several),
    /// Change an instance: its machine while it is stopped, what starts it at any time
    Set(Box<Set>),
    /// Give an instance a device, a disk or a network card, also while it runs
    Attach(Attach),
    /// Take a device, a disk or a network card from an instance, also while it runs
    Detach(Detach),
    /// Delete an instance, and return its devices to their previous drivers
    #[command(visible_alias = "delete")]
    Rm {
        /// Names or ids of instances, as `handover instance list` shows them
        #[arg(required = true, value_name = "INSTANCE")]
        instances: Vec<String>,
    },
    /// Show what instances use: processors, memory, disks
    Stats(Stats),
    /// Print the guest's console output
    Logs {
        /// Name or id
        instance: String,
        /// Follow the console until the machine ends
        #[arg(short, long)]
        follow: bool,
        /// Number of last lines to start with
        #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES", value_parser = values::number::<u64>)]
        tail: u64,
        /// Print the bytes that the guest wrote; by default, control characters are escaped
        #[arg(long, conflicts_with = "json")]
        raw: bool,
    },
    /// Connect to the guest's serial console; Ctrl-] disconnects
    Console(Console),
    /// Look at the guest's screen
    View(View),
    /// Log in to the guest by SSH
    Ssh(Ssh),
    /// Copy files into the guest of a container image, or out of it
    Cp(Copy),
    /// Run a command in the guest, by its agent
    Exec(Exec),
    /// Set the password of a user of the guest, which must run qemu-guest-agent
    SetPassword(SetPassword),
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

impl Instance {
    pub fn run(self) -> Done {
        let Self { connection, command } = self;
        match command {
            Command::Create(create) => create.run(&connection),
            Command::List { tags } => list(&connection, &tags),
            Command::Show { instance, yaml: true } => template::print(&connection, &instance),
            Command::Show { instance, yaml: false } => {
                let path = format!("/instances/{}", segment(&instance));
                let what = format!("show the instance {instance}");
                show_after(&connection, what, async |client| client.get(&path).await)
            }
            Command::Start { several, take_display: false } => {
                several.run(&connection, Verb::Start)
            }
            Command::Start { several, take_display: true } => {
                several.run(&connection, Verb::StartWithDisplay)
            }
            Command::Stop(stop) => stop.run(&connection),
            Command::Restart(several) => several.run(&connection, Verb::Restart),
            Command::Pause(several) => several.run(&connection, Verb::Pause),
            Command::Resume(several) => several.run(&connection, Verb::Resume),
            Command::Stats(stats) => stats.run(&connection),
            Command::Set(set) => {
                let what = set.what();
                show_after(&connection, what, async |client| set.send(client).await)
            }
            Command::Attach(attach) => {
                let what = attach.what();
                show_after(&connection, what, async |client| attach.send(client).await)
            }
            Command::Detach(detach) => {
                let what = detach.what();
                show_after(&connection, what, async |client| detach.send(client).await)
            }
            Command::Rm { instances } => instances.iter().try_for_each(|instance| {
                let path = format!("/instances/{}", segment(instance));
                let what = format!("delete the instance {instance}");
                connection
                    .talk(async |client| waiting(&what, client.delete(&path)).await)
                    .map_err(Failure::to(&*what))?;
                output::changed(&connection, &format!("Deleted the instance {instance}."))
            }),
            Command::Logs { instance, follow, tail, raw } => {
                logs(&connection, &instance, (follow, tail), raw)
            }
            Command::Console(console) => console.run(&connection),
            Command::View(view) => view.run(&connection),
            Command::Ssh(ssh) => ssh.run(&connection),
            Command::Cp(copy) => copy.run(&connection),
            Command::Exec(exec) => exec.run(&connection),
            Command::SetPassword(set) => set.run(&connection),
            Command::Wait { instance, state, timeout } => {
                wait(&connection, &instance, &state, &timeout)
            }
        }
    }
}

/// Shows the instance that the daemon answers.
fn show_after(
    connection: &Connection,
    what: String,
    request: impl AsyncFnOnce(&Client) -> Result<Machine, Refusal>,
) -> Done {
    let answer = connection.talk(async |client| waiting(&what, request(&client)).await);
    show(connection, &answer.map_err(Failure::to(what))?)
}

/// Whether commands and copies work in the guest of a container image.
const fn agent(machine: &Machine) -> &'static str {
    match machine.agent_ready {
        Some(true) => "ready",
        Some(false) => "does not answer",
        None => "",
    }
}

fn list(connection: &Connection, tags: &[(String, String)]) -> Done {
    let path = format!("/instances{}", tag_query(tags));
    let machines: Vec<Machine> = connection
        .talk(async |client| client.get(&path).await)
        .map_err(Failure::to("list the instances"))?;
    let headings =
        ["NAME", "STATE", "DEVICES", "ADDRESS", "VCPUS", "MEMORY", "AGE", "IMAGE", "TAGS"];
    let now = Timestamp::now();
    let none = "no instances; `handover instance create` creates one";
    let shorter = |machine: &Machine| shorter_devices(&machine.attached);
    let names = ("DEVICES", shorter);
    listing::print_with(connection.json(), &machines, none, headings, names, |machine| {
        let [name, state, size, image] =
            [&machine.name, &machine.state, &machine.size, &machine.image].map(Clone::clone);
        let (vcpus, tags) = (machine.vcpus.to_string(), output::tags(&machine.tags));
        let address = networks::addresses(machine).join(", ");
        let age = age::age(&machine.created_at, now);
        [name, state, devices(machine), address, vcpus, size, age, image, tags]
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

/// Shorter forms of the same: without models, without what is special to a vendor, and only how many.
fn shorter_devices(devices: &[AttachedDevice]) -> Vec<String> {
    if devices.len() < 2 && devices.iter().all(|device| device.name.is_none()) {
        return Vec::new();
    }
    let named = |device: &AttachedDevice| match &device.name {
        Some(name) => name.clone(),
        None => brief(device),
    };
    let count = match devices.len() {
        1 => "1 device".to_owned(),
        count => format!("{count} devices"),
    };
    vec![counts(devices.iter().map(named)), count]
}

fn counted(devices: &[AttachedDevice]) -> String {
    counts(devices.iter().map(brief))
}

fn counts(devices: impl Iterator<Item = String>) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for device in devices {
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
    let AttachedDevice {
        pci_address: address,
        title,
        name,
        profile,
        mdev_uuid,
        partition,
        guest_address,
    } = device;
    let part = profile.as_ref().map(|profile| format!("vGPU {profile}"));
    let what = name.clone().or(part).or_else(|| partition.clone());
    // Without a name, the address is it.
    let address = what.is_some().then(|| address.clone());
    let mdev = mdev_uuid.as_ref().map(|uuid| format!("mdev {uuid}"));
    let title = Some(title.clone()).filter(|title| !title.is_empty());
    let guest = guest_address.as_ref().map(|guest| format!("{guest} in the guest"));
    let details: Vec<String> = [address, title, mdev, guest].into_iter().flatten().collect();
    let what = what.unwrap_or_else(|| device.pci_address.clone());
    if details.is_empty() { what } else { format!("{what} ({})", details.join(", ")) }
}

/// Where an instance runs: `auto`, `auto: NUMA node 0, on the processors 2 10 3 11`.
fn placement(machine: &Machine) -> String {
    let Some(wanted) = machine.placement.clone() else { return String::new() };
    let Some(placed) = &machine.placed else { return wanted };
    let cpus: Vec<String> = placed.cpus.iter().map(u32::to_string).collect();
    let pinned = match cpus.as_slice() {
        [] => "without processors of its own".to_owned(),
        cpus => format!("on the processors {}", cpus.join(" ")),
    };
    let nodes: Vec<String> = placed.nodes.iter().map(|one| one.node.to_string()).collect();
    if nodes.is_empty() {
        return format!("{wanted}: NUMA node {}, {pinned}", placed.node);
    }
    format!("{wanted}: NUMA nodes {}, {pinned}", nodes.join(" "))
}

/// How an instance's devices are opened. A word of a newer daemon is left out.
fn opened_by(machine: &Machine) -> &'static str {
    match machine.device_access.as_deref() {
        Some("descriptors") => "file descriptors",
        Some("groups") => "IOMMU groups",
        _ => "",
    }
}

/// The screen of an instance: `vnc`, `spice (64MB of video memory)`.
fn screen(machine: &Machine) -> String {
    let Some(display) = &machine.display else { return String::new() };
    let protocol = display.protocol.clone().unwrap_or_default();
    let memory = display.video_memory.as_ref().map(|memory| format!("{memory} of video memory"));
    let listen = display.listen.as_ref().map(|address| format!("on {address}, with a password"));
    let notes: Vec<String> = [memory, listen].into_iter().flatten().collect();
    if notes.is_empty() { protocol } else { format!("{protocol} ({})", notes.join("; ")) }
}

/// The processors of an instance: `8 (1 socket, 4 cores, 2 threads; KVM hidden)`.
fn cpus(machine: &Machine) -> String {
    let cpu = machine.cpu.clone().unwrap_or_default();
    let count = |number: Option<u32>, one: &str| {
        number.map(|number| format!("{number} {one}{}", if number == 1 { "" } else { "s" }))
    };
    let parts = [(cpu.sockets, "socket"), (cpu.cores, "core"), (cpu.threads, "thread")];
    let parts: Vec<String> = parts.into_iter().filter_map(|(n, one)| count(n, one)).collect();
    let hidden = (cpu.hide_kvm == Some(true)).then(|| "KVM hidden".to_owned());
    let windows = (machine.os.as_deref() == Some("windows")).then(|| "for Windows".to_owned());
    let topology = (!parts.is_empty()).then(|| parts.join(", "));
    let notes: Vec<String> = [topology, windows, hidden].into_iter().flatten().collect();
    let notes = notes.join("; ");
    if notes.is_empty() {
        machine.vcpus.to_string()
    } else {
        format!("{} ({notes})", machine.vcpus)
    }
}

fn show(connection: &Connection, machine: &Machine) -> Done {
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    let time =
        |time: Option<&String>| time.map(|time| age::local(time, now, &zone)).unwrap_or_default();
    machine.notes.iter().for_each(|note| output::note(&format!("note: {note}")));
    machine.warnings.iter().for_each(|warning| output::warning(warning));
    // The first one is on the line of its heading.
    let mut devices = machine.attached.iter().map(device);
    let mut more = Vec::new();
    let first = devices.next().unwrap_or_else(|| machine.devices.join(" "));
    more.extend(devices);
    let seat = seat::shown(machine);
    let mut fields = vec![
        ("name", machine.name.clone()),
        ("id", machine.id.clone()),
        ("state", machine.state.clone()),
        ("problem", machine.state_error.clone().unwrap_or_default()),
        ("image", machine.image.clone()),
        ("kernel", machine.kernel.clone().unwrap_or_default()),
        ("agent", agent(machine).to_owned()),
        ("vcpus", cpus(machine)),
        ("memory", machine.size.clone()),
        ("hugepages", machine.hugepages.clone().unwrap_or_default()),
        ("placement", placement(machine)),
        ("disk size", machine.overlay_size.clone().unwrap_or_default()),
        ("firmware", machine.firmware.clone()),
        ("tpm", if machine.tpm == Some(true) { "2.0".into() } else { String::new() }),
        ("rom", machine.roms.join(" ")),
        ("display", seat.0),
        ("usb", seat.1),
        ("screen", screen(machine)),
    ];
    let networks = networks::lines(machine).into_iter().enumerate();
    fields.extend(networks.map(|(number, one)| (if number == 0 { "network" } else { "" }, one)));
    fields.push(("hostname", machine.hostname.clone().unwrap_or_default()));
    fields.push(("devices", first));
    fields.extend(more.into_iter().map(|device| ("", device)));
    fields.push(("opened by", opened_by(machine).to_owned()));
    fields.push(("fabric set", machine.fabric_set.map(|set| set.to_string()).unwrap_or_default()));
    let disks = disks::lines(machine).into_iter().enumerate();
    fields.extend(disks.map(|(number, disk)| (if number == 0 { "disks" } else { "" }, disk)));
    fields.extend([
        ("hypervisor", machine.hypervisor.clone()),
        ("process", machine.pid.map(|pid| pid.to_string()).unwrap_or_default()),
        ("exit code", machine.exit_code.map(|code| code.to_string()).unwrap_or_default()),
        ("restart", life::restart(machine)),
        ("autostart", life::autostart(machine)),
        ("created", time(Some(&machine.created_at))),
        ("started", time(machine.started_at.as_ref())),
        ("stopped", time(machine.stopped_at.as_ref())),
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
    fn devices_are_shown_by_their_names() {
        let whole = AttachedDevice {
            pci_address: "0000:01:00.0".into(),
            title: "NVIDIA Corporation AD102GL [L40S]".into(),
            name: Some("gpu0".into()),
            profile: None,
            mdev_uuid: None,
            partition: None,
            guest_address: None,
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
            guest_address: None,
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
