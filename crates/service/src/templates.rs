//! Templates: the request that makes an instance like one that exists, and whether a request would make the same one.

use std::net::SocketAddr;

use api::{BlockDisk, Cdrom, CreateInstance, GpuRequest, NewDisk, VolumeMount, Wish};
use engine::{DeviceWish, Engine, Instance, NO_USER_DATA, Volume};
use model::choose::{Filter, Want, WantKind};
use model::{
    Code, ContainerBoot, DiskContent, Forward, Refusal, UsbWish, format_size, parse_duration,
    parse_size,
};
use serde_json::{Map, Value, json};

use crate::disks::shown_block;
use crate::instances::{device, vgpu};
use crate::{container, cpu, display, instances, life, networks, roms, seat};

/// The request that makes an instance like this one.
///
/// # Errors
/// `not_found`.
pub fn of(engine: &Engine, key: &str) -> Result<CreateInstance, Refusal> {
    let instance = engine.instances().find(key)?;
    let devices = engine.instances().wishes(&instance)?;
    let names = engine.devices().names()?;
    let wish = |wish: DeviceWish| match wish {
        DeviceWish::Registered(id) => {
            let name = id.parse().ok().and_then(|id| names.get(&id).cloned());
            Wish::Words(name.unwrap_or(id))
        }
        DeviceWish::Wanted(want) => spelt(want),
    };
    let devices: Vec<Wish> = devices.into_iter().map(wish).collect();
    let (disks, volumes, blocks, cdroms) = disks(engine, &instance)?;
    let options = &instance.options;
    let mut cards = networks::requests(&instance);
    let several = (cards.len() > 1).then(|| std::mem::take(&mut cards));
    let one = several.is_none().then(|| cards.pop().unwrap_or_else(networks::no_card));
    let seed = options.seed.as_ref();
    let words = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let run = container::shown(options.container.as_ref());
    Ok(CreateInstance {
        name: instance.name.clone(),
        image: (!options.is_without_root).then(|| instance.image.clone()),
        size: Some(format_size(instance.memory)),
        vcpus: Some(instance.vcpus),
        overlay_size: instance.overlay_size.map(format_size),
        devices: some(devices),
        hypervisor: Some(instance.hypervisor.clone()),
        tags: (!instance.tags.is_empty()).then(|| instance.tags.clone()),
        cmdline: words(instance.cmdline.as_deref()),
        cpu: cpu::shown(&options.cpu),
        os: Some(options.cpu.os.as_str().to_owned()),
        firmware: Some(options.firmware.as_str().to_owned()),
        display: options.display.map(display::shown),
        tpm: options.tpm.then_some(true),
        hugepages: Some(options.huge_pages.as_str().to_owned()),
        placement: Some(options.placement.as_str().to_owned()),
        spare_ports: options.spare_ports,
        take_display: options.seat.take_display.then_some(true),
        restart_units: seat::shown_units(options.seat.restart_units),
        usb: some(seat::shown_usb(&options.seat)),
        input: options.seat.input.then_some(true),
        network: one,
        networks: several,
        roms: roms::template(engine, &instance),
        ssh_keys: seed.and_then(|seed| some(keys(&seed.meta_data))),
        user_data: words(
            seed.map(|seed| seed.user_data.as_str()).filter(|text| *text != NO_USER_DATA),
        ),
        hostname: words(seed.map(|seed| seed.hostname.as_str())).or_else(|| run.hostname.clone()),
        password_hash: seed.and_then(|seed| password_hash(&seed.vendor_data)),
        restart_policy: life::shown_restart(&options.life.restart),
        autostart: options.life.autostart.as_ref().map(life::shown_autostart),
        disks: some(disks),
        volumes: some(volumes),
        blocks: some(blocks),
        cdroms: some(cdroms),
        ..run
    })
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// A wish in words if they are short, else as an object.
fn spelt(want: Want) -> Wish {
    let place = want.guest.map(|bus| format!(",guest={bus}")).unwrap_or_default();
    match &want.kind {
        WantKind::Device(text) if want.count == 1 => Wish::Words(format!("{text}{place}")),
        WantKind::Any(Filter {
            kind: Some(kind),
            vendor: None,
            device: None,
            or_devices,
            node: None,
            resource: None,
        }) if want.count == 1 && or_devices.is_empty() => {
            Wish::Words(format!("{}{place}", kind.as_str()))
        }
        WantKind::Profile { profile, of: None, attributes } if attributes.is_empty() => {
            Wish::Words(format!("profile={profile}{place}"))
        }
        _ => Wish::Spelt(want),
    }
}

type Disks = (Vec<NewDisk>, Vec<VolumeMount>, Vec<BlockDisk>, Vec<Cdrom>);

fn disks(engine: &Engine, instance: &Instance) -> Result<Disks, Refusal> {
    let (mut new, mut volumes, mut blocks, mut cdroms) = Disks::default();
    if instance.options.disks.is_empty() {
        return Ok((new, volumes, blocks, cdroms));
    }
    let (known, images) = (engine.volumes().by_id()?, engine.images().names()?);
    // The writable layer of a container image comes with it.
    let own = instance.options.disks.iter().filter(|disk| disk.serial != ContainerBoot::UPPER);
    for disk in own {
        let (bus, serial) = (Some(disk.bus.as_str().to_owned()), Some(disk.serial.clone()));
        match &disk.content {
            DiskContent::Block(block) => blocks.push(shown_block(disk, block)),
            DiskContent::Cdrom(id) => {
                let image = images.get(id).cloned().unwrap_or_else(|| id.to_string());
                cdroms.push(Cdrom { image, serial });
            }
            DiskContent::Volume(id) => match known.get(id) {
                Some(Volume { made_with: Some(with), size, format, allocated, .. })
                    if *with == instance.id =>
                {
                    new.push(NewDisk {
                        size: format_size(*size),
                        format: Some(format.as_str().to_owned()),
                        allocate: Some(*allocated),
                        bus,
                        serial,
                        mount_path: disk.mount_path.clone(),
                    });
                }
                volume => volumes.push(VolumeMount {
                    volume_id: volume.map_or_else(|| id.to_string(), |volume| volume.name.clone()),
                    mount_path: disk.mount_path.clone().unwrap_or_default(),
                    readonly: disk.read_only,
                    bus,
                    serial,
                    ..VolumeMount::default()
                }),
            },
        }
    }
    Ok((new, volumes, blocks, cdroms))
}

/// The keys in a seed's `meta-data`, which is JSON.
fn keys(meta_data: &str) -> Vec<String> {
    let data: Value = serde_json::from_str(meta_data).unwrap_or_default();
    let keys = data.get("public-keys").and_then(Value::as_array);
    keys.into_iter().flatten().filter_map(|key| Some(key.as_str()?.to_owned())).collect()
}

/// The hash of the password in a seed's `vendor-data`, which is JSON after its first line.
fn password_hash(vendor_data: &str) -> Option<String> {
    let (_, config) = vendor_data.split_once('\n')?;
    let config: Value = serde_json::from_str(config).ok()?;
    Some(config.get("password")?.as_str()?.to_owned())
}

/// The instance of this name if it is the one that a request asks for, else a new one; with whether it is new.
///
/// # Errors
/// `name_conflict` if it differs; those of [`instances::create`].
pub fn create_once(
    engine: &Engine,
    wanted: CreateInstance,
    all: &Map<String, Value>,
    ignored: &[String],
) -> Result<(api::Instance, bool), Refusal> {
    if engine.instances().find(&wanted.name).is_err() {
        return instances::create(engine, wanted, all, ignored).map(|instance| (instance, true));
    }
    instances::check(&wanted, all)?;
    let differences = differences(engine, &wanted, all)?;
    if differences.is_empty() {
        return instances::show(engine, &wanted.name).map(|instance| (instance, false));
    }
    let name = &wanted.name;
    Err(Refusal::new(
        Code::NameConflict,
        format!("an instance named {name:?} exists, and differs: {}", differences.join("; ")),
        format!(
            "`handover instance set {name}` changes most of this, and `handover instance attach` and `detach` its disks, while it is \
             stopped; or give the new one another name: `handover instance create --file FILE NAME`"
        ),
    ))
}

/// Where an existing instance differs from what a request asks for, a line for each field; what the request leaves out may
/// be anything. `all` has the fields as sent.
///
/// # Errors
/// `not_found`, and those of wishes.
pub fn differences(
    engine: &Engine,
    wanted: &CreateInstance,
    all: &Map<String, Value>,
) -> Result<Vec<String>, Refusal> {
    let instance = engine.instances().find(&wanted.name)?;
    let mut there = serde_json::to_value(of(engine, &wanted.name)?).unwrap_or_default();
    if all.contains_key("networks")
        && let Some(fields) = there.as_object_mut()
    {
        // A single card is asked for by either field.
        fields.insert("networks".into(), json!(networks::requests(&instance)));
    }
    // The default is not shown, but can be asked for.
    if let Some(fields) = there.as_object_mut() {
        let units = instance.options.seat.restart_units.as_str();
        fields.insert("restart_units".into(), json!(units));
    }
    // It is not shown, but compared.
    let password = instance.options.display_password.as_ref().map(model::Secret::reveal);
    if let Some(display) = there.get_mut("display").and_then(Value::as_object_mut) {
        display.insert("password".into(), json!(password));
    }
    let mut lines = Vec::new();
    let mut all = all.clone();
    by_address(engine, &mut all);
    for (field, asked) in all.iter().filter(|(_, asked)| !asked.is_null()) {
        if !matches!(field.as_str(), "devices" | "gpu") {
            compare(field, asked, there.get(field).unwrap_or(&Value::Null), &mut lines);
        }
    }
    if all.contains_key("devices") || all.contains_key("gpu") {
        let asked = asked_devices(engine, wanted)?;
        let there = engine.instances().wishes(&instance)?;
        if asked != there {
            let shown =
                |wishes: &[DeviceWish]| wishes.iter().map(wish_text).collect::<Vec<_>>().join(", ");
            lines.push(format!(
                "devices: [{}] asked for, [{}] there",
                shown(&asked),
                shown(&there)
            ));
        }
    }
    Ok(lines)
}

/// Names the devices of ROMs by their addresses, as templates do.
fn by_address(engine: &Engine, fields: &mut Map<String, Value>) {
    let roms = fields.get_mut("roms").and_then(Value::as_array_mut);
    for rom in roms.into_iter().flatten() {
        let Some(device) = rom.get_mut("device") else { continue };
        if let Some(address) = device.as_str().and_then(|key| engine.devices().address_of(key).ok())
        {
            *device = json!(address.to_string());
        }
    }
}

fn wish_text(wish: &DeviceWish) -> String {
    match wish {
        DeviceWish::Registered(key) => key.clone(),
        DeviceWish::Wanted(want) => match want.guest {
            Some(bus) => format!("{} at {bus} in the guest", want.kind),
            None => want.kind.to_string(),
        },
    }
}

/// The devices of a request, one for each claim that it makes.
fn asked_devices(engine: &Engine, wanted: &CreateInstance) -> Result<Vec<DeviceWish>, Refusal> {
    let mut asked = Vec::new();
    for wish in wanted.devices.clone().unwrap_or_default() {
        asked.push(device(engine, wish)?);
    }
    asked.extend(vgpu(wanted.gpu.clone() as Option<GpuRequest>));
    engine.instances().each_wish(&asked)
}

/// Compares what is asked for with what is there. Sizes, durations and forwarded ports may be written differently.
fn compare(field: &str, asked: &Value, there: &Value, lines: &mut Vec<String>) {
    match (asked, there) {
        (Value::Object(fields), Value::Object(own)) => {
            for (name, asked) in fields.iter().filter(|(_, asked)| !asked.is_null()) {
                let own = own.get(name).unwrap_or(&Value::Null);
                compare(&format!("{field}.{name}"), asked, own, lines);
            }
        }
        (Value::Array(asked), Value::Array(own)) if asked.len() == own.len() => {
            for (number, (asked, own)) in asked.iter().zip(own).enumerate() {
                compare(&format!("{field}.{number}"), asked, own, lines);
            }
        }
        (asked, there) if is_same(field, asked, there) => {}
        _ if field.contains("password") || field.ends_with(".content") => {
            lines.push(format!("{field}: another one is there"))
        }
        _ => lines.push(format!("{field}: {asked} asked for, {there} there")),
    }
}

/// Whether an address is the one of an address and a port: the port was left out.
fn is_of_address(asked: &str, there: &str) -> bool {
    let bare = asked.trim_start_matches('[').trim_end_matches(']');
    let there = there.parse::<SocketAddr>().ok().map(|there| there.ip());
    there.is_some() && bare.parse().ok() == there
}

/// The fields in which an empty text stands for none; in others it is refused.
const MAY_BE_EMPTY: [&str; 4] = ["size", "overlay_size", "cmdline", "mount_path"];

fn is_same(field: &str, asked: &Value, there: &Value) -> bool {
    if let (Value::String(asked), Value::String(there)) = (asked, there) {
        let size = |text: &str| parse_size(text).ok();
        let duration = |text: &str| parse_duration(text).ok();
        let forward = |text: &str| text.parse::<Forward>().ok();
        let usb = |text: &str| text.parse::<UsbWish>().ok();
        return asked.trim() == there.trim()
            || (size(asked).is_some() && size(asked) == size(there))
            || (duration(asked).is_some() && duration(asked) == duration(there))
            || (forward(asked).is_some() && forward(asked) == forward(there))
            || (usb(asked).is_some() && usb(asked) == usb(there))
            || is_of_address(asked, there);
    }
    let nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => {
            let name = field.rsplit('.').next().unwrap_or_default();
            text.is_empty() && MAY_BE_EMPTY.contains(&name)
        }
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty() || *value == json!({"enabled": false}),
        Value::Bool(true) | Value::Number(_) => false,
    };
    asked == there || (nothing(asked) && nothing(there))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(asked: Value, there: Value) -> Vec<String> {
        let mut lines = Vec::new();
        compare("it", &asked, &there, &mut lines);
        lines
    }

    #[test]
    fn the_same_may_be_written_differently() {
        for (asked, there) in [
            (json!("1024MB"), json!("1GB")),
            (json!("90s"), json!("1m30s")),
            (json!("2222:22"), json!("127.0.0.1:2222:22/tcp")),
            (json!("::1"), json!("[::1]:5900")),
            (json!(false), Value::Null),
            (json!({"mount_path": ""}), json!({})),
            (json!({"mode": "user"}), json!({"mode": "user", "mac": "52:54:00:00:00:01"})),
            (json!([{"size": "1GB"}]), json!([{"size": "1GB", "serial": "disk1"}])),
        ] {
            assert_eq!(lines(asked.clone(), there.clone()), [""; 0], "{asked} {there}");
        }
    }

    #[test]
    fn a_difference_names_its_field_and_both_values() {
        assert_eq!(
            lines(json!({"a": {"size": "2GB"}}), json!({"a": {"size": "1GB"}})),
            ["it.a.size: \"2GB\" asked for, \"1GB\" there"]
        );
        assert_eq!(lines(json!([1, 2]), json!([1])).len(), 1);
        assert_eq!(lines(json!({"x": 1}), Value::Null).len(), 1);
        assert_eq!(lines(json!(true), Value::Null).len(), 1);
        assert_eq!(lines(json!({"user_data": ""}), json!({})).len(), 1);
    }
}
