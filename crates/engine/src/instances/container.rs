//! Instances whose root is a container image: what they run, their writable layer, and how their command ended.

use std::time::Duration;

use guest_protocol::{Addressing, Agent, Card, GuestConfig, MountPoint, disk};
use image::NewVolume;
use model::shown::bytes;
use model::{
    Choice, Code, ContainerBoot, ContainerImage, ContainerRun, DiskBus, DiskContent, DiskFormat,
    Exit, Firmware, GuestDisk, KernelBoot, Refusal, Secret,
};
use uuid::Uuid;

use super::disks::{Planned, new_volume};
use super::{Instances, first_boot, is_stopped, screen, wrong_state};
use crate::images::BootKernel;
use crate::store::{Durability, StoredImage, StoredInstance};
use crate::volumes::checked;
use crate::{CreateInstance, FirstBoot, Instance, InstanceState, Volume};

/// The size of the writable layer, if the request does not say it: it takes only what is written.
const USUAL_LAYER: u64 = 10 << 30;

/// The port of vsock on which the agent in the guest listens.
pub(super) const AGENT_PORT: u32 = 1024;

/// How long a command may take to end after its stop signal.
const STOP: Duration = Duration::from_secs(10);

/// What the kernel is told, before what the request adds. A panic reboots at once: else it would stand still.
const CMDLINE: &str = "console=ttyS0 panic=-1 quiet";

/// What it is told if the processor is emulated: the timers of a busy host's guest look broken to the kernel, which panics then
/// (`check_timer` in arch/x86/kernel/apic/io_apic.c).
const EMULATED: &str = "no_timer_check";

impl Instances {
    /// What a new instance runs of a container image. What such an image cannot have is refused, and so is a command for another
    /// image.
    pub(super) fn container_run(
        &self,
        request: &CreateInstance,
        image: &StoredImage,
    ) -> Result<Option<ContainerRun>, Refusal> {
        let hostname = request.first_boot.hostname.clone();
        let run = ContainerRun { hostname, ..request.container.clone() };
        let Some(container) = self.images.container(image)? else {
            return match request.container == ContainerRun::default() {
                true => Ok(None),
                false => Err(no_container(&image.image.name)),
            };
        };
        expect_possible(request)?;
        run.hostname.as_deref().map_or(Ok(()), first_boot::check_hostname)?;
        expect_command(&image.image.name, &argv(&run, &container))?;
        Ok(Some(run))
    }

    /// Records another command of a stopped instance. Call it in the instance's turn.
    pub(super) fn change_command(&self, id: Uuid, command: ContainerRun) -> Result<(), Refusal> {
        let mut row = self.stored_instance(&id.to_string())?;
        if !is_stopped(&row) {
            let restart = format!("stop it first: `handover instance stop {}`", row.instance.name);
            return Err(wrong_state(&row, "given another command", restart));
        }
        let Some(run) = &mut row.instance.options.container else {
            return Err(no_container(&row.instance.image));
        };
        if command.entrypoint.is_some() {
            run.entrypoint = command.entrypoint;
            run.cmd = None;
        }
        run.cmd = command.cmd.or(run.cmd.take());
        self.store.write(Durability::Power, |tx| row.update_settings(tx))
    }

    /// Adds the writable layer of a container image to the disks of a new instance, before the others, and what the volumes need that
    /// its init mounts: a file system, which it cannot make.
    pub(super) fn plan_layer(
        &self,
        instance: &Instance,
        planned: &mut Planned,
    ) -> Result<(), Refusal> {
        let size = instance.overlay_size.unwrap_or(USUAL_LAYER);
        let file = checked(NewVolume { size, format: DiskFormat::Raw, allocate: false })?;
        let name = self.free_name(&format!("{}/root", instance.name))?;
        let volume = new_volume(instance, name, file);
        planned.disks.insert(
            0,
            GuestDisk {
                content: DiskContent::Volume(volume.id),
                bus: DiskBus::Virtio,
                serial: ContainerBoot::UPPER.to_owned(),
                read_only: false,
                mount_path: None,
                port: None,
            },
        );
        planned.formatted.push(volume.id);
        planned.new.push(volume);
        for disk in planned.disks.iter().filter(|disk| disk.mount_path.is_some()) {
            let Some(id) = disk.volume() else { return Err(not_mountable(disk)) };
            match planned.new.iter().find(|volume| volume.id == id) {
                Some(volume) if volume.format == DiskFormat::Raw => planned.formatted.push(id),
                Some(_) => return Err(not_formatted(disk)),
                None => {}
            }
        }
        Ok(())
    }

    /// Makes a file system on the empty volumes of an instance that its init mounts. Call it before the machine starts.
    pub(super) fn format_empty_volumes(&self, row: &StoredInstance) -> Result<(), Refusal> {
        for disk in row.instance.options.disks.iter().filter(|disk| disk.mount_path.is_some()) {
            let Some(id) = disk.volume() else { continue };
            let volume = self.store.read(|from| Volume::by_id(from, id))?;
            if let Some(volume) = volume.filter(|volume| self.volumes.is_empty(volume)) {
                if disk.read_only {
                    return Err(not_formatted(disk));
                }
                self.volumes.format(&volume)?;
            }
        }
        Ok(())
    }

    /// What a container image needs to start: kernel, initial ramdisk, file system, and what its init is to do. Records the token by
    /// which the agent in the guest is reached.
    pub(super) fn container_boot(
        &self,
        row: &mut StoredInstance,
        image: &StoredImage,
    ) -> Result<Option<(KernelBoot, ContainerBoot)>, Refusal> {
        let Some(container) = self.images.container(image)? else { return Ok(None) };
        let Some(run) = row.instance.options.container.clone() else { return Ok(None) };
        self.format_empty_volumes(row)?;
        let record = |key: String| {
            let options = &mut row.instance.options;
            if options.kernel_key.replace(key.clone()) == Some(key) {
                return Ok(());
            }
            self.store.write(Durability::Process, |tx| row.update_settings(tx))
        };
        let kernel = self.images.boot_kernel(&container, run.kernel.as_deref(), record)?;
        let launcher = self.launcher(&row.instance.hypervisor)?;
        let has_vsock = launcher.has_vsock();
        let token = has_vsock.then(|| screen::generated(32));
        row.instance.options.agent_token.clone_from(&token);
        row.instance.options.booted = Some(kernel.told.clone());
        self.store.write(Durability::Process, |tx| row.update_settings(tx))?;
        let config = guest_config(&row.instance, &run, &container, &kernel, token.as_ref());
        let config = disk::encode(&config).map_err(|error| {
            let message = format!("the command cannot be told to the guest: {error}");
            Refusal::new(Code::InvalidRequest, message, "put what is long into a file of the image")
        })?;
        let is_emulated = launcher.availability().accelerator.is_none_or(|word| word != "kvm");
        let own = row.instance.cmdline.as_deref();
        let words = [Some(CMDLINE), is_emulated.then_some(EMULATED), own];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        let boot = KernelBoot {
            kernel: kernel.files.kernel,
            initrd: Some(kernel.files.initrd),
            cmdline: words.join(" "),
        };
        let container = ContainerBoot {
            root: container.root,
            modules: kernel.files.modules,
            config,
            // Each running machine has its own uid.
            vsock: has_vsock.then_some(row.instance.uid),
        };
        Ok(Some((boot, container)))
    }

    /// What a start would choose for a container image.
    pub(super) fn container_choices(
        &self,
        row: &StoredInstance,
        image: &StoredImage,
    ) -> Result<Vec<Choice>, Refusal> {
        let Some(container) = self.images.container(image)? else { return Ok(Vec::new()) };
        let Some(run) = &row.instance.options.container else { return Ok(Vec::new()) };
        let kernel = self.images.kernel_choice(&container, run.kernel.as_deref())?;
        let why = match &run.kernel {
            Some(_) => "it was asked for",
            None if container.contents.kernel().is_some() => "its modules are in the image",
            None => "the image has none",
        };
        let layer = row.instance.overlay_size.unwrap_or(USUAL_LAYER);
        let layer = format!("{}, read-only, with a layer of {}", image.image.name, bytes(layer));
        let reach = match self.launcher(&row.instance.hypervisor)?.has_vsock() {
            true => Choice::new("agent", "by vsock", "this host has it"),
            false => Choice::new(
                "agent",
                "none: no `instance exec`",
                "this host has no vsock (`modprobe vhost_vsock`)",
            ),
        };
        Ok(vec![
            Choice::new("root", layer, "machines of one image share its file system"),
            Choice::new("kernel", kernel, why),
            Choice::new("command", argv(run, &container).join(" "), "no shell reads it"),
            reach,
        ])
    }

    /// Sets the fields of an instance whose machine has ended: for a container image, as its command did.
    pub(super) fn set_ended(&self, row: &mut StoredInstance, state: InstanceState, exit: Exit) {
        let (exit, error) = match row.instance.options.container {
            Some(_) => self.command_end(row),
            None => (exit, None),
        };
        row.set_ended(state, exit);
        row.instance.state_error = error;
    }

    fn command_end(&self, row: &StoredInstance) -> (Exit, Option<String>) {
        let launcher = self.launcher(&row.instance.hypervisor);
        match launcher.map(|launcher| launcher.guest_result(row.instance.id)) {
            Ok(Ok(Some(record))) => told(&record),
            Ok(Ok(None)) | Err(_) => unknown_end("its disk is gone"),
            Ok(Err(error)) => unknown_end(&error.to_string()),
        }
    }
}

fn unknown_end(why: &str) -> (Exit, Option<String>) {
    (Exit { code: None }, Some(format!("how the command ended is not known: {why}")))
}

/// The command: as asked for, else as the image says. An entry point in the request leaves the image's command out, as podman does.
fn argv(run: &ContainerRun, container: &ContainerImage) -> Vec<String> {
    let config = &container.config;
    let entrypoint = run.entrypoint.as_ref().unwrap_or(&config.entrypoint);
    let cmd = match (&run.cmd, &run.entrypoint) {
        (Some(cmd), _) => cmd.as_slice(),
        (None, Some(_)) => &[],
        (None, None) => &config.cmd,
    };
    entrypoint.iter().chain(cmd).cloned().collect()
}

/// The environment: the image's, with the variables of the request after it or in their places.
fn environment(run: &ContainerRun, container: &ContainerImage) -> Vec<String> {
    let name = |variable: &String| variable.split('=').next().unwrap_or_default().to_owned();
    let of_image = container.config.env.iter().filter(|one| !run.env.contains_key(&name(one)));
    let own = run.env.iter().map(|(name, value)| format!("{name}={value}"));
    of_image.cloned().chain(own).collect()
}

/// What the init in the guest is to do.
fn guest_config(
    instance: &Instance,
    run: &ContainerRun,
    container: &ContainerImage,
    kernel: &BootKernel,
    token: Option<&Secret>,
) -> GuestConfig {
    let config = &container.config;
    let argv = argv(run, container);
    let or = |own: &Option<String>, image: &str| own.clone().unwrap_or_else(|| image.to_owned());
    let mounts = instance.options.disks.iter().filter_map(|disk| {
        let path = disk.mount_path.clone()?;
        let serial = disk.serial.clone();
        Some(MountPoint { serial, path, read_only: disk.read_only, filesystem: String::new() })
    });
    let card = |mac: String| Card { mac, addressing: Addressing::Dhcp };
    let agent = token.map(|token| Agent { port: AGENT_PORT, token: token.reveal().to_owned() });
    GuestConfig {
        hostname: or(&run.hostname, &instance.name),
        systemd: argv.first().is_some_and(|program| is_init_system(program)),
        argv,
        user: or(&run.user, &config.user),
        working_dir: or(&run.working_dir, &config.working_dir),
        env: environment(run, container),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        stop_timeout_seconds: STOP.as_secs().try_into().unwrap_or(u32::MAX),
        tty: false,
        modules: kernel.files.modules.is_some(),
        mounts: mounts.collect(),
        cards: instance.options.cards.iter().map(|one| card(one.mac.to_string())).collect(),
        dns: Vec::new(),
        agent,
    }
}

/// Whether a command is an init system, which becomes the first process.
fn is_init_system(program: &str) -> bool {
    matches!(
        program,
        "/sbin/init" | "/usr/sbin/init" | "/lib/systemd/systemd" | "/usr/lib/systemd/systemd"
    )
}

/// How a command ended, as its guest wrote it: it can write anything.
fn told(record: &[u8]) -> (Exit, Option<String>) {
    let Some(record) = record.first_chunk() else { return unknown_end("its record is too short") };
    match disk::decode_result(record) {
        Ok(None) => unknown_end("the machine ended before it did"),
        Err(error) => unknown_end(&error.to_string()),
        Ok(Some(result)) => {
            let code = result.status().map(i32::from);
            (Exit { code }, result.error.map(|text| model::shown::escaped(&text).to_string()))
        }
    }
}

/// Refuses a container image without a command.
fn expect_command(image: &str, argv: &[String]) -> Result<(), Refusal> {
    if argv.first().is_some_and(|program| !program.is_empty()) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidState,
        format!("the image {image:?} has no command, and none is given"),
        format!("give one: `handover instance create NAME --image {image} -- COMMAND`"),
    ))
}

/// Refuses a firmware that boots disks, for a machine whose root is a container image.
pub(super) fn expect_bios(firmware: Firmware) -> Result<(), Refusal> {
    if firmware == Firmware::Bios {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidState,
        "UEFI boots disks, and the root of the machine is a container image",
        "leave the firmware out: the kernel is loaded directly",
    ))
}

/// Refuses what a machine cannot have whose root is a container image.
fn expect_possible(request: &CreateInstance) -> Result<(), Refusal> {
    request.firmware.map_or(Ok(()), expect_bios)?;
    let FirstBoot { ssh_keys, user_data, password_hash, .. } = &request.first_boot;
    if ssh_keys.is_empty() && user_data.is_none() && password_hash.is_none() {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidState,
        "SSH keys, user data and passwords are for cloud-init, and the root of the machine is a container image",
        "leave them out: `handover instance exec` runs commands in the guest",
    ))
}

/// The refusal of a command for an image that is no container image.
pub(super) fn no_container(image: &str) -> Refusal {
    Refusal::new(
        Code::InvalidState,
        format!(
            "a command, its user, environment or kernel is for container images; the image {image:?} boots as it is"
        ),
        "leave it out, and configure the guest inside its image or by `--cmdline`",
    )
}

/// The refusal of a disk that the init in the guest cannot mount.
fn not_mountable(disk: &GuestDisk) -> Refusal {
    Refusal::new(
        Code::InvalidRequest,
        format!("the disk {:?} cannot be mounted in the machine of a container image", disk.serial),
        "give it without `mount=`, and let the command use it as a disk",
    )
}

/// The refusal of a disk that would be mounted and has no file system.
fn not_formatted(disk: &GuestDisk) -> Refusal {
    Refusal::new(
        Code::InvalidRequest,
        format!("the disk {:?} is to be mounted and has no file system", disk.serial),
        "use a raw disk that can be written: it gets a file system",
    )
}
