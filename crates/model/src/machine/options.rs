//! What a machine has besides processors, memory, its root disk and devices: firmware, network cards, other disks, a seed.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{
    ContainerRun, Cpu, DeviceAccess, Display, Forward, GuestDisk, HugePagesUse, Life, Moving,
    NetworkCard, PartKey, PartKind, PartPlace, Placement, PlacementUse, Rom, Seat, Secret,
    USUAL_SPARE_PORTS,
};

/// The options of a machine. The default is what machines of earlier versions have: a BIOS, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineOptions {
    /// The firmware.
    pub firmware: Firmware,
    /// The firmware whose variables the machine still has, if another one was chosen since: they are removed before the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variables_of: Option<Firmware>,
    /// The network cards, in the order in which the guest sees them.
    pub cards: Vec<NetworkCard>,
    /// The disks besides the root disk, in the order in which the guest sees them.
    pub disks: Vec<GuestDisk>,
    /// Whether there is no root disk: the image is only in a CD-ROM, and the machine boots that or one of `disks`.
    pub is_without_root: bool,
    /// What it runs of its image, if that is a container image. Launchers do not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerRun>,
    /// Where the kernel of a container image's machine was from at its last start, in words. Launchers do not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booted: Option<String>,
    /// The name of that kernel's files. Launchers do not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_key: Option<String>,
    /// What a client of the agent in the guest of a container image must know, since its last start. Launchers do not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_token: Option<Secret>,
    /// Its screen, if any.
    pub display: Option<Display>,
    /// The password of viewers that reach the screen by its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_password: Option<Secret>,
    /// Whether it has a TPM 2.0, which swtpm emulates.
    pub tpm: bool,
    /// Whether it has a port for an agent in the guest. Machines of earlier versions have none.
    pub agent: bool,
    /// The ROMs of devices that are not the devices' own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roms: Vec<Rom>,
    /// The seed for the first boot, if any.
    pub seed: Option<Seed>,
    /// Its processors, besides their number.
    pub cpu: Cpu,
    /// Whether its memory is in huge pages.
    pub huge_pages: HugePagesUse,
    /// Whether it is placed beside its devices.
    pub placement: PlacementUse,
    /// Where it was placed at its last start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placement>,
    /// Whether the guest has several NUMA nodes if its devices are on several of the host. Machines of earlier versions have one,
    /// and their devices keep their addresses.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mirrors_nodes: bool,
    /// When it is started without a request. Launchers do not read it.
    pub life: Life,
    /// How many ports it has for devices that it gets while it runs; the usual number by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare_ports: Option<u32>,
    /// How its VMM opens its devices, as chosen at its last start, or when it got the first one while it ran. Launchers do not
    /// read it. Machines that earlier versions started have none, and open groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_access: Option<DeviceAccess>,
    /// The set of GPUs that is active in NVIDIA's Fabric Manager while it runs. Launchers do not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fabric_set: Option<u32>,
    /// What it gets of the host's display, keyboard and other USB devices. Launchers do not read it.
    #[serde(skip_serializing_if = "Seat::is_nothing")]
    pub seat: Seat,
    /// Its devices that come or leave while it runs. Launchers do not read it.
    #[serde(skip_serializing_if = "Moving::is_still")]
    pub moving: Moving,
}

impl MachineOptions {
    /// How many ports it has for devices that it gets while it runs.
    #[must_use]
    pub fn spare_ports(&self) -> u32 {
        self.spare_ports.unwrap_or(USUAL_SPARE_PORTS)
    }

    /// The ports for devices that its disks and network cards are behind.
    pub fn part_ports(&self) -> impl Iterator<Item = u32> {
        let disks = self.disks.iter().filter_map(|disk| disk.port);
        disks.chain(self.cards.iter().filter_map(|card| card.port))
    }

    /// The port of a disk or network card that can leave the running machine.
    #[must_use]
    pub fn place_of(&self, key: &PartKey) -> Option<PartPlace> {
        let (port, kind) = match key {
            PartKey::Disk(serial) => {
                let disk = self.disks.iter().find(|disk| disk.serial == *serial)?;
                (disk.port?, PartKind::Disk)
            }
            PartKey::Card(mac) => {
                let card = self.cards.iter().find(|card| card.mac == *mac)?;
                (card.port?, PartKind::Card)
            }
        };
        Some(PartPlace { port, kind })
    }

    /// The cards that passt connects.
    pub fn user_cards(&self) -> impl Iterator<Item = &NetworkCard> {
        self.cards.iter().filter(|card| card.link.is_user())
    }

    /// Whether passt connects a card.
    #[must_use]
    pub fn has_user_network(&self) -> bool {
        self.user_cards().next().is_some()
    }

    /// The address on which the screen listens, if it does.
    #[must_use]
    pub fn screen(&self) -> Option<SocketAddr> {
        self.display.and_then(|display| display.listen)
    }

    /// The forwarded ports of all cards.
    pub fn forwards(&self) -> impl Iterator<Item = &Forward> {
        self.cards.iter().flat_map(|card| &card.forwards)
    }
}

/// The program that the virtual processor executes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// SeaBIOS, which is part of QEMU's packages.
    #[default]
    Bios,
    /// OVMF, without Secure Boot.
    Uefi,
    /// OVMF with Secure Boot, which has the usual keys: it starts only what Microsoft has signed.
    UefiSecure,
}

impl Firmware {
    /// Every firmware.
    pub const ALL: [Self; 3] = [Self::Bios, Self::Uefi, Self::UefiSecure];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
            Self::UefiSecure => "uefi-secure",
        }
    }
}

/// What configures the guest at its first boot, in the files of cloud-init's NoCloud data source: a small disk named
/// `cidata` (<https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// `meta-data`: the instance's id and host name, and the keys that may log in.
    pub meta_data: String,
    /// `vendor-data`: what Handover sets, which `user_data` can override.
    pub vendor_data: String,
    /// `user-data`: the user's own configuration, unchanged.
    pub user_data: String,
    /// The guest's name.
    pub hostname: String,
    /// The public half of the guest's SSH host key, which is in `vendor_data`: `ssh-ed25519 AAAA...`.
    pub host_key: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_of_earlier_versions_have_a_bios_and_no_network() {
        let options: MachineOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(options, MachineOptions::default());
        assert_eq!(options.firmware, Firmware::Bios);
        assert!(!options.has_user_network() && !options.tpm && !options.agent);
    }

    #[test]
    fn a_firmware_is_stored_as_it_is_written() {
        for firmware in Firmware::ALL {
            assert_eq!(serde_json::to_value(firmware).unwrap(), firmware.as_str());
        }
    }
}
