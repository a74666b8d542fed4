//! Devices through VFIO, as virt-launcher assigns them to its guest: nodes of IOMMU groups, and variables with
//! addresses.

use std::collections::BTreeSet;

use model::choose::{Filter, Want, WantKind, nearest};
use model::{Address, Assembly, Code, Function, Id, Kind, Refusal, VfSettings};

use uuid::Uuid;

use super::{Devices, Scene, Section, Vendor, Wanted, refusal, shown, usb};

/// A device for a machine, from a claim or already on vfio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The PCI address, or the UUID of a mediated device.
    pub id: String,
    /// Whether it is a mediated device.
    pub mediated: bool,
    /// The nodes of its IOMMU groups.
    pub groups: Vec<String>,
    /// The nodes of its VFIO devices, for iommufd.
    pub devices: Vec<String>,
    /// Its description, for messages.
    pub shown: String,
}

/// Whether a function fits a request, whatever its state.
fn is_meant(wanted: &Wanted, function: &Function, scene: &Scene<'_>) -> bool {
    if let Some(want) = scene.named.get(wanted.resource.as_str()) {
        return match &want.kind {
            WantKind::Device(name) => *name == function.address.to_string(),
            // As for a claim, a kind does not mean the host's own displays.
            WantKind::Any(filter) => {
                let named = filter.device.is_some() || filter.vendor.is_some();
                // Only the daemon knows the devices file.
                filter.resource.is_none()
                    && filter.fits(function)
                    && (named || !function.is_hosts_display())
            }
            WantKind::Vf { of, .. } => {
                let parent = function.physical_function.map(|parent| parent.to_string());
                parent.is_some() && (of.is_none() || *of == parent)
            }
            WantKind::Profile { .. } | WantKind::Mdev(_) => false,
        };
    }
    let vendor = wanted.resource.vendor();
    let by_name = vendor.is_none_or(|vendor| vendor.id() == function.vendor)
        && wanted.resource.is_model_of(function);
    match wanted.section {
        Section::Interface => function.kind() == Kind::Nic && function.physical_function.is_some(),
        Section::Gpu => matches!(function.kind(), Kind::Gpu | Kind::Accelerator) && by_name,
        // A name without a model says nothing about the function.
        Section::HostDevice if wanted.resource.is_any_gpu() => {
            matches!(function.kind(), Kind::Gpu | Kind::Accelerator) && by_name
        }
        Section::HostDevice => {
            by_name
                && function.kind() != Kind::Bridge
                && wanted.resource.names_model()
                && !wanted.resource.is_usb_device()
        }
    }
}

/// The wants of a claim, one for each device.
///
/// # Errors
/// A resource name matches no device of this host.
pub fn wants(wanted: &[Wanted], scene: &Scene<'_>) -> Result<Vec<Want>, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut all = Vec::new();
    for one in wanted {
        match want(one, scene) {
            Ok(kind) => all.push(Want::one(kind)),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if refusals.is_empty() { Ok(all) } else { Err(refusals) }
}

fn want(wanted: &Wanted, scene: &Scene<'_>) -> Result<WantKind, Refusal> {
    if let Some(want) = scene.named.get(wanted.resource.as_str()) {
        return Ok(want.kind.clone());
    }
    if wanted.section == Section::Interface {
        return Ok(WantKind::Vf { of: None, settings: VfSettings::default() });
    }
    if let Some(profile) = wanted.resource.profile() {
        return Ok(WantKind::Profile { profile, of: None, attributes: Vec::new() });
    }
    let vendor = wanted.resource.vendor().map(Vendor::id);
    let generic = wanted.resource.is_any_gpu()
        || (wanted.section == Section::Gpu && vendor.is_some() && !wanted.resource.names_model());
    if generic {
        return Ok(WantKind::Any(Filter { kind: Some(Kind::Gpu), vendor, ..Filter::default() }));
    }
    let all = scene.inventory.functions.values().filter(|one| is_meant(wanted, one, scene));
    let ids: BTreeSet<(Id, Id)> = all.map(|one| (one.vendor, one.device)).collect();
    let Some((vendor, device)) = ids.first().copied() else { return Err(no_such(wanted)) };
    let others = ids.into_iter().filter(|(own, other)| *own == vendor && *other != device);
    Ok(WantKind::Any(Filter {
        vendor: Some(vendor),
        device: Some(device),
        or_devices: others.map(|(_, other)| other).collect(),
        ..Filter::default()
    }))
}

fn no_such(wanted: &Wanted) -> Refusal {
    if wanted.section == Section::HostDevice && wanted.resource.is_usb_device() {
        return usb(wanted);
    }
    let resource = &wanted.resource;
    refusal(
        Code::DeviceNotFound,
        wanted,
        "no device of this host has this name",
        format!(
            "run `handover ls` to list devices, and define the name: --resource {resource}=0000:01:00.0, or {resource}=10de:20b0"
        ),
    )
}

/// The requested devices that are already on vfio, and existing mediated devices. Unavailable devices are in `missing`.
#[must_use]
pub fn vfio(wanted: &[Wanted], scene: &Scene<'_>) -> Devices {
    let mut mdevs = BTreeSet::new();
    let mut chosen: Vec<Option<Given>> =
        wanted.iter().map(|one| existing_mdev(one, scene, &mut mdevs)).collect();
    let mut vgpus = BTreeSet::new();
    for (one, given) in wanted.iter().zip(&mut chosen) {
        if given.is_none() {
            *given = existing_vgpu(one, scene, &mut vgpus);
        }
    }
    let open: Vec<usize> = (0..wanted.len()).filter(|place| chosen[*place].is_none()).collect();
    let free: Vec<&Function> = scene
        .inventory
        .functions
        .values()
        .filter(|function| function.on_vfio() && !scene.held.contains_key(&function.address))
        .filter(|function| unusable(function, scene).is_none())
        .collect();
    let likes: Vec<Vec<usize>> = open
        .iter()
        .map(|place| {
            let fits = |number: &usize| is_meant(&wanted[*place], free[*number], scene);
            (0..free.len()).filter(fits).collect()
        })
        .collect();
    for (place, number) in open.iter().zip(nearest(scene.inventory, &free, &likes)) {
        let function = number.and_then(|number| free.get(number));
        chosen[*place] = function.map(|function| bound(function, scene));
    }
    let mut devices = Devices::default();
    let mut all = Vec::new();
    for (one, given) in wanted.iter().zip(chosen) {
        match given {
            Some(given) => all.push((one.clone(), given)),
            None => devices.missing.push(why_none(one, scene)),
        }
    }
    let found = given(&all);
    Devices { missing: devices.missing, ..found }
}

/// Why no machine could use a function, whatever else is on the host.
fn unusable(function: &Function, scene: &Scene<'_>) -> Option<Refusal> {
    let assembly = Assembly::alone(scene.inventory, function.address)?;
    let mut obstacles = assembly.obstacles(scene.inventory).into_iter();
    obstacles.find(|obstacle| obstacle.code == Code::NotAssignable)
}

/// A free mediated device of the requested profile that is not in `taken`.
fn existing_mdev(wanted: &Wanted, scene: &Scene<'_>, taken: &mut BTreeSet<Uuid>) -> Option<Given> {
    let named = scene.named.get(wanted.resource.as_str());
    let profile = match named.map(|want| &want.kind) {
        Some(WantKind::Profile { profile, .. }) => Some(profile.clone()),
        Some(_) => None,
        None => wanted.resource.profile(),
    };
    let uuid = match named.map(|want| &want.kind) {
        Some(WantKind::Mdev(uuid)) => Some(*uuid),
        _ => None,
    };
    scene.inventory.functions.values().find_map(|parent| {
        let mdev = parent.mdevs.iter().find(|mdev| {
            let types = parent.detail.iter().flat_map(|detail| &detail.mdev_types);
            let mut own = types.filter(|one| Some(&one.id) == mdev.type_id.as_ref());
            let is_profile = profile.as_ref().is_some_and(|profile| {
                mdev.type_id.as_ref() == Some(profile)
                    || own.any(|one| one.name.as_ref() == Some(profile))
            });
            (is_profile || uuid == Some(mdev.uuid))
                && !scene.held_mdevs.contains_key(&mdev.uuid)
                && taken.insert(mdev.uuid)
        })?;
        Some(Given {
            id: mdev.uuid.to_string(),
            mediated: true,
            groups: mdev
                .iommu_group
                .map(|group| format!("/dev/vfio/{group}"))
                .into_iter()
                .collect(),
            devices: Vec::new(),
            shown: format!("mediated device {} of {}", mdev.uuid, shown(parent)),
        })
    })
}

/// A free virtual function that is a vGPU of the requested profile by NVIDIA's vendor-specific VFIO, and is not in `taken`.
fn existing_vgpu(
    wanted: &Wanted,
    scene: &Scene<'_>,
    taken: &mut BTreeSet<Address>,
) -> Option<Given> {
    let named = scene.named.get(wanted.resource.as_str()).map(|want| &want.kind);
    let profile = match named {
        Some(WantKind::Profile { profile, .. }) => Some(profile.clone()),
        Some(_) => None,
        None => wanted.resource.profile(),
    };
    let function = scene.inventory.functions.values().find(|function| {
        let vgpu = function.vgpu();
        let current = vgpu.and_then(|vgpu| vgpu.current);
        let name = vgpu.zip(current).and_then(|(vgpu, current)| vgpu.name_of(current));
        let by_name = name.as_ref().zip(profile.as_ref()).is_some_and(|(name, profile)| {
            profile == name || profile == model::vgpu::own_name(name)
        });
        let by_address = matches!(
            named,
            Some(WantKind::Device(name)) if name.parse() == Ok(function.address)
        );
        (by_name || (by_address && current.is_some()))
            && !scene.held.contains_key(&function.address)
            && taken.insert(function.address)
    })?;
    Some(Given { shown: format!("vGPU {}", shown(function)), ..bound(function, scene) })
}

/// A function on vfio, with the nodes of its group.
fn bound(function: &Function, scene: &Scene<'_>) -> Given {
    let group = function.iommu_group;
    let nodes = &function.nodes;
    let by_number = group.map(|group| format!("/dev/vfio/{group}"));
    let members = group.and_then(|group| scene.inventory.groups.get(&group));
    let others = members.into_iter().flat_map(|group| &group.members);
    let others = others.filter_map(|address| scene.inventory.function(*address));
    Given {
        id: function.address.to_string(),
        mediated: false,
        groups: nodes.vfio_group.clone().or(by_number).into_iter().collect(),
        devices: others.filter_map(|other| other.nodes.vfio_device.clone()).collect(),
        shown: shown(function),
    }
}

/// The nodes for opening devices: those of their groups, or their own if there are no groups.
#[must_use]
pub(crate) fn opened(groups: &[String], devices: &[String]) -> Vec<String> {
    let (first, rest) = match (groups, devices) {
        ([], []) => return Vec::new(),
        ([], devices) => ("/dev/iommu", devices),
        (groups, _) => ("/dev/vfio/vfio", groups),
    };
    [first.to_owned()].into_iter().chain(rest.iter().cloned()).collect()
}

/// The nodes and variables of a pod for its devices.
#[must_use]
pub fn given(all: &[(Wanted, Given)]) -> Devices {
    let mut devices = Devices { lock_memory: !all.is_empty(), ..Devices::default() };
    for (wanted, given) in all {
        let why = format!("{} {} is {}", wanted.section.word(), wanted.name, given.shown);
        devices.functions.extend(given.id.parse::<Address>().ok());
        devices.mdevs.extend(given.id.parse::<Uuid>().ok());
        if given.groups.is_empty() {
            devices.node("iommu", "/dev/iommu", "iommufd, needed to open VFIO device nodes");
        } else {
            devices.node("vfio", "/dev/vfio/vfio", "the VFIO container of IOMMU groups");
        }
        let paths = if given.groups.is_empty() { &given.devices } else { &given.groups };
        for path in paths {
            let number = path.rsplit('/').next().unwrap_or_default();
            let number = number.strip_prefix("vfio").unwrap_or(number);
            let name = if given.groups.is_empty() { "vfio-device" } else { "vfio" };
            devices.node(format!("{name}-{number}"), path, why.clone());
        }
        if wanted.section == Section::Interface {
            devices.networks.push((wanted.name.clone(), given.id.clone()));
            continue;
        }
        let prefix = if given.mediated { "MDEV_PCI_RESOURCE" } else { "PCI_RESOURCE" };
        devices.tell(wanted.resource.variable(prefix), &given.id);
    }
    devices
}

/// Why no device on vfio fits.
fn why_none(wanted: &Wanted, scene: &Scene<'_>) -> Refusal {
    let claim = "use --claim to let Handover prepare it";
    if let Some(profile) = wanted.resource.profile() {
        let why = format!("no free mediated device or vGPU of the profile {profile} exists");
        return refusal(Code::InvalidState, wanted, &why, claim);
    }
    let meant: Vec<&Function> = scene
        .inventory
        .functions
        .values()
        .filter(|function| is_meant(wanted, function, scene))
        .collect();
    if let Some(why) = meant.iter().find_map(|function| unusable(function, scene)) {
        return refusal(why.code, wanted, &why.message, &why.remedy);
    }
    if let Some(unbound) = meant.iter().find(|function| !function.on_vfio()) {
        let driver = unbound.driver.as_deref().unwrap_or("no driver");
        let why = format!("{} is on {driver}, not on vfio", shown(unbound));
        return refusal(Code::InvalidState, wanted, &why, claim);
    }
    let held = meant.iter().find_map(|one| Some((one, scene.held.get(&one.address)?)));
    if let Some((function, who)) = held {
        let why = format!("{} is in use by {who}", shown(function));
        let remedy =
            "stop its user, or choose another device; --allow-missing continues without it";
        return refusal(Code::InUse, wanted, &why, remedy);
    }
    if meant.is_empty() {
        return no_such(wanted);
    }
    let why = format!("the machine requests more than the {} that this host has", meant.len());
    let remedy = "request fewer, or use another host";
    refusal(Code::InsufficientResources, wanted, &why, remedy)
}
