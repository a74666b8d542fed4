//! USB devices: what is connected, what the host uses it for, and giving it back to the host's drivers.

use model::UsbDevice;

use crate::root::Root;

const DEVICES: &str = "sys/bus/usb/devices";

/// Class codes (usb.org, "Defined Class Codes").
const HUB: &str = "09";
const HID: &str = "03";

/// The devices, without root hubs. Interfaces have a colon in their names, root hubs begin with `usb`.
pub fn devices(root: &Root) -> Vec<UsbDevice> {
    let mut names = root.names(DEVICES).unwrap_or_default();
    names.sort();
    let is_device = |name: &&String| !name.contains(':') && !name.starts_with("usb");
    names.iter().filter(is_device).filter_map(|name| device(root, &names, name)).collect()
}

/// A device; `None` if it is just being removed.
fn device(root: &Root, names: &[String], name: &str) -> Option<UsbDevice> {
    let dir = format!("{DEVICES}/{name}");
    let text = |file: &str| root.text(&format!("{dir}/{file}")).ok();
    let hex = |file: &str| u16::from_str_radix(&text(file)?, 16).ok();
    let words = [text("manufacturer"), text("product")];
    let words: Vec<String> = words.into_iter().flatten().map(|one| one.trim().to_owned()).collect();
    // Boot interface, keyboard or mouse (HID 1.11, 4.2 and 4.3): desktop keyboards and mice have one.
    let protocols: Vec<String> = interfaces(names, name)
        .filter(|one| {
            root.text(&format!("{DEVICES}/{one}/bInterfaceClass")).is_ok_and(|class| class == HID)
        })
        .filter_map(|one| root.text(&format!("{DEVICES}/{one}/bInterfaceProtocol")).ok())
        .collect();
    Some(UsbDevice {
        name: name.to_owned(),
        vendor: hex("idVendor")?,
        product: hex("idProduct")?,
        title: words.join(" "),
        is_hub: text("bDeviceClass").is_some_and(|class| class == HUB),
        is_keyboard: protocols.iter().any(|protocol| protocol == "01"),
        is_mouse: protocols.iter().any(|protocol| protocol == "02"),
        used: disks(root, &dir).into_iter().find_map(|disk| use_of(root, &disk)),
        bus: text("busnum")?.parse().ok()?,
        number: text("devnum")?.parse().ok()?,
    })
}

/// The interfaces of a device: `1-2:1.0`.
fn interfaces<'a>(names: &'a [String], device: &'a str) -> impl Iterator<Item = &'a String> {
    names.iter().filter(move |name| name.split_once(':').is_some_and(|(of, _)| of == device))
}

/// The disks on a device, such as `sda`.
fn disks(root: &Root, dir: &str) -> Vec<String> {
    let Ok(own) = root.link(dir) else { return Vec::new() };
    let Some(name) = own.rsplit('/').next() else { return Vec::new() };
    let all = root.names("sys/block").unwrap_or_default();
    let below = |disk: &String| {
        let link = root.link(&format!("sys/block/{disk}")).unwrap_or_default();
        link.contains(&format!("/{name}/"))
    };
    all.into_iter().filter(below).collect()
}

/// What the host uses a disk or one of its partitions for.
fn use_of(root: &Root, disk: &str) -> Option<String> {
    let dir = format!("sys/block/{disk}");
    let parts = root.names(&dir).unwrap_or_default();
    let parts = parts.into_iter().filter(|part| part.starts_with(disk));
    let parts: Vec<String> = parts.chain([disk.to_owned()]).collect();
    // Not our own mounts: a service can have a view of its own.
    let mounts = root.bytes("proc/1/mounts", 4 << 20).unwrap_or_default();
    let mounts = String::from_utf8_lossy(&mounts);
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(place)) = (words.next(), words.next()) else { continue };
        let device = device.strip_prefix("/dev/");
        if let Some(part) = parts.iter().find(|part| Some(part.as_str()) == device) {
            return Some(format!("{part} is mounted at {place}"));
        }
    }
    let swaps = root.text("proc/swaps").unwrap_or_default();
    let is_swap = |part: &&String| {
        swaps.lines().any(|line| line.split_whitespace().next() == Some(&format!("/dev/{part}")))
    };
    if let Some(part) = parts.iter().find(is_swap) {
        return Some(format!("{part} is swap space"));
    }
    parts.iter().find_map(|part| {
        let path = if part == disk { dir.clone() } else { format!("{dir}/{part}") };
        let holders = root.names(&format!("{path}/holders")).unwrap_or_default();
        holders.first().map(|holder| format!("{part} is part of {holder}"))
    })
}

/// Probes the interfaces that have no driver: a VMM that was killed leaves them so.
pub fn reattach(root: &Root, device: &UsbDevice) {
    let names = root.names(DEVICES).unwrap_or_default();
    for interface in interfaces(&names, &device.name) {
        if root.exists(&format!("{DEVICES}/{interface}/driver")) {
            continue;
        }
        if let Err(errno) = root.write("sys/bus/usb/drivers_probe", interface) {
            tracing::debug!(%interface, %errno, "the kernel has no driver for it");
        }
    }
}
