//! Filters for functions: `01:`, `10de:20b0`, `driver:vfio-pci`, `gpu`, free text.

use std::str::FromStr;

use model::topology::words::UNKNOWN_NODE;
use model::{Class, Function, Id, Kind};

/// The long help of a command that takes filters, with examples of the command.
pub fn help(examples: &str) -> String {
    format!("{FILTERS}\n\nExamples:\n{examples}")
}

/// The filters.
const FILTERS: &str = "\
Filters (a function must match all of them):
  01:00.0, 01:00, 01:          address or its beginning; 0000:01: includes the domain
  10de:20b0, 10de:             vendor and device id, or the vendor id
  gpu, nic, nvme               kind; `handover ls --help` lists all kinds
  address:01:00, id:10de       address or id, with the key
  kind:gpu                     the same as gpu
  class:0302, class:02         class code or its beginning
  driver:nvidia, driver:none   bound to this driver, or to none
  group:12, group:none         IOMMU group
  node:1, numa:1               NUMA node
  name:a100                    part of the name
  a100, eth0, nvme0n1          any other text: part of the name, driver, an interface or a disk";

/// The keys that can precede a colon.
const KEYS: &str = "address, id, class, driver, group, node (or numa), kind (or type), name";

/// One filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// An address.
    Address(Pattern),
    /// Vendor id, and optionally device id.
    Id(Id, Option<Id>),
    /// `10de:`: a vendor or a domain.
    VendorOrDomain(Id),
    /// The first digits of a class code.
    Class(String),
    /// A driver, or none.
    Driver(Option<String>),
    /// An IOMMU group, or none.
    Group(Option<u32>),
    /// A NUMA node, or none.
    Node(Option<u32>),
    /// A kind.
    Kind(Kind),
    /// Part of the name, in lower case.
    Name(String),
    /// Part of any of its texts, in lower case.
    Text(String),
}

/// Part of an address; `None` matches any value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    domain: Option<u32>,
    bus: Option<u8>,
    device: Option<u8>,
    function: Option<u8>,
}

impl Filter {
    /// Whether a function matches all filters.
    pub fn all_match(filters: &[Self], function: &Function) -> bool {
        filters.iter().all(|filter| filter.matches(function))
    }

    /// Whether a function matches.
    pub fn matches(&self, function: &Function) -> bool {
        match self {
            Self::Address(pattern) => pattern.matches(function),
            Self::Id(vendor, device) => {
                function.vendor == *vendor && device.is_none_or(|device| function.device == device)
            }
            Self::VendorOrDomain(id) => {
                function.vendor == *id || function.address.domain() == u32::from(id.0)
            }
            Self::Class(digits) => function.class.to_string().starts_with(digits.as_str()),
            Self::Driver(driver) => same_driver(driver.as_deref(), function.driver.as_deref()),
            Self::Group(group) => function.iommu_group == *group,
            Self::Node(node) => function.numa_node == *node,
            Self::Kind(kind) => function.kind() == *kind,
            Self::Name(text) => function.title().to_lowercase().contains(text),
            Self::Text(text) => {
                let nodes = &function.nodes;
                let has = |other: &String| other.to_lowercase().contains(text);
                has(&function.title())
                    || function.driver.as_ref().is_some_and(has)
                    || nodes.interfaces.iter().chain(&nodes.block_devices).any(has)
                    || nodes.drm.iter().any(has)
                    || format!("{}:{}", function.vendor, function.device).contains(text)
                    || function.address.to_string().contains(text)
            }
        }
    }

    fn keyed(key: &str, value: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{value:?} is not {what}");
        let number = |what: &str| match value {
            "none" => Ok(None),
            _ => value.parse().map(Some).map_err(|_| wrong(what)),
        };
        if value.is_empty() {
            return Err(format!("no value after {:?}", format!("{key}:")));
        }
        match key {
            "address" => Pattern::parse(value)
                .map(Self::Address)
                .ok_or_else(|| wrong("an address or the beginning of one, such as 0000:01:00.0")),
            "id" => id(value).ok_or_else(|| wrong("a PCI id, such as 10de:20b0 or 10de")),
            "class" => {
                let digits = value.strip_prefix("0x").unwrap_or(value).to_lowercase();
                match digits.parse::<Class>() {
                    Ok(_) => Ok(Self::Class(digits)),
                    Err(_) => Err(wrong("a class code, such as 0302 or 02")),
                }
            }
            "driver" => Ok(Self::Driver((value != "none").then(|| value.to_owned()))),
            "group" => number("an IOMMU group number").map(Self::Group),
            // The word that lists show.
            "node" | "numa" if value == UNKNOWN_NODE => Ok(Self::Node(None)),
            "node" | "numa" => number("a NUMA node number").map(Self::Node),
            "kind" | "type" => value.parse().map(Self::Kind),
            "name" => Ok(Self::Name(value.to_lowercase())),
            _ => {
                let hint = model::near_miss::hint(&format!("{key}:{value}"));
                let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                Err(format!("unknown filter key {key:?}; the keys are {KEYS}{hint}"))
            }
        }
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("the filter is empty".into());
        }
        if let Some(vendor) = text.strip_suffix(':').and_then(exact_id) {
            return Ok(Self::VendorOrDomain(vendor));
        }
        if let Some(pattern) = Pattern::parse(text).filter(|_| text.contains(':')) {
            return Ok(Self::Address(pattern));
        }
        if let Some((Some(vendor), Some(device))) =
            text.split_once(':').map(|(vendor, device)| (exact_id(vendor), exact_id(device)))
        {
            return Ok(Self::Id(vendor, Some(device)));
        }
        if let Some((key, value)) = text.split_once(':') {
            return Self::keyed(key, value);
        }
        Ok(text.parse().map_or_else(|_| Self::Text(text.to_lowercase()), Self::Kind))
    }
}

impl Pattern {
    /// Parses an address or its beginning: `01`, `01:`, `01:00`, `01:00.0`, each also after a domain of four to eight
    /// digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, function) = match text.split_once('.') {
            Some((rest, "")) => (rest, None),
            Some((rest, function)) => (rest, Some(hex(function, 1..=1).filter(|f| *f < 8)?)),
            None => (text, None),
        };
        let had_function = function.is_some();
        let mut parts: Vec<&str> = text.strip_suffix(':').unwrap_or(text).split(':').collect();
        let domain = match parts.first()?.len() {
            4..=8 => Some(hex(parts.remove(0), 4..=8)?),
            _ => None,
        };
        let mut parts = parts.into_iter().map(|part| hex(part, 2..=2));
        let bus = parts.next().map_or(Some(None), |bus| bus.map(Some))?;
        let device = parts.next().map_or(Some(None), |device| device.map(Some))?;
        if parts.next().is_some() || (had_function && device.is_none()) {
            return None;
        }
        let narrow = |part: Option<u32>| part.and_then(|part| u8::try_from(part).ok());
        let pattern =
            Self { domain, bus: narrow(bus), device: narrow(device), function: narrow(function) };
        (device.is_none_or(|device| device < 32)).then_some(pattern)
    }

    /// Whether a function's address matches.
    pub fn matches(&self, function: &Function) -> bool {
        let address = function.address;
        self.domain.is_none_or(|domain| domain == address.domain())
            && self.bus.is_none_or(|bus| bus == address.bus())
            && self.device.is_none_or(|device| device == address.device())
            && self.function.is_none_or(|function| function == address.function())
    }

    /// The distance of an address from this one, to suggest the nearest.
    pub fn far(&self, address: model::Address) -> impl Ord + use<> {
        let apart = |wanted: Option<u8>, is: u8| wanted.map_or(0, |wanted| wanted.abs_diff(is));
        (
            self.domain.is_some_and(|domain| domain != address.domain()),
            apart(self.bus, address.bus()),
            apart(self.device, address.device()),
            apart(self.function, address.function()),
        )
    }
}

fn hex(digits: &str, length: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let right = length.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    right.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

fn exact_id(text: &str) -> Option<Id> {
    hex(text, 4..=4).and_then(|id| u16::try_from(id).ok()).map(Id)
}

fn id(text: &str) -> Option<Filter> {
    let (vendor, device) = text.split_once(':').unwrap_or((text, ""));
    let device = (!device.is_empty()).then(|| exact_id(device));
    match device {
        Some(None) => None,
        Some(device) => Some(Filter::Id(exact_id(vendor)?, device)),
        None => Some(Filter::Id(exact_id(vendor)?, None)),
    }
}

/// Compares driver names; `-` and `_` are the same, as for modules.
fn same_driver(wanted: Option<&str>, bound: Option<&str>) -> bool {
    match (wanted, bound) {
        (Some(wanted), Some(bound)) => wanted.replace('_', "-") == bound.replace('_', "-"),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use model::Inventory;
    use proptest::prelude::*;

    use super::*;

    fn found(inventory: &Inventory, filters: &[&str]) -> Vec<String> {
        let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
        let functions = inventory.functions.values();
        functions
            .filter(|function| Filter::all_match(&filters, function))
            .map(|function| function.address.to_string())
            .collect()
    }

    #[test]
    fn each_form_finds_what_it_says() {
        let mut inventory = sim::workstation();
        let nic = inventory.functions.get_mut(&"03:00.0".parse().unwrap()).unwrap();
        nic.device_name = Some("82574L Gigabit".into());
        nic.vendor_name = Some("Intel".into());
        nic.numa_node = Some(1);
        nic.nodes.interfaces = vec!["enp3s0".into()];
        let nic = "0000:03:00.0";
        let gpus: &[&str] = &["0000:01:00.0", "0000:02:00.0"];
        let cases: &[(&[&str], &[&str])] = &[
            (&["03:00.0"], &[nic]),
            (&["0000:03:00.0"], &[nic]),
            (&["0000:03:"], &[nic]),
            (&["03:"], &[nic]),
            (&["03:00"], &[nic]),
            (&["address:03"], &[nic]),
            (&["8086:10d3"], &[nic]),
            (&["id:8086:10D3"], &[nic]),
            (&["8086:"], &["0000:00:01.0", nic]),
            (&["id:10de"], &["0000:01:00.0", "0000:01:00.1"]),
            (&["gpu"], gpus),
            (&["kind:gpu"], gpus),
            (&["type:gpu", "driver:amdgpu"], &["0000:02:00.0"]),
            (&["class:03"], gpus),
            (&["class:0x0300"], gpus),
            (&["driver:snd-hda-intel", "01:"], &["0000:01:00.1"]),
            (&["driver:none"], &["0000:04:00.0"]),
            (&["group:2"], &["0000:02:00.0"]),
            (&["group:none"], &[]),
            (&["node:1"], &[nic]),
            (&["numa:1", "numa:0"], &[]),
            (&["name:gigabit"], &[nic]),
            (&["82574l"], &[nic]),
            (&["enp3s0"], &[nic]),
            (&["10001:01:00.0"], &[]),
        ];
        for (filters, expected) in cases {
            assert_eq!(found(&inventory, filters), *expected, "{filters:?}");
        }
        assert_eq!(found(&inventory, &["node:unknown"]), found(&inventory, &["node:none"]));
        assert_eq!(found(&inventory, &["0000:"]).len(), inventory.functions.len());
    }

    #[test]
    fn an_invalid_filter_is_refused_with_the_valid_ones() {
        let said = |text: &str| text.parse::<Filter>().unwrap_err();
        assert!(said("1:0.0").ends_with("did you mean `0000:01:00.0`?"));
        assert!(said("vendor:10de").contains("the keys are address, id, class"));
        assert!(said("kind:toaster").contains("the kinds are gpu"));
        assert!(said("\u{1b}[2J:").contains(r"\u{1b}"), "it must not control the terminal");
        for wrong in ["", " ", "group:x", "group:", "class:zz", "id:10d", "address:xyz", "node:-1"]
        {
            assert!(wrong.parse::<Filter>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,24}", hexish in "[0-9a-f:.]{0,16}") {
            let inventory = sim::workstation();
            for text in [text, hexish] {
                if let Ok(filter) = text.parse::<Filter>() {
                    inventory.functions.values().for_each(|f| { filter.matches(f); });
                }
            }
        }

        #[test]
        fn a_whole_address_finds_itself(bus: u8, device in 0u8..32, function in 0u8..8, domain: u32) {
            let address = model::Address::new(domain, bus, device, function).unwrap();
            let filter: Filter = address.to_string().parse().unwrap();
            prop_assert!(filter.matches(&Function::unknown(address)));
        }
    }
}
