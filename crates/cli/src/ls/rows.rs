//! What is listed: assemblies with their members and their state.

use std::collections::BTreeSet;

use model::{Address, Assembly, Code, Function, Holder, Inventory, Kind, Member, Refusal, Role};
use serde::Serialize;

/// What a person wants to see.
pub struct Wanted<'a> {
    /// Also what can never be handed over.
    pub all: bool,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only what has all of these in its texts.
    pub filters: &'a [String],
}

/// The listing.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// Its assemblies, by address.
    pub assemblies: Vec<Row>,
    /// How many were left out that can never be handed over.
    #[serde(skip)]
    pub hidden: usize,
}

/// One assembly.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The function that it is named by.
    pub address: Address,
    /// What that does.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Vendor id.
    pub vendor_id: String,
    /// Device id.
    pub device_id: String,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// The driver bound to it.
    pub driver: Option<String>,
    /// Whether it can be had.
    pub state: State,
    /// Who uses it, in words.
    pub used_by: Vec<String>,
    /// Why it cannot be handed over.
    pub obstacles: Vec<Refusal>,
    /// What goes with it.
    pub members: Vec<MemberRow>,
}

/// Whether an assembly can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing stands in the way.
    Free,
    /// Something uses it.
    InUse,
    /// It is on a vfio driver.
    OnVfio,
    /// It cannot be handed over.
    Impossible,
}

/// One more function of an assembly.
#[derive(Debug, Serialize)]
pub struct MemberRow {
    /// Where it is.
    pub address: Address,
    /// What it does.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// The driver bound to it.
    pub driver: Option<String>,
    /// Its part in the hand-over.
    pub role: Role,
    /// Why it is a member.
    pub reason: String,
}

impl Listing {
    /// The assemblies of a host: each function is in one of them, and GPUs are taken first, so that an audio function is
    /// listed under its card.
    pub fn of(inventory: &Inventory, holders: &[Holder], wanted: &Wanted<'_>) -> Self {
        let mut heads: Vec<&Function> = inventory.functions.values().collect();
        heads.sort_by_key(|function| {
            let rank = Kind::ALL.iter().position(|kind| *kind == function.kind());
            (rank, function.address)
        });
        let mut listed = BTreeSet::new();
        let mut listing = Self { assemblies: Vec::new(), hidden: 0 };
        for head in heads {
            if listed.contains(&head.address) {
                continue;
            }
            let Some(assembly) = Assembly::of(inventory, head.address) else { continue };
            listed.extend(assembly.taken().map(|member| member.address));
            let row = Row::of(inventory, holders, head, &assembly);
            let never = row.obstacles.iter().any(|reason| reason.code == Code::NotAssignable);
            if !wanted.matches(&row) {
                continue;
            }
            if never && !wanted.all && wanted.kind != Some(Kind::Bridge) {
                listing.hidden += 1;
            } else {
                listing.assemblies.push(row);
            }
        }
        listing.assemblies.sort_by_key(|row| row.address);
        listing
    }
}

impl Row {
    fn of(inventory: &Inventory, holders: &[Holder], head: &Function, assembly: &Assembly) -> Self {
        let obstacles = assembly.obstacles(inventory);
        let taken: BTreeSet<Address> = assembly.taken().map(|member| member.address).collect();
        let users = holders.iter().filter(|holder| taken.contains(&holder.address));
        let mut used_by: Vec<String> =
            users.map(|holder| format!("{} by {}", holder.user, holder.by)).collect();
        used_by.dedup();
        let state = if !obstacles.is_empty() {
            State::Impossible
        } else if head.on_vfio() {
            State::OnVfio
        } else if !used_by.is_empty() {
            State::InUse
        } else {
            State::Free
        };
        let others = assembly.members.iter().filter(|member| member.address != head.address);
        Self {
            address: head.address,
            kind: head.kind(),
            name: head.title(),
            vendor_id: head.vendor.to_string(),
            device_id: head.device.to_string(),
            iommu_group: head.iommu_group,
            driver: head.driver.clone(),
            state,
            used_by,
            obstacles,
            members: others.filter_map(|member| MemberRow::of(inventory, member)).collect(),
        }
    }
}

impl MemberRow {
    fn of(inventory: &Inventory, member: &Member) -> Option<Self> {
        let function = inventory.function(member.address)?;
        Some(Self {
            address: member.address,
            kind: function.kind(),
            name: function.title(),
            iommu_group: function.iommu_group,
            driver: function.driver.clone(),
            role: member.role,
            reason: member.reason.clone(),
        })
    }
}

impl Wanted<'_> {
    fn matches(&self, row: &Row) -> bool {
        if self.kind.is_some_and(|kind| kind != row.kind) {
            return false;
        }
        let mut text = format!(
            "{} {}:{} {} {}",
            row.address,
            row.vendor_id,
            row.device_id,
            row.name,
            row.driver.as_deref().unwrap_or_default()
        );
        for member in &row.members {
            text.push_str(&format!(" {} {}", member.address, member.name));
        }
        let text = text.to_lowercase();
        self.filters.iter().all(|filter| text.contains(&filter.to_lowercase()))
    }
}
