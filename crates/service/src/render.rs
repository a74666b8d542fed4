//! Renders the engine's values in the types of the API.

use api::{AttachedDevice, DeviceType};
use engine::{
    AvailableDevice, Container, Device, DeviceState, Image, ImageDisk, ImageStatus, Instance,
    InstanceState,
};
use model::{ContainerConfig, Kind, format_size};

use crate::{cpu, display, life, memory, seat};

/// The names of instance states.
pub(crate) const STATES: [(InstanceState, &str); 8] = [
    (InstanceState::Created, "Created"),
    (InstanceState::Initializing, "Initializing"),
    (InstanceState::Running, "Running"),
    (InstanceState::Paused, "Paused"),
    (InstanceState::Shutdown, "Shutdown"),
    (InstanceState::Stopped, "Stopped"),
    (InstanceState::Standby, "Standby"),
    (InstanceState::Unknown, "Unknown"),
];

/// The name of a state.
#[must_use]
pub fn state_word(state: InstanceState) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("Unknown", |(_, word)| word)
}

/// A function that can be handed over.
#[must_use]
pub fn available(device: AvailableDevice) -> api::AvailableDevice {
    api::AvailableDevice {
        pci_address: device.address.to_string(),
        vendor_id: device.vendor.to_string(),
        device_id: device.device.to_string(),
        vendor_name: device.vendor_name,
        device_name: device.device_name,
        iommu_group: device.iommu_group,
        current_driver: device.driver,
        kind: device.kind.as_str().to_owned(),
    }
}

/// The name of a device's state.
const fn state_of_device(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Free => "free",
        DeviceState::Claimed => "claimed",
        DeviceState::Foreign => "foreign",
        DeviceState::Wedged => "wedged",
        DeviceState::Quarantined => "quarantined",
        DeviceState::Absent => "absent",
    }
}

/// A registered device.
#[must_use]
pub fn device(device: Device) -> api::Device {
    let gpu = device.kind == Kind::Gpu;
    api::Device {
        id: device.id.to_string(),
        name: device.name,
        device_type: if gpu { DeviceType::Gpu } else { DeviceType::Pci },
        pci_address: device.address.to_string(),
        vendor_id: device.vendor.to_string(),
        device_id: device.device.to_string(),
        title: device.title,
        iommu_group: device.iommu_group,
        bound_to_vfio: device.bound_to_vfio,
        attached_to: device.attached_to.map(|id| id.to_string()),
        state: state_of_device(device.state).to_owned(),
        state_reason: device.state_reason,
        created_at: device.created_at.to_string(),
        tags: device.tags,
        kind: device.kind.as_str().to_owned(),
        warnings: Vec::new(),
    }
}

/// An image.
#[must_use]
pub fn image(image: Image, disk: ImageDisk) -> api::Image {
    let status = match image.status {
        ImageStatus::Pending => "pending",
        ImageStatus::Pulling => "pulling",
        ImageStatus::Converting => "converting",
        ImageStatus::Ready => "ready",
        ImageStatus::Failed => "failed",
    };
    let container = image.container.as_ref().map(container);
    let config = image.container.map(|container| container.config);
    let variables = |config: &ContainerConfig| {
        let split = config.env.iter().filter_map(|text| text.split_once('='));
        split.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    api::Image {
        name: image.name,
        digest: image.digest,
        status: status.to_owned(),
        size_bytes: image.size_bytes,
        error: image.error,
        error_code: image.error_code.map(|code| code.as_str().to_owned()),
        created_at: image.created_at.to_string(),
        tags: image.tags,
        disk_format: image.disk_format.map(|format| format.as_str().to_owned()),
        virtual_size: disk.virtual_size,
        used_bytes: disk.used,
        base: disk.base,
        entrypoint: config.as_ref().map(|config| config.entrypoint.clone()),
        cmd: config.as_ref().map(|config| config.cmd.clone()),
        env: config.as_ref().map(variables),
        working_dir: config.map(|config| config.working_dir),
        container,
        has_kernel: image.has_kernel,
        cmdline: image.cmdline,
        warnings: Vec::new(),
    }
}

fn container(container: &Container) -> api::ContainerInfo {
    let (config, contents) = (&container.config, &container.contents);
    let nvidia = |module: &model::NvidiaModule| api::NvidiaModule {
        kernel: module.kernel.clone(),
        version: module.version.clone(),
        open: module.open,
    };
    api::ContainerInfo {
        user: config.user.clone(),
        stop_signal: config.stop_signal.clone(),
        architecture: config.architecture.clone(),
        labels: config.labels.clone(),
        kernel: contents.kernel().map(|kernel| kernel.version.clone()),
        modules: contents.modules.clone(),
        nvidia_modules: contents.nvidia_modules.iter().map(nvidia).collect(),
        nvidia_libraries: contents.nvidia_libraries.clone(),
        pulled_bytes: None,
        total_bytes: None,
    }
}

/// An instance with its devices.
#[must_use]
pub fn instance(instance: Instance, attached: Vec<AttachedDevice>) -> api::Instance {
    let runs = !matches!(instance.state, InstanceState::Stopped | InstanceState::Shutdown);
    api::Instance {
        id: instance.id.to_string(),
        name: instance.name,
        image: instance.image,
        state: state_word(instance.state).to_owned(),
        state_error: instance.state_error,
        vcpus: instance.vcpus,
        size: format_size(instance.memory),
        overlay_size: instance.overlay_size.map(format_size),
        volumes: Vec::new(),
        blocks: Vec::new(),
        cdroms: Vec::new(),
        cpu: cpu::shown(&instance.options.cpu),
        os: Some(instance.options.cpu.os.as_str().to_owned()),
        firmware: instance.options.firmware.as_str().to_owned(),
        display: instance.options.display.map(display::shown),
        tpm: instance.options.tpm.then_some(true),
        hugepages: memory::shown(instance.options.huge_pages),
        placement: memory::shown_placement(instance.options.placement),
        placed: instance.options.placed.filter(|_| runs).map(memory::placed),
        kernel: instance.options.booted,
        agent_ready: None,
        device_access: instance
            .options
            .device_access
            .filter(|_| runs)
            .map(|access| access.as_str().to_owned()),
        fabric_set: instance.options.fabric_set.filter(|_| runs),
        spare_ports: instance.options.spare_ports,
        take_display: instance.options.seat.take_display.then_some(true),
        restart_units: seat::shown_units(instance.options.seat.restart_units),
        usb: seat::shown_usb(&instance.options.seat),
        input: instance.options.seat.input.then_some(true),
        network: api::Network::default(),
        networks: Vec::new(),
        roms: instance.options.roms.iter().map(|rom| rom.device.to_string()).collect(),
        hostname: instance.options.seed.as_ref().map(|seed| seed.hostname.clone()),
        ssh_host_key: instance.options.seed.and_then(|seed| seed.host_key),
        gpu: instance.gpu.map(|gpu| api::Gpu {
            profile: Some(gpu.profile),
            mdev_uuid: gpu.mdev.map(|uuid| uuid.to_string()),
        }),
        restart_policy: life::shown_restart(&instance.options.life.restart),
        restart_status: None,
        autostart: instance.options.life.autostart.as_ref().map(life::shown_autostart),
        tags: instance.tags,
        exit_code: instance.exit_code,
        created_at: instance.created_at.to_string(),
        expires_at: None,
        started_at: instance.started_at.map(|at| at.to_string()),
        stopped_at: instance.stopped_at.map(|at| at.to_string()),
        hypervisor: instance.hypervisor,
        devices: instance.devices.iter().map(ToString::to_string).collect(),
        attached,
        cmdline: instance.cmdline,
        pid: instance.pid,
        notes: Vec::new(),
        warnings: Vec::new(),
    }
}
