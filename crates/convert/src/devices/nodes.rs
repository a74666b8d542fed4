//! GPUs through the nodes of their drivers: distinct functions of the requested vendor and model, close together.

use model::choose::nearest;
use model::{Code, Function, Kind, Refusal};

use super::{Devices, Scene, Section, Vendor, Wanted, refusal, share_nvidia, shown, usb};

/// The nodes of the requested GPUs. Unavailable devices are in `missing`.
#[must_use]
pub fn nodes(wanted: &[Wanted], scene: &Scene<'_>) -> Devices {
    let mut devices = Devices::default();
    let gpus: Vec<&Wanted> = wanted.iter().filter(|one| one.section == Section::Gpu).collect();
    let given = choose(&gpus, scene);
    for (one, function) in gpus.iter().zip(given) {
        match function {
            Some(function) => add(&mut devices, one, function, scene),
            None => devices.missing.push(why_none(one, wanted, scene)),
        }
    }
    for one in wanted.iter().filter(|one| one.section == Section::HostDevice) {
        if one.resource.is_usb_device() && !scene.named.contains_key(one.resource.as_str()) {
            devices.missing.push(usb(one));
            continue;
        }
        let remedy =
            "use --claim: Handover prepares the device; or --devices=vfio if it is on vfio already";
        let why = "a host device can be assigned through VFIO only";
        devices.missing.push(refusal(Code::InvalidState, one, why, remedy));
    }
    devices
}

/// Whether a function has the nodes that a GPU of its vendor needs.
fn has_nodes(function: &Function, vendor: Vendor) -> bool {
    match vendor {
        Vendor::Nvidia => function.nodes.nvidia_minor.is_some(),
        Vendor::Amd | Vendor::Intel => {
            function.nodes.drm.iter().any(|node| node.starts_with("renderD"))
        }
    }
}

fn is_gpu(function: &Function) -> bool {
    matches!(function.kind(), Kind::Gpu | Kind::Accelerator)
}

fn vendor_of(function: &Function) -> Option<Vendor> {
    [Vendor::Nvidia, Vendor::Amd, Vendor::Intel].into_iter().find(|one| one.id() == function.vendor)
}

/// Whether a function fits a request, whatever its state.
fn is_meant(wanted: &Wanted, function: &Function) -> bool {
    let vendor = vendor_of(function);
    is_gpu(function)
        && vendor.is_some()
        && wanted.resource.vendor().is_none_or(|named| Some(named) == vendor)
        && (wanted.resource.vendor().is_none() || wanted.resource.is_model_of(function))
}

/// The function for each request; if all can be met, the combination that is closest together.
fn choose<'a>(gpus: &[&Wanted], scene: &Scene<'a>) -> Vec<Option<&'a Function>> {
    let free: Vec<&Function> = scene
        .inventory
        .functions
        .values()
        .filter(|function| vendor_of(function).is_some_and(|vendor| has_nodes(function, vendor)))
        .filter(|function| is_gpu(function) && !scene.held.contains_key(&function.address))
        .collect();
    let fits = |one: &&Wanted| -> Vec<usize> {
        (0..free.len())
            .filter(|number| free.get(*number).is_some_and(|f| is_meant(one, f)))
            .collect()
    };
    let likes: Vec<Vec<usize>> = gpus.iter().map(fits).collect();
    let given = nearest(scene.inventory, &free, &likes);
    given.into_iter().map(|number| number.and_then(|number| free.get(number).copied())).collect()
}

fn add(devices: &mut Devices, wanted: &Wanted, function: &Function, scene: &Scene<'_>) {
    let why = format!("gpu {} is {}", wanted.name, shown(function));
    devices.functions.push(function.address);
    if wanted.resource.vendor().is_none() {
        devices.notes.push(format!(
            "{} names no known vendor: gpu {} gets {}",
            wanted.resource,
            wanted.name,
            shown(function)
        ));
    }
    add_own(devices, function, scene.present, &why);
}

/// The paths of the nodes of a GPU's native driver; empty if there are none, or for another device.
pub(crate) fn own_nodes(function: &Function, present: &[String]) -> Vec<String> {
    let mut devices = Devices::default();
    let usable = vendor_of(function).is_some_and(|vendor| has_nodes(function, vendor));
    if usable && is_gpu(function) {
        add_own(&mut devices, function, present, "");
    }
    devices.nodes.into_iter().map(|node| node.path).collect()
}

/// Adds the nodes of a GPU's native driver.
fn add_own(devices: &mut Devices, function: &Function, present: &[String], why: &str) {
    if let Some(minor) = function.nodes.nvidia_minor {
        devices.node(format!("nvidia{minor}"), format!("/dev/nvidia{minor}"), why);
        for instance in function.detail.iter().flat_map(|detail| &detail.mig) {
            let name = format!("nvidia-cap{}", instance.capability);
            devices.node(name, instance.path(), "grants access to a MIG instance of that GPU");
        }
        return share_nvidia(devices);
    }
    for node in &function.nodes.drm {
        let render = node.strip_prefix("renderD").and_then(|n| n.parse::<u32>().ok());
        let name = render.and_then(|n| n.checked_sub(128)).map(|n| format!("dri-render{n}"));
        let name = name.unwrap_or_else(|| format!("dri-{node}"));
        devices.node(name, format!("/dev/dri/{node}"), why);
    }
    let kfd = "/dev/kfd";
    if vendor_of(function) == Some(Vendor::Amd) && present.iter().any(|path| path == kfd) {
        devices.node("kfd", kfd, "ROCm needs it to compute on AMD GPUs");
    }
}

/// Why no GPU of the host fits.
fn why_none(wanted: &Wanted, all: &[Wanted], scene: &Scene<'_>) -> Refusal {
    let meant: Vec<&Function> =
        scene.inventory.functions.values().filter(|function| is_meant(wanted, function)).collect();
    if meant.is_empty() {
        let vendor = wanted.resource.vendor();
        let other = scene.inventory.functions.values().find(|function| {
            is_gpu(function) && vendor_of(function).is_some_and(|own| vendor == Some(own))
        });
        let vendor = vendor.map_or("known", Vendor::word);
        let why = match other {
            Some(other) => format!("this host has no such model; it has {}", shown(other)),
            None => format!("this host has no {vendor} GPU"),
        };
        let remedy = "run `handover ls --type gpu` to list GPUs; change the machine's deviceName, or use another host";
        return refusal(Code::InsufficientResources, wanted, &why, remedy);
    }
    for function in &meant {
        if function.on_vfio() {
            let driver = function.driver.as_deref().unwrap_or_default();
            let why = format!("{} is bound to {driver}, so it has no GPU nodes", shown(function));
            let remedy = "use --devices=vfio, or return it to its native driver: handover return";
            return refusal(Code::InvalidState, wanted, &why, remedy);
        }
    }
    for function in &meant {
        if let Some(who) = scene.held.get(&function.address) {
            let why = format!("{} is in use by {who}", shown(function));
            let remedy =
                "stop its user, or choose another GPU; --allow-missing continues without it";
            return refusal(Code::InUse, wanted, &why, remedy);
        }
    }
    let without = meant
        .iter()
        .find(|function| vendor_of(function).is_none_or(|vendor| !has_nodes(function, vendor)));
    if let Some(function) = without {
        let (why, remedy) = without_nodes(function);
        return refusal(Code::InvalidState, wanted, &why, remedy);
    }
    let count = all.iter().filter(|one| one.section == Section::Gpu).count();
    let why = format!(
        "the machine requests {count} GPUs, but this host has only {} that fit",
        meant.len()
    );
    let remedy = "request fewer, or use another host; --allow-missing continues without it";
    refusal(Code::InsufficientResources, wanted, &why, remedy)
}

fn without_nodes(function: &Function) -> (String, &'static str) {
    let shown = shown(function);
    let nvidia = vendor_of(function) == Some(Vendor::Nvidia);
    match function.driver.as_deref() {
        None => (format!("{shown} has no driver"), "load its driver, then run `handover doctor`"),
        Some(driver) if nvidia && driver != "nvidia" => (
            format!("{shown} is on {driver}, which creates no /dev/nvidiaN"),
            "install NVIDIA's driver, or use --devices=vfio",
        ),
        Some(driver) => (
            format!("{shown} is on {driver}, but has no device node"),
            "check `dmesg` for errors of its driver; for NVIDIA, nvidia-smi or nvidia-modprobe creates the nodes",
        ),
    }
}
