//! The memory of instances, and where they run on the host.

use model::{Cell, HugePagesUse, Placement, PlacementUse, Refusal, format_size};

use crate::refusals::invalid;

/// The use of huge pages that the field `hugepages` asks for.
pub fn huge_pages(word: &str) -> Result<HugePagesUse, Refusal> {
    let known = HugePagesUse::ALL.into_iter().find(|one| one.as_str() == word);
    known.ok_or_else(|| {
        let words = HugePagesUse::ALL.map(HugePagesUse::as_str).join(", ");
        invalid(format!("unknown use of huge pages {word:?}"), format!("use one of {words}"))
    })
}

/// The word for it; `None` if there is none.
pub fn shown(used: HugePagesUse) -> Option<String> {
    (used != HugePagesUse::Never).then(|| used.as_str().to_owned())
}

/// The placement that the field `placement` asks for.
pub fn placement(word: &str) -> Result<PlacementUse, Refusal> {
    let known = PlacementUse::ALL.into_iter().find(|one| one.as_str() == word);
    known.ok_or_else(|| {
        let words = PlacementUse::ALL.map(PlacementUse::as_str).join(", ");
        invalid(format!("unknown placement {word:?}"), format!("use one of {words}"))
    })
}

/// The word for it; `None` if there is none.
pub fn shown_placement(used: PlacementUse) -> Option<String> {
    (used != PlacementUse::None).then(|| used.as_str().to_owned())
}

/// Where a machine runs.
pub fn placed(placement: Placement) -> api::Placed {
    let Placement { node, is_bound, cpus, cells, .. } = placement;
    let guest_node = |cell: Cell| api::GuestNode {
        node: cell.node,
        vcpus: cell.vcpus,
        size: format_size(cell.memory),
    };
    let nodes = cells.into_iter().map(guest_node).collect();
    api::Placed { node, cpus, memory_bound: is_bound, nodes }
}
