//! The functions that belong to the same card as a display function.

use crate::{Function, Id, Inventory, Kind};

/// The functions that belong to the same card as a display function; VFs and the ports of a NIC have none.
///
/// A card has audio, USB and USB-C functions. In a processor, the slot of the display function
/// also holds USB controllers, sound and security processors of the board (AMD), so only its own audio belongs to it.
pub(super) fn companions<'a>(inventory: &'a Inventory, head: &Function) -> Vec<&'a Function> {
    if head.kind() != Kind::Gpu || head.physical_function.is_some() {
        return Vec::new();
    }
    let integrated = is_integrated(inventory, head);
    let belongs = |other: &&Function| {
        let own = other.vendor == head.vendor;
        let belongs = match other.kind() {
            Kind::Audio => own || !integrated,
            Kind::Usb | Kind::Gpu => own && !integrated,
            _ => false,
        };
        belongs && other.physical_function.is_none()
    };
    let slot = inventory.slot_siblings(head.address).filter(belongs);
    slot.chain(audio_below_the_same_switch(inventory, head)).collect()
}

/// Whether a display function is in the processor: Intel's are on a root bus, AMD's (vendor 1002) share their slot with
/// functions of the processor (vendor 1022).
fn is_integrated(inventory: &Inventory, gpu: &Function) -> bool {
    match gpu.vendor {
        Id::INTEL => gpu.path.is_empty(),
        Id::AMD_GPU => inventory.slot_siblings(gpu.address).any(|other| other.vendor == Id::AMD),
        _ => false,
    }
}

/// The audio function of a card with a PCIe switch of its own, which gives it another slot: Intel's Arc has its display and
/// its audio function below two ports of one switch, whose ports are Intel's too.
fn audio_below_the_same_switch<'a>(
    inventory: &'a Inventory,
    gpu: &Function,
) -> impl Iterator<Item = &'a Function> {
    let above = match gpu.path.as_slice() {
        [.., upstream, downstream] if gpu.vendor == Id::INTEL => Some((*upstream, *downstream)),
        _ => None,
    };
    let switch = above.and_then(|(upstream, downstream)| {
        let own = |bridge| inventory.function(bridge).is_some_and(|f| f.vendor == gpu.vendor);
        // A root port has no bridge above it, so the upstream port is never the processor's.
        (gpu.path.len() > 2 && own(upstream) && own(downstream)).then_some(upstream)
    });
    switch.into_iter().flat_map(move |switch| {
        inventory.functions.values().filter(move |other| {
            let [.., upstream, _] = other.path.as_slice() else { return false };
            other.kind() == Kind::Audio && other.vendor == Id::INTEL && *upstream == switch
        })
    })
}
