//! The vGPUs that a card has and still offers, for `--parts`.

use std::collections::BTreeSet;

use model::{Address, Claim, Function, Inventory, Kind, OwnState, VgpuProfile, VgpuSlots};
use serde::Serialize;

/// The vGPUs of one card: mediated devices, and virtual functions of NVIDIA's vendor-specific VFIO.
#[derive(Debug, Serialize)]
pub struct Parts {
    /// How many vGPUs fit.
    pub total: u64,
    /// How many of them exist, are claimed, or cannot be used.
    pub used: u64,
    /// The profiles, by name.
    pub profiles: Vec<Profile>,
}

/// A profile of vGPUs.
#[derive(Debug, Serialize)]
pub struct Profile {
    /// Its name; its id if it has no name.
    pub name: String,
    /// Its memory in MiB; 0 if unknown.
    pub framebuffer_mb: u64,
    /// How many can still be created.
    pub available: u64,
}

/// The functions whose types of vGPUs are needed.
pub fn sources(inventory: &Inventory) -> Vec<Address> {
    let offers = |one: &&Function| matches!(one.kind(), Kind::Gpu | Kind::Accelerator);
    inventory.functions.values().filter(offers).map(|function| function.address).collect()
}

impl Parts {
    /// The vGPUs of a card; `None` if it has and offers none, or is a virtual function itself.
    pub fn of(inventory: &Inventory, own: &OwnState, card: &Function) -> Option<Self> {
        if card.physical_function.is_some() {
            return None;
        }
        let is_own = |one: &&Function| {
            one.address == card.address || one.physical_function == Some(card.address)
        };
        let functions = inventory.functions.values().filter(is_own);
        let alone = Inventory {
            functions: functions.map(|one| (one.address, one.clone())).collect(),
            ..Inventory::default()
        };
        let claims: Vec<Claim> = own.claims.iter().map(|existing| existing.claim.clone()).collect();
        let barred: BTreeSet<Address> = own.unhealthy.keys().copied().collect();
        let VgpuSlots { total, used, profiles } = VgpuSlots::of(&alone, &claims, &barred)?;
        let profile = |VgpuProfile { name, framebuffer_mb, available }| Profile {
            name,
            framebuffer_mb,
            available,
        };
        Some(Self { total, used, profiles: profiles.into_iter().map(profile).collect() })
    }
}

impl Profile {
    /// `8 left, 4 GB each`.
    pub fn left(&self) -> String {
        let left = format!("{} left", self.available);
        match self.framebuffer_mb {
            0 => left,
            memory => {
                format!("{left}, {} each", model::shown::bytes(memory.saturating_mul(1 << 20)))
            }
        }
    }
}
