//! What a new instance would be: everything that its creation checks and chooses, and nothing is changed.

use model::shown::bytes;
use model::{Choice, GuestSlot, GuestSource, HugePagesUse, MachineSpec, PlacementUse, Refusal};
use uuid::Uuid;

use super::Instances;
use super::create::Draft;
use crate::lock::lock;
use crate::refusals;
use crate::store::StoredInstance;
use crate::{CreateInstance, Instance, InstanceDevice};

/// What a creation would make.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The instance.
    pub instance: Instance,
    /// Its devices, in the order in which the guest sees them.
    pub devices: Vec<InstanceDevice>,
    /// What its start would choose.
    pub choices: Vec<Choice>,
}

impl Instances {
    /// What [`create`](Self::create) would make. Nothing is reserved: another request can take the devices first.
    ///
    /// # Errors
    /// Those of a creation that are known beforehand.
    pub fn outline(&self, request: CreateInstance) -> Result<Outline, Refusal> {
        let Draft { mut row, claims, inventory, planned } = self.draft(Uuid::new_v4(), request)?;
        self.claims.expect_room(&inventory, claims.iter().map(|stored| &stored.claim))?;
        let allocation = lock(&self.journal.allocation);
        self.expect_free_blocks(&row.instance, &claims)?;
        self.volumes.expect_free(&row.instance, &planned.new)?;
        self.reserve_network(&mut row.instance)?;
        self.reserve_screen(&mut row.instance)?;
        drop(allocation);
        let (image, _) = self.parts(&row)?;
        let inventory = self.devices_of(&claims)?;
        let spare = self.spare_ports(&row)?;
        let starting = lock(&self.placing).clone();
        let (huge_pages, placement) = self.choose_place(&row, &inventory, &claims, &starting)?;
        row.instance.options.placed.clone_from(&placement);
        let spec = self.spec(&row, &image, Vec::new(), &claims, (huge_pages, placement), spare);
        let launcher = self.launcher(&row.instance.hypervisor)?;
        let own = launcher.choices(&spec).map_err(|error| refusals::launch_failed(&error))?;
        let root = self.container_choices(&row, &image)?;
        let places = spec.slots.iter().filter_map(place);
        let choices = memory(&row, &spec).into_iter().chain(root).chain(own).chain(places);
        let choices = choices.collect();
        let devices = claims.into_iter().filter_map(Instances::as_devices).flatten();
        Ok(Outline { devices: devices.collect(), choices, instance: row.instance })
    }
}

/// The address in the guest that was chosen for a device.
fn place(slot: &GuestSlot) -> Option<Choice> {
    let bus = slot.bus?;
    let device = match slot.functions.first()?.source {
        GuestSource::Function(address) => address.to_string(),
        GuestSource::Mdev(uuid) => uuid.to_string(),
    };
    Some(Choice::new(
        format!("address of {device} in the guest"),
        bus.to_string(),
        "`guest=` chooses it",
    ))
}

/// The memory and the processors.
fn memory(row: &StoredInstance, spec: &MachineSpec) -> Vec<Choice> {
    let options = &row.instance.options;
    let pages = match (spec.huge_pages, options.huge_pages) {
        (Some(huge), _) => {
            let node = huge.node.map(|node| format!(" on NUMA node {node}")).unwrap_or_default();
            let why = format!("the largest huge pages of which enough are free{node}");
            Choice::new(
                "memory",
                format!("{} in pages of {}", bytes(spec.memory), bytes(huge.page)),
                why,
            )
        }
        (None, HugePagesUse::Never) => Choice::new(
            "memory",
            bytes(spec.memory),
            "huge pages are not asked for (`--hugepages auto`)",
        ),
        (None, _) => Choice::new("memory", bytes(spec.memory), "too few huge pages are free"),
    };
    let processors = match (&spec.placement, options.placement) {
        (None, PlacementUse::None) => Choice::new(
            "processors",
            spec.vcpus.to_string(),
            "the kernel places them: `--placement none`",
        ),
        (None, _) => Choice::new(
            "processors",
            spec.vcpus.to_string(),
            "the kernel places them: no NUMA node is known for the machine's devices",
        ),
        (Some(placed), _) if placed.cpus.is_empty() => Choice::new(
            "processors",
            format!("{} on NUMA node {}, not pinned", spec.vcpus, placed.node),
            "its devices are there, and too few whole cores are free",
        ),
        (Some(placed), _) => {
            let cpus: Vec<String> = placed.cpus.iter().map(u32::to_string).collect();
            Choice::new(
                "processors",
                format!("{} on NUMA node {}: {}", spec.vcpus, placed.node, cpus.join(" ")),
                "whole cores beside its devices, which no other machine has",
            )
        }
    };
    vec![pages, processors]
}
