//! Requests to create and change instances.

use std::collections::BTreeMap;

use image::NewVolume;
use model::choose::Want;
use model::{
    AutostartChange, CardLink, ContainerRun, Cpu, DiskBus, Display, Firmware, Forward,
    HugePagesUse, Life, Mac, PlacementUse, RestartChange, RestartUnits, Seat, Secret, Topology,
    UsbWish,
};

use crate::Instance;

/// One device of a new instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceWish {
    /// A registered device, by name, id or address.
    Registered(String),
    /// What a claim could ask for.
    Wanted(Want),
}

/// Request to create an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateInstance {
    /// Name.
    pub name: String,
    /// Name of the image; without one, that of the first CD-ROM, and there is no root disk.
    pub image: Option<String>,
    /// Memory in bytes; 1 GiB by default.
    pub memory: Option<u64>,
    /// Virtual CPUs; 2 by default.
    pub vcpus: Option<u32>,
    /// Size of the root disk in bytes; by default the image's size.
    pub overlay_size: Option<u64>,
    /// What it runs of its image, if that is a container image.
    pub container: ContainerRun,
    /// Its other disks, in the order in which the guest sees them.
    pub disks: Vec<DiskWish>,
    /// Its devices, in the order in which the guest sees them.
    pub devices: Vec<DeviceWish>,
    /// Name of the launcher; the first one by default.
    pub hypervisor: Option<String>,
    /// Text appended to the kernel command line.
    pub cmdline: Option<String>,
    /// The processors, besides their number. A topology also gives that.
    pub cpu: Cpu,
    /// Firmware; by default UEFI for a disk image, and the BIOS for a kernel, which is loaded directly.
    pub firmware: Option<Firmware>,
    /// Its screen, if it gets one.
    pub display: Option<Display>,
    /// The password of viewers that reach its screen by an address; one is made by default.
    pub display_password: Option<Secret>,
    /// The ROMs of its devices that are not the devices' own.
    pub roms: Vec<RomWish>,
    /// Whether it gets a TPM 2.0.
    pub tpm: bool,
    /// Whether its memory is in huge pages.
    pub huge_pages: HugePagesUse,
    /// Whether it is placed beside its devices.
    pub placement: PlacementUse,
    /// The network.
    pub network: NetworkWish,
    /// What configures the guest at its first boot.
    pub first_boot: FirstBoot,
    /// How many ports it gets for devices that come while it runs; 4 by default.
    pub spare_ports: Option<u32>,
    /// What it gets of the host's display, keyboard and other USB devices.
    pub seat: Seat,
    /// When it is started without a request.
    pub life: Life,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// What a guest is to see as the ROM of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RomWish {
    /// The device: an address, or the id or name of a registered one.
    pub device: String,
    /// The ROM; without one, the guest sees none.
    pub content: Option<Vec<u8>>,
}

/// An instance that was changed.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The instance.
    pub instance: Instance,
    /// What should be known of it: changes of other tools that were left alone when a device was given back.
    pub notes: Vec<String>,
}

/// A change of an instance. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeInstance {
    /// Its machine.
    pub machine: ChangeMachine,
    /// Whether its machine is started again when it ends.
    pub restart: Option<RestartChange>,
    /// Whether, and when, it is started with the host.
    pub autostart: Option<AutostartChange>,
}

/// A change of a stopped instance's machine. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeMachine {
    /// Virtual CPUs. Without an arrangement, the VMM chooses one.
    pub vcpus: Option<u32>,
    /// How they are arranged, which also gives their number.
    pub topology: Option<Topology>,
    /// Whether the guest is not told that it runs on KVM.
    pub hide_kvm: Option<bool>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// The host name in the seed: cloud-init sets it at the next start.
    pub hostname: Option<String>,
    /// The screen, in place of the earlier one, and the password of its viewers; or none.
    pub display: Option<Option<(Display, Option<Secret>)>>,
    /// Firmware. Another one begins with its own variables.
    pub firmware: Option<Firmware>,
    /// Whether it has a TPM 2.0. Without one, the old one's state is kept.
    pub tpm: Option<bool>,
    /// Whether its memory is in huge pages.
    pub huge_pages: Option<HugePagesUse>,
    /// Whether it is placed beside its devices.
    pub placement: Option<PlacementUse>,
    /// What it gets of the host's display, keyboard and other USB devices.
    pub seat: ChangeSeat,
    /// All its network cards.
    pub network: Option<NetworkWish>,
    /// All its devices, in the order in which the guest sees them.
    pub devices: Option<Vec<DeviceWish>>,
}

/// A change of what a machine gets of the host's seat. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSeat {
    /// Whether the host's desktop and consoles end on its cards.
    pub take_display: Option<bool>,
    /// When the services that were stopped for that are started again.
    pub restart_units: Option<RestartUnits>,
    /// All its USB devices of the host.
    pub usb: Option<Vec<UsbWish>>,
    /// Whether it gets all USB keyboards and mice.
    pub input: Option<bool>,
}

impl ChangeSeat {
    /// What it makes of this one.
    pub(crate) fn apply(&self, seat: &Seat) -> Seat {
        Seat {
            take_display: self.take_display.unwrap_or(seat.take_display),
            restart_units: self.restart_units.unwrap_or(seat.restart_units),
            usb: self.usb.clone().unwrap_or_else(|| seat.usb.clone()),
            input: self.input.unwrap_or(seat.input),
            given: seat.given.clone(),
        }
    }
}

/// The requested network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkWish {
    /// A user network if this host can have one; nothing was asked for.
    #[default]
    Usual,
    /// These cards, in the order in which the guest sees them; none if the list is empty.
    Cards(Vec<CardWish>),
}

impl NetworkWish {
    /// No card.
    pub const OFF: Self = Self::Cards(Vec::new());
}

/// A requested network card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardWish {
    /// How it is connected.
    pub link: CardLink,
    /// Its hardware address; one is chosen if there is none.
    pub mac: Option<Mac>,
    /// Ports of the host that lead to the guest.
    pub forwards: Vec<Forward>,
}

/// What is asked for the first boot. If nothing is, the machine has no seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstBoot {
    /// Public SSH keys that may log in, as in `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// The user's own configuration, for cloud-init.
    pub user_data: Option<String>,
    /// The guest's name; the instance's by default.
    pub hostname: Option<String>,
    /// The hash of a password of the image's usual user.
    pub password_hash: Option<String>,
}

/// One disk of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskWish {
    /// What it shows to the guest.
    pub content: WantedContent,
    /// How it is connected; virtio by default, and always SATA for a CD-ROM.
    pub bus: Option<DiskBus>,
    /// Its serial number; the name of a volume if that can be one, else `disk1`, `disk2`, ... or `cd1`, `cd2`, ...
    pub serial: Option<String>,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
    /// Where a guest with cloud-init mounts it.
    pub mount_path: Option<String>,
}

/// The content that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedContent {
    /// A new volume, which is deleted with the instance.
    New(NewVolume),
    /// A volume, by id or name.
    Volume(String),
    /// An image, by name, as a CD-ROM.
    Cdrom(String),
    /// A block device of the host.
    Block {
        /// Its name below a directory of block devices, or the whole path of that name.
        name: String,
        /// Whether it may have data.
        allow_data: bool,
    },
}
