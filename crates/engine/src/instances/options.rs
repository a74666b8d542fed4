//! The options of a new machine: firmware, network cards, other disks, seed.

use std::net::{IpAddr, Ipv4Addr};

use model::{
    Code, Cpu, Display, Firmware, Forward, LaunchError, Life, Mac, MachineOptions, NetworkCard,
    Protocol, Refusal, Secret,
};
use uuid::Uuid;

use super::disks::Planned;
use super::{Instances, first_boot, screen};
use crate::refusals;
use crate::store::{StoredImage, StoredInstance};
use crate::{CreateInstance, FirstBoot, Instance, NetworkWish};

/// The ports of the host from which one is chosen for SSH.
pub const SSH_PORTS: std::ops::Range<u16> = 22_000..23_000;

/// The guest's port for SSH.
const SSH: u16 = 22;

/// The part of a request that the options are made from.
#[derive(Clone, Debug)]
pub struct WantedOptions {
    firmware: Option<Firmware>,
    cpu: Cpu,
    display: Option<Display>,
    display_password: Option<Secret>,
    tpm: bool,
    network: NetworkWish,
    first_boot: FirstBoot,
}

impl WantedOptions {
    pub fn of(request: &CreateInstance) -> Self {
        Self {
            firmware: request.firmware,
            cpu: request.cpu,
            display: request.display,
            display_password: request.display_password.clone(),
            tpm: request.tpm,
            network: request.network.clone(),
            first_boot: request.first_boot.clone(),
        }
    }
}

impl Instances {
    /// The options of a new machine, before anything is reserved for it: a card may have no hardware address yet (all
    /// zeros), and no port for SSH.
    pub(super) fn options(
        &self,
        instance: &Instance,
        image: &StoredImage,
        wanted: WantedOptions,
        planned: &Planned,
    ) -> Result<MachineOptions, Refusal> {
        let WantedOptions { firmware, cpu, display, display_password, tpm, network, first_boot } =
            wanted;
        let display_password = screen::checked(display, display_password)?;
        let mounts = first_boot::mounts(&planned.disks, &self.empty_disks(planned)?);
        let seed = first_boot::seed(instance, &first_boot, &mounts)?;
        let wants_ssh = !first_boot.ssh_keys.is_empty();
        let is_asked = network != NetworkWish::Usual || wants_ssh;
        let card = match network {
            NetworkWish::Off => None,
            NetworkWish::User { mac, forwards } => {
                Some(NetworkCard { mac: mac.map_or(Ok(UNCHOSEN), usable)?, forwards })
            }
            NetworkWish::Usual => {
                let why = self.why_no_network(&instance.hypervisor);
                let usual = NetworkCard { mac: UNCHOSEN, forwards: Vec::new() };
                (is_asked || why.is_none()).then_some(usual)
            }
        };
        let has_kernel = image.image.has_kernel && !instance.options.is_without_root;
        let usual = if has_kernel { Firmware::Bios } else { Firmware::Uefi };
        let options = MachineOptions {
            firmware: firmware.unwrap_or(usual),
            cards: card.into_iter().collect(),
            disks: planned.disks.clone(),
            display,
            display_password,
            tpm,
            agent: true,
            roms: Vec::new(),
            is_without_root: instance.options.is_without_root,
            seed,
            cpu,
            life: Life::default(),
        };
        expect_tables(&options, has_kernel)?;
        self.expect_installed(&instance.hypervisor, &options, firmware.is_none())?;
        Ok(options)
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
        launcher.check(options).map_err(|error| refusal(&error, without))
    }

    /// Whether this host can give a machine a network.
    #[must_use]
    pub fn has_network(&self) -> bool {
        self.why_no_network(self.default_launcher()).is_none()
    }

    /// Why this host cannot give a machine a network, if it cannot.
    pub(super) fn why_no_network(&self, hypervisor: &str) -> Option<String> {
        let card = NetworkCard { mac: UNCHOSEN, forwards: Vec::new() };
        let options = MachineOptions { cards: vec![card], ..MachineOptions::default() };
        let checked = self.launcher(hypervisor).ok()?.check(&options);
        match checked.err()? {
            LaunchError::Unavailable { reason, remedy } => Some(format!("{reason} ({remedy})")),
            error => Some(error.to_string()),
        }
    }

    /// Chooses hardware addresses and a port for SSH, and checks that no other instance has those that were asked for. Call
    /// it under the allocation lock.
    pub(super) fn reserve_network(&self, instance: &mut Instance) -> Result<(), Refusal> {
        if instance.options.cards.is_empty() {
            return Ok(());
        }
        let others = self.store.read(StoredInstance::all)?;
        let cards = || others.iter().flat_map(|other| &other.instance.options.cards);
        let macs: Vec<Mac> = cards().map(|card| card.mac).collect();
        let taken: Vec<Forward> = cards().flat_map(|card| card.forwards.clone()).collect();
        let wants_ssh = instance.options.seed.as_ref().is_some_and(|seed| seed.host_key.is_some());
        let launcher = self.launcher(&instance.hypervisor)?;
        for card in &mut instance.options.cards {
            if card.mac == UNCHOSEN {
                card.mac = free_mac(&macs);
            } else if macs.contains(&card.mac) {
                return Err(mac_taken(card.mac));
            }
            for (position, forward) in card.forwards.iter().enumerate() {
                let earlier = card.forwards.iter().take(position);
                // passt listens on a port on one address, or on all.
                let mut earlier = earlier.filter(|other| other.protocol == forward.protocol);
                let twice = earlier.any(|other| other.host_port == forward.host_port);
                if twice || taken.iter().any(|other| other.collides(forward)) {
                    return Err(port_taken(forward));
                }
            }
            let free = launcher.expect_free_ports(&card.forwards);
            free.map_err(|error| refusals::launch_failed(&error))?;
            if wants_ssh && !card.forwards.iter().any(Forward::is_ssh) {
                let is_free = |forward: &Forward| {
                    !taken.iter().chain(&card.forwards).any(|other| other.collides(forward))
                        && launcher.expect_free_ports(&[*forward]).is_ok()
                };
                let free = SSH_PORTS.map(ssh).find(is_free).ok_or_else(no_ssh_port)?;
                card.forwards.push(free);
            }
        }
        Ok(())
    }
}

/// Stands for an address that is not chosen yet.
const UNCHOSEN: Mac = Mac([0; 6]);

fn ssh(host_port: u16) -> Forward {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Forward { protocol: Protocol::Tcp, address, host_port, guest_port: SSH }
}

/// A free address in the range that QEMU's users know (52:54:00).
fn free_mac(taken: &[Mac]) -> Mac {
    loop {
        let [a, b, c, ..] = Uuid::new_v4().into_bytes();
        let mac = Mac([0x52, 0x54, 0, a, b, c]);
        if !taken.contains(&mac) {
            return mac;
        }
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

/// Refuses what no single card can have.
fn usable(mac: Mac) -> Result<Mac, Refusal> {
    if mac == UNCHOSEN || mac.0[0] & 1 == 1 {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("a network card cannot have the hardware address {mac}"),
            "use one whose first byte is even, such as 52:54:00:12:34:56",
        ));
    }
    Ok(mac)
}

fn mac_taken(mac: Mac) -> Refusal {
    Refusal::new(
        Code::Conflict,
        format!("another instance has the hardware address {mac}"),
        "choose another one, or leave it out",
    )
}

fn port_taken(forward: &Forward) -> Refusal {
    Refusal::new(
        Code::PortInUse,
        format!("the port of {forward} is forwarded already, by this or another instance"),
        "choose another port of the host; `handover instance show NAME` shows those of an instance",
    )
}

fn no_ssh_port() -> Refusal {
    let (first, last) = (SSH_PORTS.start, SSH_PORTS.end - 1);
    Refusal::new(
        Code::PortInUse,
        format!("no port from {first} to {last} is free for SSH"),
        "choose one with `--publish PORT:22`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_several_cards_is_refused() {
        let mac = |text: &str| text.parse::<Mac>().unwrap();
        assert!(usable(mac("52:54:00:12:34:56")).is_ok());
        for wrong in ["00:00:00:00:00:00", "53:54:00:12:34:56", "ff:ff:ff:ff:ff:ff"] {
            assert!(usable(mac(wrong)).is_err(), "{wrong}");
        }
        let chosen = free_mac(&[]);
        assert_eq!(chosen.0[..3], [0x52, 0x54, 0]);
        assert!(usable(chosen).is_ok());
    }

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
