//! The ports: what the engine needs from a host and a launcher. Plain synchronous traits, so that the engine runs
//! unchanged on the real kernel, in the lab and on the simulation.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::holder::Holder;
use crate::launch_error::LaunchError;
use crate::{
    Address, AsFound, Availability, BlockDevice, BlockError, BlockUse, Capacity, Checked, Choice,
    CpuLayout, DeviceAccess, Display, Execution, Exit, FabricSets, Forward, GuestSlot, HostDisplay,
    HostError, HostKernel, HostLock, HostLockError, HugePool, Inventory, LinkBaseline, Lock, Mac,
    MachineHandle, MachineOptions, MachineSpec, Mark, MdevDefinition, Moment, NodeAccess, Observed,
    PartPlace, PartPlug, Plug, PluggedFunction, Presence, Rom, ShutDown, Step, Unplugged, Usage,
    UsbDevice, VfSettings,
};

/// The file systems that Handover writes to.
pub trait Disk: Send + Sync {
    /// How many more bytes fit on the file system of this directory.
    ///
    /// # Errors
    /// If it cannot be read.
    fn free_space(&self, dir: &Path) -> Result<u64, HostError>;

    /// Writes to the disk what the file system of this directory still has in memory. Until then, some file systems
    /// (Btrfs, ZFS) count it as free space. Best effort: a failed write is reported to the file's own writer.
    fn write_out(&self, dir: &Path);

    /// Called between two changes of files that belong together, such as those of a new volume: a simulation can end the process
    /// there. Without effect by default.
    fn between_changes(&self) {}
}

/// The host of a hand-over.
pub trait Host: Disk {
    /// Takes the lock on the host, which a process needs to change its devices. The error names the holder's
    /// `state_dir`.
    ///
    /// # Errors
    /// If another process holds it, or the host refuses.
    fn lock_host(&self, state_dir: &Path) -> Result<Box<dyn HostLock>, HostLockError>;

    /// This boot's id (`/proc/sys/kernel/random/boot_id`).
    ///
    /// # Errors
    /// If it cannot be read.
    fn boot_id(&self) -> Result<String, HostError>;

    /// What the host's clocks show now.
    fn now(&self) -> Moment;

    /// A snapshot of the hardware, at listing depth: wakes and locks nothing.
    ///
    /// # Errors
    /// If the list of functions cannot be read; a single unreadable attribute becomes a note.
    fn inventory(&self) -> Result<Inventory, HostError>;

    /// A smaller snapshot for choosing and planning: it may leave out BARs, power, nodes, the types of groups and the
    /// memory of NUMA nodes.
    ///
    /// # Errors
    /// As [`inventory`](Self::inventory).
    fn sketch(&self) -> Result<Inventory, HostError> {
        self.inventory()
    }

    /// Only these functions and their groups, as [`inventory`](Self::inventory) shows them; it may leave out their
    /// virtual functions, and all nodes but VFIO's.
    ///
    /// # Errors
    /// As [`inventory`](Self::inventory).
    fn functions(&self, addresses: &[Address]) -> Result<Inventory, HostError> {
        let mut inventory = self.inventory()?;
        inventory.functions.retain(|address, _| addresses.contains(address));
        let groups: Vec<_> = inventory.functions.values().filter_map(|f| f.iommu_group).collect();
        inventory.groups.retain(|number, _| groups.contains(number));
        Ok(inventory)
    }

    /// Adds detail of these functions to an inventory or a sketch that was just read. Workers read it with a deadline:
    /// a timeout becomes a note. Suspended functions are not woken.
    fn complete(&self, inventory: &mut Inventory, addresses: &[Address]);

    /// Adds to a sketch or listing whether these functions respond: the detail of those that do not says so. Suspended
    /// functions are not woken.
    fn answers(&self, inventory: &mut Inventory, addresses: &[Address]) {
        self.complete(inventory, addresses);
    }

    /// Adds at least the detail that choosing needs: the types of mediated devices and vGPUs. A host may leave out what
    /// it would have to ask the devices for.
    fn offers(&self, inventory: &mut Inventory, addresses: &[Address]) {
        self.complete(inventory, addresses);
    }

    /// An inventory with detail of these functions, as [`complete`](Self::complete) adds it.
    ///
    /// # Errors
    /// As [`inventory`](Self::inventory).
    fn detail(&self, addresses: &[Address]) -> Result<Inventory, HostError> {
        let mut inventory = self.inventory()?;
        self.complete(&mut inventory, addresses);
        Ok(inventory)
    }

    /// The settings of a virtual function at its physical function.
    ///
    /// # Errors
    /// If its driver has no interface, or does not report them.
    fn vf_settings(&self, parent: Address, index: u16) -> Result<VfSettings, HostError>;

    /// Other tools' definitions of mediated devices of PCI functions. Empty by default.
    fn mdev_definitions(&self) -> Vec<MdevDefinition> {
        Vec::new()
    }

    /// The functions on the boot list (`handover boot-list`), whose normal driver is vfio's. Empty by default.
    fn boot_list(&self) -> Vec<Address> {
        Vec::new()
    }

    /// Whether the host has a tool that builds an initial ramdisk with the boot list. True by default.
    fn applies_boot_list(&self) -> bool {
        true
    }

    /// The state to restore later, read with a deadline because some attributes take the device's lock.
    ///
    /// # Errors
    /// If a function no longer exists, or reading times out.
    fn as_found(&self, addresses: &[Address]) -> Result<Vec<AsFound>, HostError>;

    /// Owner and mode of the existing vfio group nodes, by group number.
    ///
    /// # Errors
    /// If an existing node cannot be read.
    fn group_nodes(&self, groups: &[u32]) -> Result<BTreeMap<u32, NodeAccess>, HostError>;

    /// The marks that claims of any store left on these functions. Empty if the host cannot keep marks.
    ///
    /// # Errors
    /// If an existing mark cannot be read.
    fn marks(&self, addresses: &[Address]) -> Result<BTreeMap<Address, Mark>, HostError>;

    /// The users of these functions: open device nodes and mappings, mounted block devices and shares, and network
    /// interfaces that the host uses ([`HolderKind::Network`](crate::HolderKind::Network)).
    ///
    /// # Errors
    /// If processes cannot be listed.
    fn holders(&self, addresses: &[Address]) -> Result<Vec<Holder>, HostError>;

    /// What draws on the display functions among these, besides the processes that [`holders`](Self::holders) has. Nothing
    /// by default.
    ///
    /// # Errors
    /// If it cannot be read.
    fn display(&self, addresses: &[Address]) -> Result<HostDisplay, HostError> {
        let _ = addresses;
        Ok(HostDisplay::default())
    }

    /// The sets of GPUs that NVSwitch isolates, as Fabric Manager or this host's file tells them; `None` if the host has
    /// neither. None by default.
    ///
    /// # Errors
    /// If the file is wrong, or Fabric Manager does not answer.
    fn fabric_sets(&self) -> Result<Option<FabricSets>, HostError> {
        Ok(None)
    }

    /// Checks that a function responds and that its link is not degraded. Runs in a worker, because reading a lost
    /// device can block.
    ///
    /// # Errors
    /// If it times out.
    fn check(&self, address: Address, link: Option<LinkBaseline>) -> Result<Checked, HostError>;

    /// Observes the current state of what a step changes.
    ///
    /// # Errors
    /// If it cannot be read, or reading times out.
    fn observe(&self, step: &Step) -> Result<Observed, HostError>;

    /// Performs the step in a worker process, under the step's lock and within its deadline, and checks the result.
    ///
    /// # Errors
    /// See [`HostError`]; after [`HostError::Deadline`] the worker may still be blocked in the kernel.
    fn perform(&self, step: &Step) -> Result<(), HostError>;

    /// Whether a worker, possibly of a dead daemon, still holds this lock.
    ///
    /// # Errors
    /// If the lock cannot be checked.
    fn is_locked(&self, lock: &Lock) -> Result<bool, HostError>;

    /// The addresses of the machines in its networks that it has talked to, by hardware address. Empty by default.
    fn neighbors(&self) -> BTreeMap<Mac, IpAddr> {
        BTreeMap::new()
    }

    /// The processors and memory of the host. Empty by default.
    fn cpu_layout(&self) -> CpuLayout {
        CpuLayout::default()
    }

    /// Its own addresses. Empty by default.
    fn own_addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    /// The USB devices that are connected to it. None by default.
    fn usb_devices(&self) -> Vec<UsbDevice> {
        Vec::new()
    }

    /// Gives a USB device that no program has open back to the host's drivers. A VMM does that itself, unless it is killed.
    fn reattach_usb(&self, device: &UsbDevice) {
        let _ = device;
    }

    /// The huge pages that the host has reserved, for each NUMA node and for all together. Empty by default.
    fn huge_pools(&self) -> Vec<HugePool> {
        Vec::new()
    }

    /// Finds a block device by its name below one of these directories, or by the whole path of such a name. It reads what
    /// the kernel knows, and does not open the device. A host without block devices has none of that name.
    ///
    /// # Errors
    /// See [`BlockError`].
    fn block_device(&self, allowed: &[PathBuf], name: &str) -> Result<BlockDevice, BlockError> {
        Err(BlockError::Missing { name: name.to_owned(), allowed: allowed.to_vec() })
    }

    /// Finds out who uses a block device or a part of it, and what data is on it. A worker opens and reads it, with a
    /// deadline.
    ///
    /// # Errors
    /// If it cannot be read, or reading times out.
    fn block_use(&self, device: &BlockDevice) -> Result<BlockUse, HostError> {
        let _ = device;
        Ok(BlockUse::default())
    }

    /// The running kernel, with its files; `None` if its version is not known.
    fn kernel(&self) -> Option<HostKernel> {
        None
    }

    /// The directory of the modules of a kernel of this version, if they are installed.
    fn kernel_modules(&self, version: &str) -> Option<PathBuf> {
        let _ = version;
        None
    }

    /// The host's CPUs and memory.
    ///
    /// # Errors
    /// If it cannot be read.
    fn capacity(&self) -> Result<Capacity, HostError>;
}

/// Starts, finds and stops machines. Their processes are the launcher's children (QEMU) or belong to a service
/// (libvirt). A machine outlives the daemon in both cases.
pub trait Launcher: Send + Sync {
    /// The name on the wire: `qemu`, `cloud-hypervisor`, `libvirt`.
    fn name(&self) -> &'static str;

    /// Whether it can be used on this host, and if not, why.
    fn availability(&self) -> Availability;

    /// Checks that what these options need is installed on this host.
    ///
    /// # Errors
    /// `Unavailable`, with the package that is missing.
    fn check(&self, options: &MachineOptions) -> Result<(), LaunchError> {
        let _ = options;
        Ok(())
    }

    /// Checks that these ports of the host can be listened on now. No machine that uses them may run.
    ///
    /// # Errors
    /// `Port`, with the first one that cannot.
    fn expect_free_ports(&self, forwards: &[Forward]) -> Result<(), LaunchError> {
        let _ = forwards;
        Ok(())
    }

    /// Checks that a screen can listen on this address now. No machine that does may run.
    ///
    /// # Errors
    /// `Port`.
    fn expect_free_screen(&self, address: SocketAddr) -> Result<(), LaunchError> {
        let _ = address;
        Ok(())
    }

    /// The certificate by which the viewers of a machine's screen know it, in PEM; `None` if it has none.
    ///
    /// # Errors
    /// `File`, if it cannot be read.
    fn screen_certificate(&self, id: Uuid) -> Result<Option<String>, LaunchError> {
        let _ = id;
        Ok(None)
    }

    /// The content of the file that a machine has for a device's ROM; `None` if it has none.
    ///
    /// # Errors
    /// `File`, if it cannot be read.
    fn rom(&self, id: Uuid, rom: &Rom) -> Result<Option<Vec<u8>>, LaunchError> {
        let _ = (id, rom);
        Ok(None)
    }

    /// Creates the machine's directory and its disk layer. Idempotent.
    ///
    /// # Errors
    /// See [`LaunchError`].
    fn create_files(&self, spec: &MachineSpec) -> Result<(), LaunchError>;

    /// Removes the variables of a stopped machine's firmware: another firmware begins with its own. Idempotent.
    ///
    /// # Errors
    /// See [`LaunchError`].
    fn forget_firmware(&self, id: Uuid) -> Result<(), LaunchError> {
        let _ = id;
        Ok(())
    }

    /// Removes what `create_files` created. Idempotent.
    ///
    /// # Errors
    /// See [`LaunchError`].
    fn remove_files(&self, id: Uuid) -> Result<(), LaunchError>;

    /// Starts the machine and returns when its guest runs. The guest does not run before every device is attached.
    ///
    /// # Errors
    /// See [`LaunchError`]; the machine does not run then.
    fn launch(&self, spec: &MachineSpec) -> Result<MachineHandle, LaunchError>;

    /// Whether the virtual processors of a machine that was just started are pinned as its placement says. True by default.
    fn is_pinned(&self, id: Uuid) -> bool {
        let _ = id;
        true
    }

    /// Finds the machine, even if an earlier daemon started it. While it runs, the handle is the one that
    /// [`launch`](Self::launch) returned.
    fn find(&self, id: Uuid) -> Presence;

    /// Pauses the guest of a running machine: its processors stop, and it keeps its memory and devices. Idempotent.
    /// Returns what the guest does then; one that the VMM has stopped already is not paused.
    ///
    /// # Errors
    /// `Monitor` or `Deadline`, if the machine does not run or its VMM does not do it.
    fn pause(&self, id: Uuid) -> Result<Execution, LaunchError>;

    /// Lets the guest of a running machine continue, also one that the VMM has stopped. Idempotent. Returns what the
    /// guest does then: the VMM may have stopped it again.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    fn resume(&self, id: Uuid) -> Result<Execution, LaunchError>;

    /// Whether the guest of a running machine executes. Asks the VMM, and waits briefly for its answer.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    fn execution(&self, id: Uuid) -> Result<Execution, LaunchError>;

    /// What a running machine uses.
    ///
    /// # Errors
    /// `Monitor` if the machine does not run, or its use cannot be read.
    fn usage(&self, id: Uuid) -> Result<Usage, LaunchError>;

    /// Checks that the guest's address space has room for the machine's devices.
    ///
    /// # Errors
    /// `AddressSpace` if it has not.
    fn check_space(&self, spec: &MachineSpec) -> Result<(), LaunchError>;

    /// What a start of this machine would choose, in words. Nothing is changed.
    ///
    /// # Errors
    /// `AddressSpace` if its devices do not fit; `Unavailable` if the VMM cannot be used.
    fn choices(&self, spec: &MachineSpec) -> Result<Vec<Choice>, LaunchError>;

    /// Asks the guest to shut down, and kills the machine after `grace`. A paused guest is resumed first: it would not
    /// notice. Returns when its processes have exited.
    ///
    /// # Errors
    /// If it does not exit.
    fn shut_down(&self, id: Uuid, grace: Duration) -> Result<ShutDown, LaunchError>;

    /// Kills the machine, and removes what it had on the host besides its files. Returns when its processes have exited.
    /// Idempotent.
    ///
    /// # Errors
    /// If it does not exit.
    fn kill(&self, id: Uuid) -> Result<(), LaunchError>;

    /// Waits for the end of this run of the machine.
    ///
    /// # Errors
    /// If it cannot be watched.
    fn wait(&self, handle: &MachineHandle) -> Result<Exit, LaunchError>;

    /// The file with the output of the guest's serial console.
    fn console(&self, id: Uuid) -> PathBuf;

    /// Connects to the serial console of a running machine, for input and output. `None` if it has no such connection: an
    /// earlier version started it.
    ///
    /// # Errors
    /// `Monitor` if the machine does not run, or the connection fails.
    fn open_console(&self, id: Uuid) -> Result<Option<UnixStream>, LaunchError>;

    /// Connects a viewer to the screen of a running machine.
    ///
    /// # Errors
    /// `Monitor` if the machine does not run or has no screen, or the connection fails.
    fn open_display(&self, id: Uuid, display: Display) -> Result<UnixStream, LaunchError>;

    /// Connects to the port of a running machine that leads to the agent in its guest. One client at a time is connected. The
    /// stream may be non-blocking.
    /// `None` if the machine has no such port.
    ///
    /// # Errors
    /// `Monitor` if the machine does not run, or its port cannot be reached.
    fn open_agent(&self, id: Uuid) -> Result<Option<UnixStream>, LaunchError> {
        let _ = id;
        Ok(None)
    }

    /// Whether machines can have vsock on this host, by which agents in guests are reached.
    fn has_vsock(&self) -> bool {
        false
    }

    /// Connects to a port of the guest of a running machine by vsock. The guest can delay this up to `within`.
    ///
    /// # Errors
    /// `Monitor` if nothing listens there, or the guest does not answer.
    fn open_vsock(&self, cid: u32, port: u32, within: Duration) -> Result<UnixStream, LaunchError> {
        let _ = (cid, port, within);
        Err(LaunchError::Monitor { reason: "this host has no vsock".into() })
    }

    /// What the init in the guest wrote of how its command ended, in the last run of a machine whose root is a container image: the
    /// last [`REPORT`](crate::ContainerBoot::RESULT) bytes of its disk. The guest can write anything. `None` if there is no such disk.
    ///
    /// # Errors
    /// `File` if it cannot be read.
    fn guest_result(&self, id: Uuid) -> Result<Option<Vec<u8>>, LaunchError> {
        let _ = id;
        Ok(None)
    }

    /// How a machine's VMM would open these devices, which are bound to their vfio drivers: as descriptors, if this host and the
    /// VMM can do that. `running` is the machine if it runs already: its VMM is asked then. By groups by default.
    fn device_access(&self, slots: &[GuestSlot], running: Option<Uuid>) -> DeviceAccess {
        let _ = (slots, running);
        DeviceAccess::Groups
    }

    /// The first port of a running machine that is free and has room for a device; those in `taken` are not.
    ///
    /// # Errors
    /// `NoPort` if there is none; `Monitor` or `Deadline` as [`pause`](Self::pause).
    fn free_port(&self, id: Uuid, slot: &GuestSlot, taken: &[u32]) -> Result<u32, LaunchError> {
        let _ = (id, slot, taken);
        Err(cannot_plug(self.name()))
    }

    /// Plugs a device into a running machine: all its functions, or an error. After an error it may have some of them.
    ///
    /// # Errors
    /// `Plug` if the VMM refuses; `Monitor` or `Deadline` as [`pause`](Self::pause).
    fn plug(&self, plug: &Plug) -> Result<(), LaunchError> {
        let _ = plug;
        Err(cannot_plug(self.name()))
    }

    /// Asks the guest of a running machine to let go of a device, and waits for it. Idempotent: a device that the machine does
    /// not have is out.
    ///
    /// # Errors
    /// As [`pause`](Self::pause): the machine may still have the device then.
    fn unplug(
        &self,
        id: Uuid,
        slot: &GuestSlot,
        patience: Duration,
    ) -> Result<Unplugged, LaunchError> {
        let _ = (id, slot, patience);
        Err(cannot_plug(self.name()))
    }

    /// The functions that a running machine has now, as its VMM says; `None` if this launcher cannot tell.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    fn plugged(&self, id: Uuid) -> Result<Option<Vec<PluggedFunction>>, LaunchError> {
        let _ = id;
        Ok(None)
    }

    /// Plugs a disk or a network card into a running machine. After an error, it may have a part of it.
    ///
    /// # Errors
    /// `Plug` if the VMM refuses; `File` if its file cannot be opened, `Network` if it cannot be connected; `Monitor` or
    /// `Deadline` as [`pause`](Self::pause).
    fn plug_part(&self, plug: &PartPlug) -> Result<(), LaunchError> {
        let _ = plug;
        Err(cannot_plug(self.name()))
    }

    /// Asks the guest of a running machine to let go of a disk or network card, waits for it, and closes what is behind it.
    /// Idempotent: one that the machine does not have is out.
    ///
    /// # Errors
    /// As [`pause`](Self::pause): the machine may still have it then.
    fn unplug_part(
        &self,
        id: Uuid,
        place: PartPlace,
        patience: Duration,
    ) -> Result<Unplugged, LaunchError> {
        let _ = (id, place, patience);
        Err(cannot_plug(self.name()))
    }

    /// The disks and network cards behind ports for devices that a running machine has now, as its VMM says; `None` if this
    /// launcher cannot tell.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    fn plugged_parts(&self, id: Uuid) -> Result<Option<Vec<PartPlace>>, LaunchError> {
        let _ = id;
        Ok(None)
    }

    /// What a running machine has lost, in words: a program that served it has ended, and the guest goes on without.
    fn lost(&self, id: Uuid, options: &MachineOptions) -> Option<String> {
        let _ = (id, options);
        None
    }

    /// All machines of this launcher with files or a process, also those that no instance has: after a restored backup.
    fn machines(&self) -> Vec<KnownMachine>;
}

/// A machine that a launcher knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownMachine {
    /// The instance's id.
    pub id: Uuid,
    /// The user that it runs as, or ran as.
    pub uid: Option<u32>,
    /// The directory that shows it: of its files or, if they are below another state directory, of its run.
    pub dir: PathBuf,
}

/// The error of a launcher that cannot change the devices of a running machine.
fn cannot_plug(launcher: &str) -> LaunchError {
    LaunchError::NoPort {
        reason: format!("{launcher} cannot change the devices of a running machine"),
        remedy: "stop the instance first".into(),
    }
}
