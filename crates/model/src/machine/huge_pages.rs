//! Huge pages for a machine's memory (Documentation/admin-guide/mm/hugetlbpage.rst).

use serde::{Deserialize, Serialize};

use crate::{Code, Refusal, format_size};

/// Whether a machine's memory is in huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HugePagesUse {
    /// It is not. Machines of earlier versions have none.
    #[default]
    Never,
    /// It is if enough are free on the right NUMA node.
    Auto,
    /// It must be, or the machine does not start.
    Required,
}

impl HugePagesUse {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Never, Self::Auto, Self::Required];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Auto => "auto",
            Self::Required => "required",
        }
    }
}

/// Huge pages that the host has reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePool {
    /// The NUMA node; `None` for all nodes together.
    pub node: Option<u32>,
    /// Size of a page in bytes.
    pub page: u64,
    /// Pages that no one uses.
    pub free: u64,
}

/// The huge pages of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugeMemory {
    /// Size of a page in bytes.
    pub page: u64,
    /// The NUMA node on which they must be.
    pub node: Option<u32>,
}

impl HugeMemory {
    /// The pages for so much memory, in bytes: the largest of which enough are free, on this node if there is one. `None` if
    /// the machine does without.
    ///
    /// # Errors
    /// `insufficient_resources` if they are required, and too few are free.
    pub fn choose(
        wanted: HugePagesUse,
        memory: u64,
        node: Option<u32>,
        pools: &[HugePool],
    ) -> Result<Option<Self>, Refusal> {
        if wanted == HugePagesUse::Never {
            return Ok(None);
        }
        let there = pools.iter().filter(|pool| pool.node == node && pool.page > 0);
        let enough =
            |pool: &&HugePool| memory.is_multiple_of(pool.page) && pool.free >= memory / pool.page;
        let best = there.clone().filter(enough).max_by_key(|pool| pool.page);
        match (best, wanted) {
            (Some(pool), _) => Ok(Some(Self { page: pool.page, node })),
            (None, HugePagesUse::Required) => {
                Err(too_few(memory, node, &there.collect::<Vec<_>>()))
            }
            (None, _) => Ok(None),
        }
    }
}

fn too_few(memory: u64, node: Option<u32>, there: &[&HugePool]) -> Refusal {
    let place = node.map(|node| format!(" on NUMA node {node}")).unwrap_or_default();
    let free = there.iter().map(|pool| format!("{} of {}", pool.free, format_size(pool.page)));
    let free: Vec<String> = free.collect();
    let free = if free.is_empty() { "none".to_owned() } else { free.join(", ") };
    let smallest = there.iter().map(|pool| pool.page).min().unwrap_or(2 << 20);
    let count = memory.div_ceil(smallest.max(1));
    let (size, kib) = (format_size(smallest), smallest >> 10);
    let dir = match node {
        Some(node) => format!("/sys/devices/system/node/node{node}/hugepages"),
        None => "/sys/kernel/mm/hugepages".to_owned(),
    };
    Refusal::new(
        Code::InsufficientResources,
        format!(
            "the machine's {} of memory must be in huge pages{place}, of which are free: {free}",
            format_size(memory)
        ),
        format!(
            "reserve them, with {count} more of {size} than are used now: `echo COUNT >{dir}/hugepages-{kib}kB/nr_hugepages`; \
             soon after the host's start there is more memory in one piece. The machine's memory must be a multiple of \
             the page's size. Or use `--hugepages auto`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn pool(node: Option<u32>, page: u64, free: u64) -> HugePool {
        HugePool { node, page, free }
    }

    #[test]
    fn the_largest_pages_of_which_enough_are_free_are_taken() {
        let pools = [
            pool(None, 2 * MIB, 4096),
            pool(None, GIB, 4),
            pool(Some(0), 2 * MIB, 4096),
            pool(Some(0), GIB, 0),
            pool(Some(1), 2 * MIB, 0),
            pool(Some(1), GIB, 4),
        ];
        let choose =
            |memory, node| HugeMemory::choose(HugePagesUse::Auto, memory, node, &pools).unwrap();
        assert_eq!(choose(4 * GIB, None), Some(HugeMemory { page: GIB, node: None }));
        assert_eq!(choose(5 * GIB, None), Some(HugeMemory { page: 2 * MIB, node: None }));
        let two = HugeMemory { page: 2 * MIB, node: Some(0) };
        assert_eq!(choose(4 * GIB, Some(0)), Some(two));
        assert_eq!(choose(GIB + 2 * MIB, Some(0)), Some(two));
        assert_eq!(choose(GIB + 2 * MIB, Some(1)), None, "not on another node");
        assert_eq!(choose(GIB + MIB, None), None, "no page is so small");
    }

    #[test]
    fn a_demand_that_cannot_be_met_names_the_figures() {
        let pools = [pool(Some(0), 2 * MIB, 100)];
        let error = HugeMemory::choose(HugePagesUse::Required, GIB, Some(0), &pools).unwrap_err();
        assert_eq!(error.code, Code::InsufficientResources);
        assert!(error.message.contains("1GB of memory"), "{error:?}");
        assert!(
            error.message.ends_with("on NUMA node 0, of which are free: 100 of 2MB"),
            "{error:?}"
        );
        assert!(error.remedy.contains("512 more of 2MB"), "{error:?}");
        let none = HugeMemory::choose(HugePagesUse::Required, GIB, None, &[]).unwrap_err();
        assert!(none.message.ends_with("are free: none"), "{none:?}");
        assert_eq!(HugeMemory::choose(HugePagesUse::Never, GIB, None, &pools), Ok(None));
    }

    #[test]
    fn a_use_is_stored_as_it_is_written() {
        for one in HugePagesUse::ALL {
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
        }
    }
}
