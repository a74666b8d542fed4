//! What create and start share: from reserved devices to a running machine, and back.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use model::{
    Address, ContainerBoot, DeviceAccess, GuestSlot, HugeMemory, HugePagesUse, Inventory,
    KernelBoot, MachineHandle, MachineSpec, NodeDevice, Placement, PlacementUse, Placing, Refusal,
    SparePorts,
};
use uuid::Uuid;

use super::moving::slot_of;
use super::{Instances, not_ended, whole_mib};
use crate::claims::{Access, Restored};
use crate::lock::lock;
use crate::refusals;
use crate::store::{
    Durability, OpenOperation, StoredClaim, StoredDevice, StoredImage, StoredInstance,
};
use crate::{Action, Instance, InstanceState, MachineStep, Outcome};

impl Instances {
    /// Prepares the devices, starts the machine, records that it runs, and watches it. If that fails, calls `undo`,
    /// which rolls back and closes the operation.
    pub(super) fn bring_up_or_undo(
        &self,
        operation: &OpenOperation,
        mut row: StoredInstance,
        undo: impl FnOnce(&Refusal) -> Result<Vec<String>, Refusal>,
    ) -> Result<Instance, Refusal> {
        let result = self
            .bring_up(operation, &mut row)
            .and_then(|handle| self.record_up(operation, &mut row, handle));
        lock(&self.placing).remove(&row.instance.id);
        match result {
            Ok(handle) => {
                self.watch(&row.instance.hypervisor, handle)?;
                Ok(row.instance)
            }
            Err(cause) => {
                undo(&cause).map_err(|undo| refusals::with_failed_undo(&cause, &undo))?;
                Err(cause)
            }
        }
    }

    /// Prepares the devices and starts the machine.
    fn bring_up(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
    ) -> Result<MachineHandle, Refusal> {
        let (image, mut claims) = self.parts(row)?;
        let inventory = self.devices_of(&claims)?;
        let (huge_pages, placement) = self.place(row, &inventory, &claims)?;
        self.take_usb(row)?;
        let boot = self.container_boot(row, &image)?;
        let spare = self.spare_ports(row)?;
        let place = (huge_pages, placement);
        let mut spec = self.spec(row, &image, Vec::new(), &claims, place.clone(), spare.clone());
        boot_container(&mut spec, boot.clone());
        let launcher = self.launcher(&row.instance.hypervisor)?;
        launcher.check_space(&spec).map_err(|error| refusals::launch_failed(&error))?;
        let can_pass = inventory.vfio.iommufd;
        self.prepare_claims(operation, row, &mut claims, can_pass)?;
        row.instance.options.fabric_set =
            self.claims.activate_set(operation, claims.iter().map(|one| &one.claim))?;
        row.instance.options.device_access = None;
        if !claims.is_empty() {
            self.give_access(operation, row, &claims, can_pass, None)?;
        }
        let disks = self.disk_files(row)?;
        let mut spec = self.spec(row, &image, disks, &claims, place, spare);
        boot_container(&mut spec, boot);
        self.journal
            .machine(operation, MachineStep::CreateFiles, || launcher.create_files(&spec))?;
        let launch = || launcher.launch(&spec);
        let handle = self.journal.machine(operation, MachineStep::Launch, launch)?;
        if !launcher.is_pinned(row.instance.id)
            && let Some(placed) = &mut row.instance.options.placed
        {
            placed.cpus.clear();
            placed.held.clear();
            self.store.write(Durability::Process, |tx| row.update_settings(tx))?;
        }
        self.start_services(operation, row, &claims)?;
        Ok(handle)
    }

    /// Records that the machine runs.
    fn record_up(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
        handle: MachineHandle,
    ) -> Result<MachineHandle, Refusal> {
        row.instance.state = InstanceState::Running;
        row.instance.state_error = None;
        row.instance.pid = handle.pid();
        row.instance.exit_code = None;
        row.instance.started_at = Some(Timestamp::now());
        row.instance.stopped_at = None;
        row.machine = Some(handle.clone());
        self.journal.close_operation(operation, Outcome::Done, None, |tx| row.update(tx))?;
        Ok(handle)
    }

    pub(super) fn parts(
        &self,
        row: &StoredInstance,
    ) -> Result<(StoredImage, Vec<StoredClaim>), Refusal> {
        let id = row.instance.id;
        let (image, claims) = self.store.read(|from| {
            // A pull can give its name to another image.
            let image = StoredImage::by_id(from, row.image_id)?;
            Ok((image, StoredClaim::of_instance(from, id)?))
        })?;
        let image = image.ok_or_else(|| {
            refusals::no_such("image", &row.instance.image, "handover image list")
        })?;
        Ok((image, claims))
    }

    /// The ports for devices that may come: with room for the largest registered one.
    pub(super) fn spare_ports(&self, row: &StoredInstance) -> Result<SparePorts, Refusal> {
        let options = &row.instance.options;
        let parts = u32::try_from(options.part_ports().count()).unwrap_or(u32::MAX);
        // A disk or network card that was plugged can leave again: its port is like a spare one.
        let count = options.spare_ports().saturating_add(parts);
        let registered = self.store.read(StoredDevice::all)?.into_iter();
        let devices = registered.map(|device| GuestSlot::place(with_companions(device.address)));
        Ok(SparePorts { count, devices: if count > 0 { devices.collect() } else { Vec::new() } })
    }

    /// A machine's devices on the host.
    pub(super) fn devices_of(&self, claims: &[StoredClaim]) -> Result<Inventory, Refusal> {
        let parts = claims.iter().flat_map(|claim| &claim.claim.parts);
        let heads: Vec<Address> = parts.map(|part| part.head).collect();
        match heads.as_slice() {
            [] => Ok(Inventory::default()),
            some => self.hardware.functions(some),
        }
    }

    /// Chooses how the VMM opens the devices of these claims, which are bound now, and records it. If it opens the nodes of
    /// groups, its user is let open them, unless that was done with the preparation, because the kernel has no iommufd.
    pub(super) fn give_access(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
        claims: &[StoredClaim],
        can_pass: bool,
        running: Option<Uuid>,
    ) -> Result<(), Refusal> {
        let mut access = DeviceAccess::Groups;
        if can_pass {
            let slots: Vec<GuestSlot> = claims.iter().map(slot_of).collect();
            access = self.launcher(&row.instance.hypervisor)?.device_access(&slots, running);
            if access == DeviceAccess::Groups {
                let uid = row.instance.uid;
                for claim in claims {
                    self.claims.grant_groups(operation, &claim.claim, uid)?;
                }
            }
        }
        row.instance.options.device_access = Some(access);
        self.store.write(Durability::Process, |tx| row.update_settings(tx))
    }

    /// The huge pages for a machine's memory: on the NUMA node of its devices, if all are on one.
    fn huge_pages(
        &self,
        row: &StoredInstance,
        nodes: &BTreeSet<Option<u32>>,
    ) -> Result<Option<HugeMemory>, Refusal> {
        let wanted = row.instance.options.huge_pages;
        if wanted == HugePagesUse::Never {
            return Ok(None);
        }
        let node = if nodes.len() == 1 { nodes.first().copied().flatten() } else { None };
        HugeMemory::choose(wanted, row.instance.memory, node, &self.hardware.host.huge_pools())
    }

    /// Places a machine, and records that at once: the next machine that starts must not have the same cores.
    fn place(
        &self,
        row: &mut StoredInstance,
        inventory: &Inventory,
        claims: &[StoredClaim],
    ) -> Result<(Option<HugeMemory>, Option<Placement>), Refusal> {
        let mut starting = lock(&self.placing);
        let (huge_pages, placement) = self.choose_place(row, inventory, claims, &starting)?;
        if placement.is_some() || row.instance.options.placed.is_some() {
            row.instance.options.placed.clone_from(&placement);
            self.store.write(Durability::Process, |tx| row.update_settings(tx))?;
            starting.insert(row.instance.id);
        }
        Ok((huge_pages, placement))
    }

    /// The huge pages and the placement that a machine gets now. `starting` are machines that have cores already.
    pub(super) fn choose_place(
        &self,
        row: &StoredInstance,
        inventory: &Inventory,
        claims: &[StoredClaim],
        starting: &BTreeSet<Uuid>,
    ) -> Result<(Option<HugeMemory>, Option<Placement>), Refusal> {
        let nodes = inventory.functions.values().map(|function| function.numa_node).collect();
        let huge_pages = self.huge_pages(row, &nodes)?;
        let devices = node_devices(inventory, claims);
        let page = huge_pages.map(|huge| huge.page);
        let placement = self.choose_placement(row, &devices, page, starting)?;
        match (&placement, huge_pages) {
            // Without devices the node is chosen by its cores, and the pages must be there.
            (Some(placed), Some(HugeMemory { node: None, .. }))
                if placed.is_bound && placed.cells.is_empty() =>
            {
                let there = self.huge_pages(row, &[Some(placed.node)].into())?;
                Ok((there, placement))
            }
            _ => Ok((huge_pages, placement)),
        }
    }

    fn choose_placement(
        &self,
        row: &StoredInstance,
        devices: &[NodeDevice],
        huge_page: Option<u64>,
        starting: &BTreeSet<Uuid>,
    ) -> Result<Option<Placement>, Refusal> {
        let wanted = row.instance.options.placement;
        if wanted == PlacementUse::None {
            return Ok(None);
        }
        let own = row.instance.id;
        let has_cores = |other: &Instance| {
            let ended = matches!(other.state, InstanceState::Stopped | InstanceState::Shutdown);
            other.id != own && (!ended || starting.contains(&other.id))
        };
        let taken = self.store.read(StoredInstance::all)?.into_iter();
        let taken = taken.filter(|other| has_cores(&other.instance));
        let taken = taken.filter_map(|other| other.instance.options.placed);
        let one = Placing {
            wanted,
            vcpus: row.instance.vcpus,
            memory: whole_mib(row.instance.memory),
            huge_page,
            devices,
            mirrors_nodes: row.instance.options.mirrors_nodes,
            taken: &taken.flat_map(|placed| placed.held).collect(),
        };
        Placement::choose(&one, &self.hardware.host.cpu_layout())
    }

    /// Prepares the claims of an instance in parallel. The nodes of their groups are granted with it, or later.
    pub(super) fn prepare_claims(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
        claims: &mut [StoredClaim],
        defers_groups: bool,
    ) -> Result<(), Refusal> {
        let take_display = row.instance.options.seat.take_display;
        let access = Access::machine(row.instance.uid, defers_groups, take_display);
        let prepare =
            |claim: &mut StoredClaim| self.claims.prepare_parts(operation, claim, &access, None);
        if claims.len() == 1 || self.claims.at_once() == 1 {
            return claims.iter_mut().try_for_each(prepare);
        }
        let prepare = &prepare;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                claims.iter_mut().map(|claim| scope.spawn(move || prepare(claim))).collect();
            let mut result = Ok(());
            for thread in threads {
                match thread.join() {
                    Ok(done) => result = result.and(done),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            result
        })
    }

    /// Stops a machine that the operation may have started, then restores its devices: all steps of the claims, or only
    /// those of the operation `of`. `Err` if the machine may still run: then no device was touched.
    pub(super) fn bring_down(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
        of: Option<i64>,
        patience: Duration,
    ) -> Result<Restored, Refusal> {
        let performed = self.store.read(|from| operation.machine_steps(from))?;
        let launch = Action::Machine(MachineStep::Launch);
        if performed.iter().any(|recorded| recorded.action == launch) {
            self.end_machine(operation, row).map_err(not_ended)?;
        }
        self.restore_claims(operation, row, of, patience)
    }

    /// Restores the devices of an instance.
    pub(super) fn restore_claims(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
        of: Option<i64>,
        patience: Duration,
    ) -> Result<Restored, Refusal> {
        let id = row.instance.id;
        let claims = self.store.read(|from| StoredClaim::of_instance(from, id))?;
        let mut outcome = Restored::default();
        for mut claim in claims.into_iter().rev() {
            outcome.add(self.claims.restore_claim(operation, &mut claim, of, patience)?);
        }
        Ok(outcome)
    }
}

/// Adds to a machine what a container image needs to start.
fn boot_container(spec: &mut MachineSpec, boot: Option<(KernelBoot, ContainerBoot)>) {
    if let Some((kernel, container)) = boot {
        spec.kernel = Some(kernel);
        spec.container = Some(container);
    }
}

/// The devices of these claims, with their ports, where they are on the host.
fn node_devices(inventory: &Inventory, claims: &[StoredClaim]) -> Vec<NodeDevice> {
    let device = |claim: &StoredClaim| {
        let head = claim.claim.parts.first()?.head;
        Some(NodeDevice::of(inventory.function(head)?, claim.position))
    };
    claims.iter().filter_map(device).collect()
}

/// The addresses of a card's functions, whether they exist or not: a card is plugged with all of them.
fn with_companions(first: Address) -> Vec<Address> {
    if first.function() != 0 {
        return vec![first];
    }
    let sibling = |function| Address::new(first.domain(), first.bus(), first.device(), function);
    (0..8).filter_map(sibling).collect()
}
