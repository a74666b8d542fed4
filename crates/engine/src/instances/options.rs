//! The options of a new machine: firmware, network cards (see [`networks`](super::networks)), other disks, seed.

use model::{
    Code, Cpu, Display, Firmware, HugePagesUse, LaunchError, Life, MOST_SPARE_PORTS,
    MachineOptions, Moving, PlacementUse, Refusal, Seat, Secret,
};

use super::disks::Planned;
use super::{Instances, first_boot, screen, seat};
use crate::refusals;
use crate::store::StoredImage;
use crate::{CreateInstance, FirstBoot, Instance, NetworkWish};

/// The part of a request that the options are made from.
#[derive(Clone, Debug)]
pub struct WantedOptions {
    firmware: Option<Firmware>,
    cpu: Cpu,
    display: Option<Display>,
    display_password: Option<Secret>,
    tpm: bool,
    huge_pages: HugePagesUse,
    placement: PlacementUse,
    network: NetworkWish,
    first_boot: FirstBoot,
    spare_ports: Option<u32>,
    seat: Seat,
}

impl WantedOptions {
    pub fn of(request: &CreateInstance) -> Self {
        Self {
            firmware: request.firmware,
            cpu: request.cpu,
            display: request.display,
            display_password: request.display_password.clone(),
            tpm: request.tpm,
            huge_pages: request.huge_pages,
            placement: request.placement,
            network: request.network.clone(),
            first_boot: request.first_boot.clone(),
            spare_ports: request.spare_ports,
            seat: request.seat.clone(),
        }
    }
}

impl Instances {
    /// The options of a new machine, before anything is reserved for it: a card may have no hardware address yet, and no port
    /// for SSH.
    pub(super) fn options(
        &self,
        instance: &Instance,
        image: &StoredImage,
        wanted: WantedOptions,
        planned: &Planned,
    ) -> Result<MachineOptions, Refusal> {
        let WantedOptions {
            firmware,
            cpu,
            display,
            display_password,
            tpm,
            huge_pages,
            placement,
            network,
            first_boot,
            spare_ports,
            seat,
        } = wanted;
        let wanted_spare_ports = spare_ports.map(checked_spare_ports).transpose()?;
        let display_password = screen::checked(display, display_password)?;
        let mounts = first_boot::mounts(&planned.disks, &self.empty_disks(planned)?);
        let is_container = instance.options.container.is_some();
        let seed = match is_container {
            true => None,
            false => first_boot::seed(instance, &first_boot, &mounts)?,
        };
        let wants_ssh = !first_boot.ssh_keys.is_empty();
        let cards = self.cards(&instance.hypervisor, network, wants_ssh)?;
        let has_kernel =
            is_container || (image.image.has_kernel && !instance.options.is_without_root);
        let usual = if has_kernel { Firmware::Bios } else { Firmware::Uefi };
        let options = MachineOptions {
            firmware: firmware.unwrap_or(usual),
            variables_of: None,
            cards,
            disks: planned.disks.clone(),
            display,
            display_password,
            tpm,
            // A container image has Handover's own agent.
            agent: !is_container,
            agent_token: None,
            booted: None,
            kernel_key: None,
            container: instance.options.container.clone(),
            roms: Vec::new(),
            is_without_root: instance.options.is_without_root,
            seed,
            cpu,
            huge_pages,
            placement,
            placed: None,
            mirrors_nodes: true,
            life: Life::default(),
            spare_ports: wanted_spare_ports,
            device_access: None,
            fabric_set: None,
            seat: seat::checked(seat)?,
            moving: Moving::default(),
        };
        expect_tables(&options, has_kernel)?;
        self.expect_installed(&instance.hypervisor, &options, firmware.is_none())?;
        Ok(options)
    }

    /// Checks the firmware and the TPM of an instance that exists.
    pub(super) fn expect_firmware(
        &self,
        instance: &Instance,
        has_kernel: bool,
    ) -> Result<(), Refusal> {
        expect_tables(&instance.options, has_kernel)?;
        self.expect_installed(&instance.hypervisor, &instance.options, false)
    }

    /// Checks that what the options need is installed; the remedy also says how to do without.
    fn expect_installed(
        &self,
        hypervisor: &str,
        options: &MachineOptions,
        usual_firmware: bool,
    ) -> Result<(), Refusal> {
        let launcher = self.launcher(hypervisor)?;
        let without_network = MachineOptions { cards: Vec::new(), ..options.clone() };
        let bare = MachineOptions { tpm: false, display: None, ..without_network.clone() };
        let refusal = |error: &LaunchError, instead: &str| {
            let mut refusal = refusals::launch_failed(error);
            refusal.remedy = format!("{}{instead}", refusal.remedy);
            refusal
        };
        launcher.check(&bare).map_err(|error| {
            let bios = "; or create the instance with the BIOS (`--firmware bios`), if its image boots with it";
            refusal(&error, if usual_firmware { bios } else { "" })
        })?;
        launcher.check(&without_network).map_err(|error| refusal(&error, ""))?;
        let without = "; or create the instance without a network (`--network none`)";
        launcher.check(options).map_err(|error| match &error {
            LaunchError::Network { .. } => refusal(&error, ""),
            _ => refusal(&error, without),
        })
    }
}

/// Refuses what would break the guest's ACPI tables: with a TPM they need more memory below 4 GiB than QEMU leaves free of the
/// initial RAM disk (`acpi_data_size` in hw/i386/pc.c; 192 KiB with the TPM's log instead of 128).
fn expect_tables(options: &MachineOptions, has_kernel: bool) -> Result<(), Refusal> {
    if !(options.tpm && has_kernel && options.firmware == Firmware::Bios) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidRequest,
        "a machine whose kernel the BIOS loads directly cannot have a TPM: QEMU would place the initial RAM disk over the \
         tables by which a guest finds it",
        "create the instance from a disk image",
    ))
}

/// Checks how many ports for further devices are asked for.
fn checked_spare_ports(count: u32) -> Result<u32, Refusal> {
    if count <= MOST_SPARE_PORTS {
        return Ok(count);
    }
    Err(Refusal::new(
        Code::InvalidRequest,
        format!("a machine cannot have {count} ports for further devices"),
        format!("ask for 0 to {MOST_SPARE_PORTS}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_the_bios_loads_has_no_tpm() {
        let refused = |firmware, tpm, has_kernel| {
            let options = MachineOptions { firmware, tpm, ..MachineOptions::default() };
            expect_tables(&options, has_kernel).is_err()
        };
        assert!(refused(Firmware::Bios, true, true));
        assert!(!refused(Firmware::Bios, false, true));
        assert!(!refused(Firmware::Bios, true, false));
        assert!(!refused(Firmware::Uefi, true, true));
    }
}
