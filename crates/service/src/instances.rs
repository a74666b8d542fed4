//! Instances: checks requests, and renders instances with their devices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use api::{
    AttachVolume, AttachedDevice, BlockDisk, Cdrom, CreateInstance, GpuRequest, StartInstance,
    UpdateInstance, Wish,
};
use engine::{
    ChangeInstance, ChangeMachine, Changed, DeviceWish, Engine, FirstBoot, Instance,
    InstanceDevice, InstanceState,
};
use model::choose::{Want, WantKind};
use model::{Address, Firmware, Inventory, Mac, PlacementUse, Refusal, parse_size};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::disks::{KnownDisks, ShownDisks};
use crate::refusals::{self, invalid, not_implemented};
use crate::{claims, container, cpu, disks, display, life, memory, networks, render, roms, seat};

/// The longest time that a guest can have to shut down.
const LONGEST_STOP: Duration = Duration::from_secs(3600);

/// Fields of hypeman's API that are refused, because ignoring them would be noticed late.
const UNSUPPORTED: [&str; 7] = [
    "auto_standby",
    "credentials",
    "disk_io_bps",
    "expires_at",
    "health_check",
    "hotplug_size",
    "ttl",
];

/// Parses the name of a state.
///
/// # Errors
/// The state is unknown.
pub fn state_of(word: &str) -> Result<InstanceState, Refusal> {
    let state = render::STATES
        .iter()
        .find(|(_, known)| known.eq_ignore_ascii_case(word))
        .map(|(state, _)| *state);
    state.ok_or_else(|| {
        invalid(
            format!("unknown instance state {word:?}"),
            format!("use one of {}", render::STATES.map(|(_, word)| word).join(", ")),
        )
    })
}

/// The instances with these tags and, if given, in this state.
///
/// # Errors
/// The store cannot be read.
pub fn list(
    engine: &Engine,
    tags: &api::Tags,
    state: Option<InstanceState>,
) -> Result<Vec<api::Instance>, Refusal> {
    let all = engine.instances().all(tags)?.into_iter();
    render_all(engine, all.filter(|one| state.is_none_or(|state| one.state == state)).collect())
}

/// An instance by id or name. Its guest's agent is asked whether it is there, and for the addresses that this host does not know.
///
/// # Errors
/// `not_found`.
pub fn show(engine: &Engine, key: &str) -> Result<api::Instance, Refusal> {
    let instance = engine.instances().find(key)?;
    let mut shown = render_one(engine, instance.clone())?;
    shown.agent_ready = engine.instances().agent_ready(&instance);
    let cards = || std::iter::once(&shown.network).chain(&shown.networks);
    if cards().any(networks::has_unknown_address) {
        let told = engine.instances().guest_interfaces(&instance);
        let own = engine.own_addresses();
        for card in std::iter::once(&mut shown.network).chain(&mut shown.networks) {
            networks::complete(card, &told, &own);
        }
    }
    Ok(shown)
}

/// Creates an instance and renders it, with notes for the person who asked. `all` has the fields as sent, `ignored` the
/// names of unknown ones.
///
/// # Errors
/// Why it cannot be created.
pub fn create(
    engine: &Engine,
    wanted: CreateInstance,
    all: &Map<String, Value>,
    ignored: &[String],
) -> Result<api::Instance, Refusal> {
    let request = request(engine, wanted, all)?;
    let network = request.network.clone();
    let instance = engine.instances().create(request)?;
    let notes = engine.instances().advice(&instance, &network);
    let ignored = ignored.iter().filter(|field| !UNSUPPORTED.contains(&field.as_str()));
    let warnings = refusals::ignored(ignored);
    Ok(api::Instance { notes, warnings, ..render_one(engine, instance)? })
}

/// Checks a request for what does not depend on the host.
pub(crate) fn check(wanted: &CreateInstance, all: &Map<String, Value>) -> Result<(), Refusal> {
    accept(wanted.clone(), all).map(drop)
}

/// Stops the machine of an instance.
///
/// # Errors
/// `not_found`, `invalid_state`, `undo_failed`.
pub fn stop(
    engine: &Engine,
    key: &str,
    timeout: Option<Duration>,
    ignored: &[String],
) -> Result<api::Instance, Refusal> {
    if timeout.is_some_and(|timeout| timeout > LONGEST_STOP) {
        return Err(invalid(
            format!("a guest has at most {} s to shut down", LONGEST_STOP.as_secs()),
            "leave the timeout out, or shut the guest down from inside",
        ));
    }
    let (stopped, notes) = engine.instances().stop_within(key, timeout)?;
    let stopped = render_one(engine, stopped)?;
    Ok(api::Instance { notes, warnings: refusals::ignored(ignored), ..stopped })
}

/// Starts the machine of a stopped instance.
///
/// # Errors
/// `invalid_request` if a command is given and the image is no container image; those of a start.
pub fn start(
    engine: &Engine,
    key: &str,
    how: StartInstance,
    ignored: &[String],
) -> Result<api::Instance, Refusal> {
    let command = container::change(how)?;
    let started = render_one(engine, engine.instances().start_with(key, command)?)?;
    Ok(api::Instance { warnings: refusals::ignored(ignored), ..started })
}

/// Pauses the guest of an instance that runs.
///
/// # Errors
/// `not_found`, `invalid_state`, `step_failed`.
pub fn pause(engine: &Engine, key: &str) -> Result<api::Instance, Refusal> {
    render_one(engine, engine.instances().pause(key)?)
}

/// Lets the guest of a paused instance continue.
///
/// # Errors
/// `not_found`, `invalid_state`, `insufficient_resources`, `step_failed`.
pub fn resume(engine: &Engine, key: &str) -> Result<api::Instance, Refusal> {
    render_one(engine, engine.instances().resume(key)?)
}

/// Changes an instance. `all` has the fields as sent, `ignored` the names of unknown ones.
///
/// # Errors
/// `not_found`, `invalid_state`; `not_implemented` for a field of hypeman's API that would be ignored.
pub fn update(
    engine: &Engine,
    key: &str,
    wanted: UpdateInstance,
    all: &Map<String, Value>,
    ignored: &[String],
) -> Result<api::Instance, Refusal> {
    expect_objects(all)?;
    expect_supported(all)?;
    let seat = seat::change(&wanted)?;
    let has_network = wanted.network.is_some() || wanted.networks.is_some();
    let network = networks::wish(wanted.network, wanted.networks)?;
    let devices = wanted.devices.map(|wishes| {
        wishes.into_iter().map(|wish| device(engine, wish)).collect::<Result<Vec<_>, _>>()
    });
    let before = engine.instances().find(key)?.options.cpu.topology;
    let (topology, hide_kvm) = cpu::change(wanted.cpu.as_ref(), before)?;
    let machine = ChangeMachine {
        seat,
        vcpus: wanted.vcpus,
        topology,
        hide_kvm,
        hostname: wanted.hostname,
        display: wanted.display.map(display::display).transpose()?,
        memory: wanted.size.as_deref().map(parse_size).transpose()?,
        firmware: wanted.firmware.as_deref().map(firmware).transpose()?,
        tpm: wanted.tpm,
        huge_pages: wanted.hugepages.as_deref().map(memory::huge_pages).transpose()?,
        placement: wanted.placement.as_deref().map(memory::placement).transpose()?,
        network: has_network.then_some(network),
        devices: devices.transpose()?,
    };
    let changes_machine = machine != ChangeMachine::default();
    let change = ChangeInstance {
        machine,
        restart: wanted.restart_policy.as_ref().map(life::restart).transpose()?,
        autostart: wanted.autostart.as_ref().map(life::autostart).transpose()?,
    };
    let Changed { instance, notes: left } = engine.instances().change(key, change)?;
    let changed = render_one(engine, instance)?;
    let notes = changes_machine.then(|| {
        format!("takes effect at the next start: `handover instance start {}`", changed.name)
    });
    let ignored = ignored.iter().filter(|field| !UNSUPPORTED.contains(&field.as_str()));
    let mut warnings = refusals::ignored(ignored);
    warnings.extend(left);
    Ok(api::Instance { notes: notes.into_iter().collect(), warnings, ..changed })
}

/// Attaches a volume to an instance: at once if it runs.
///
/// # Errors
/// `not_found`, `in_use`, `invalid_state`, `invalid_request`; `insufficient_resources` without a free port.
pub fn attach(
    engine: &Engine,
    key: &str,
    volume: String,
    how: AttachVolume,
    ignored: &[String],
) -> Result<api::Instance, Refusal> {
    let wish = disks::attachment(volume, how)?;
    let attached = render_one(engine, engine.instances().attach(key, &wish)?)?;
    Ok(api::Instance { warnings: refusals::ignored(ignored), ..attached })
}

/// Gives a stopped instance a CD-ROM.
///
/// # Errors
/// As [`attach`].
pub fn insert(
    engine: &Engine,
    key: &str,
    cdrom: Cdrom,
    ignored: &[String],
) -> Result<api::Instance, Refusal> {
    let wish = disks::cdrom(cdrom);
    let attached = render_one(engine, engine.instances().attach(key, &wish)?)?;
    Ok(api::Instance { warnings: refusals::ignored(ignored), ..attached })
}

/// Gives an instance a block device of the host: at once if it runs.
///
/// # Errors
/// As [`attach`], and `device_not_found`, `not_assignable`.
pub fn attach_block(
    engine: &Engine,
    key: &str,
    block: BlockDisk,
    ignored: &[String],
) -> Result<api::Instance, Refusal> {
    let wish = disks::block(block)?;
    let attached = render_one(engine, engine.instances().attach(key, &wish)?)?;
    Ok(api::Instance { warnings: refusals::ignored(ignored), ..attached })
}

/// Takes a CD-ROM from a stopped instance.
///
/// # Errors
/// `not_found`, `invalid_state`.
pub fn eject(engine: &Engine, key: &str, cdrom: &str) -> Result<api::Instance, Refusal> {
    render_one(engine, engine.instances().eject(key, cdrom)?)
}

/// Deletes an instance; `gracefully`: its guest is first asked to shut down.
///
/// # Errors
/// `not_found`, `undo_failed`.
pub fn delete(engine: &Engine, key: &str, gracefully: bool) -> Result<(), Refusal> {
    let runs = |state| matches!(state, InstanceState::Running | InstanceState::Paused);
    if gracefully && runs(engine.instances().find(key)?.state) {
        engine.instances().stop(key)?;
    }
    engine.instances().delete(key)
}

/// A device of a request: a registered one by its name, id or address, or what a claim could ask for.
pub(crate) fn device(engine: &Engine, wish: Wish) -> Result<DeviceWish, Refusal> {
    match wish {
        // Older versions accepted names that are words of the grammar, such as `gpu`.
        Wish::Words(text) if engine.devices().is_registered(&text)? => {
            Ok(DeviceWish::Registered(text))
        }
        wish => claims::want(wish).map(DeviceWish::Wanted),
    }
}

pub(crate) fn render_one(engine: &Engine, instance: Instance) -> Result<api::Instance, Refusal> {
    let id = instance.id;
    let devices = engine.instances().devices()?;
    let own: Vec<_> = devices.into_iter().filter(|device| device.instance == id).collect();
    let host = Known::of(engine, &own)?;
    let instances = engine.instances();
    let (halted, is_silent) = instances.halted_or_silent(&instance);
    let guest = if is_silent { Vec::new() } else { instances.guest_addresses(&instance) };
    let shown = |device: &InstanceDevice| AttachedDevice {
        guest_address: guest
            .iter()
            .find(|(source, _)| Some(*source) == device.source())
            .map(|(_, address)| address.to_string()),
        ..host.attached(device)
    };
    let attached = own.iter().map(shown).collect();
    let disks = KnownDisks::of(engine, std::slice::from_ref(&instance))?;
    let neighbors = neighbors(engine, std::slice::from_ref(&instance));
    let problems = [halted, instances.lost(&instance), instances.unsettled(&instance)];
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    let problem = (!problems.is_empty()).then(|| problems.join("; "));
    let instance = Instance { state_error: problem.or(instance.state_error), ..instance };
    Ok(rendered(engine, instance, attached, &disks, &neighbors))
}

/// An instance with its devices and disks, and the attempts to start it again.
fn rendered(
    engine: &Engine,
    instance: Instance,
    attached: Vec<AttachedDevice>,
    disks: &KnownDisks,
    neighbors: &BTreeMap<Mac, IpAddr>,
) -> api::Instance {
    let ShownDisks { volumes, blocks, cdroms } = disks.shown(&instance);
    let cards = networks::shown(instance.id, &instance.options, neighbors);
    let network = cards.first().cloned().unwrap_or_else(networks::none);
    let networks = if cards.len() > 1 { cards } else { Vec::new() };
    let restarts = engine.instances().restarts(instance.id);
    let restart_status = restarts.as_ref().map(life::shown_attempts);
    api::Instance {
        restart_status,
        volumes,
        blocks,
        cdroms,
        network,
        networks,
        ..render::instance(instance, attached)
    }
}

fn render_all(engine: &Engine, instances: Vec<Instance>) -> Result<Vec<api::Instance>, Refusal> {
    let devices = engine.instances().devices()?;
    let host = Known::of(engine, &devices)?;
    let disks = KnownDisks::of(engine, &instances)?;
    let neighbors = neighbors(engine, &instances);
    let shown = |instance: Instance| {
        let own = devices.iter().filter(|device| device.instance == instance.id);
        let attached = own.map(|device| host.attached(device)).collect();
        rendered(engine, instance, attached, &disks, &neighbors)
    };
    Ok(instances.into_iter().map(shown).collect())
}

/// The addresses of guests that the host knows, if any of these has a card of which it could know one.
fn neighbors(engine: &Engine, instances: &[Instance]) -> BTreeMap<Mac, IpAddr> {
    let mut cards = instances.iter().flat_map(|instance| &instance.options.cards);
    match cards.any(|card| !card.link.is_user()) {
        true => engine.neighbors(),
        false => BTreeMap::new(),
    }
}

/// What names the devices of instances.
pub(crate) struct Known {
    inventory: Inventory,
    registered: BTreeMap<Uuid, String>,
}

impl Known {
    pub(crate) fn of(engine: &Engine, devices: &[InstanceDevice]) -> Result<Self, Refusal> {
        let addresses: BTreeSet<Address> = devices.iter().map(|device| device.part.head).collect();
        let addresses: Vec<Address> = addresses.into_iter().collect();
        let inventory = match addresses.as_slice() {
            [] => Inventory::default(),
            // Instances are shown also if the host cannot be read: without their devices' names.
            some => engine.functions(some).unwrap_or_default(),
        };
        let is_named = devices.iter().any(|device| device.device.is_some());
        let registered = if is_named { engine.devices().names()? } else { BTreeMap::new() };
        Ok(Self { inventory, registered })
    }

    pub(crate) fn attached(&self, device: &InstanceDevice) -> AttachedDevice {
        let InstanceDevice { device, profile, part, .. } = device;
        let function = self.inventory.function(part.head);
        AttachedDevice {
            pci_address: part.head.to_string(),
            title: function.map(model::Function::title).unwrap_or_default(),
            name: device.and_then(|id| self.registered.get(&id).cloned()),
            profile: profile.clone(),
            mdev_uuid: part
                .partition
                .as_ref()
                .and_then(model::Partition::mdev)
                .map(|uuid| uuid.to_string()),
            partition: part.partition.as_ref().map(model::Partition::describe),
            guest_address: None,
        }
    }
}

/// Checks a request and converts it for the engine.
pub(crate) fn request(
    engine: &Engine,
    mut wanted: CreateInstance,
    all: &Map<String, Value>,
) -> Result<engine::CreateInstance, Refusal> {
    let wishes = wanted.devices.take().unwrap_or_default();
    let mut request = accept(wanted, all)?;
    let profile = std::mem::take(&mut request.devices);
    for wish in wishes {
        request.devices.push(device(engine, wish)?);
    }
    request.devices.extend(profile);
    Ok(request)
}

/// Checks a request without its devices and converts it for the engine; `all` has the fields as sent.
fn accept(
    wanted: CreateInstance,
    all: &Map<String, Value>,
) -> Result<engine::CreateInstance, Refusal> {
    expect_objects(all)?;
    let container = container::wanted(&wanted)?;
    let seat = seat::wanted(&wanted)?;
    expect_supported(all)?;
    let size = |text: Option<String>| {
        text.filter(|text| !text.is_empty()).map(|text| parse_size(&text)).transpose()
    };
    let display = wanted.display.map(display::display).transpose()?.flatten();
    let (display, display_password) = display.unzip();
    Ok(engine::CreateInstance {
        name: wanted.name,
        image: wanted.image.filter(|name| !name.is_empty()),
        memory: size(wanted.size)?,
        vcpus: wanted.vcpus,
        overlay_size: size(wanted.overlay_size)?,
        container,
        disks: disks::wishes(wanted.disks, wanted.volumes, wanted.blocks, wanted.cdroms)?,
        devices: vgpu(wanted.gpu).into_iter().collect(),
        hypervisor: wanted.hypervisor,
        cmdline: wanted.cmdline,
        cpu: cpu::cpu(wanted.cpu.as_ref(), wanted.os.as_deref())?,
        firmware: wanted.firmware.as_deref().map(firmware).transpose()?,
        display,
        display_password: display_password.flatten(),
        roms: roms::wishes(wanted.roms)?,
        tpm: wanted.tpm.unwrap_or_default(),
        huge_pages: wanted
            .hugepages
            .as_deref()
            .map(memory::huge_pages)
            .transpose()?
            .unwrap_or_default(),
        placement: wanted.placement.as_deref().map_or(Ok(PlacementUse::Auto), memory::placement)?,
        network: networks::wish(wanted.network, wanted.networks)?,
        first_boot: FirstBoot {
            ssh_keys: wanted.ssh_keys.unwrap_or_default(),
            user_data: wanted.user_data,
            hostname: wanted.hostname,
            password_hash: wanted.password_hash,
        },
        spare_ports: wanted.spare_ports,
        seat,
        life: life::life(wanted.restart_policy.as_ref(), wanted.autostart.as_ref())?,
        tags: wanted.tags.unwrap_or_default(),
    })
}

/// Refuses a list in the place of an object: it would be read as the object's fields, in order.
fn expect_objects(all: &Map<String, Value>) -> Result<(), Refusal> {
    for field in ["network", "gpu", "cpu", "display", "restart_policy", "autostart"] {
        if all.get(field).is_some_and(|value| !value.is_object() && !value.is_null()) {
            return Err(invalid(
                format!("`{field}` is not an object"),
                "send JSON as described by GET /openapi.json",
            ));
        }
    }
    Ok(())
}

/// Refuses fields of hypeman's API that would be ignored.
fn expect_supported(all: &Map<String, Value>) -> Result<(), Refusal> {
    let asked = UNSUPPORTED.iter().find(|field| all.get(**field).is_some_and(is_asked));
    asked.map_or(Ok(()), |field| {
        Err(not_implemented(&format!("`{field}` for instances"), format!("omit `{field}`")))
    })
}

fn firmware(name: &str) -> Result<Firmware, Refusal> {
    let known = Firmware::ALL.into_iter().find(|firmware| firmware.as_str() == name);
    known.ok_or_else(|| {
        let names = Firmware::ALL.map(Firmware::as_str).join(" or ");
        invalid(format!("unknown firmware {name:?}"), format!("use {names}"))
    })
}

/// The vGPU that the field `gpu` requests.
pub(crate) fn vgpu(wanted: Option<GpuRequest>) -> Option<DeviceWish> {
    let profile = wanted?.profile.filter(|profile| !profile.is_empty())?;
    let kind = WantKind::Profile { profile, of: None, attributes: Vec::new() };
    Some(DeviceWish::Wanted(Want::one(kind)))
}

/// Whether a field's value requests something.
fn is_asked(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !matches!(text.as_str(), "" | "0" | "0s"),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => {
            let off = fields.get("enabled") == Some(&Value::Bool(false))
                || fields.get("policy").is_some_and(|policy| policy == "never")
                || fields.get("type").is_some_and(|kind| kind == "none");
            !fields.is_empty() && !off
        }
        Value::Bool(true) | Value::Number(_) => true,
    }
}
