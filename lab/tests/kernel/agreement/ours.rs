//! Handover's own data: the inventory in detail, and the listing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Facts, NONE};
use crate::support::Host;

/// The inventory in detail.
pub fn read(host: &Host) -> Facts {
    parse(&host.sh("xtask inventory"))
}

pub fn parse(json: &str) -> Facts {
    let inventory: Value = serde_json::from_str(json).unwrap();
    let functions = inventory["functions"].as_object().unwrap();
    functions
        .iter()
        .map(|(address, function)| (address.clone(), function_facts(function)))
        .collect()
}

/// `handover ls --all --json`: the assemblies' heads, with their data from the listing.
pub fn listed(host: &Host) -> Facts {
    parse_listing(&host.sh("handover ls --all --json"))
}

pub fn parse_listing(json: &str) -> Facts {
    let listing: Value = serde_json::from_str(json).unwrap();
    let mut facts = Facts::new();
    for row in listing["assemblies"].as_array().unwrap() {
        let ids = format!("{}:{}", text(&row["vendor_id"]), text(&row["device_id"]));
        let told = BTreeMap::from([
            ("ids", ids),
            ("class", text(&row["class"])),
            ("group", text(&row["iommu_group"])),
            ("numa", text(&row["numa_node"])),
            ("driver", text(&row["driver"])),
        ]);
        facts.insert(text(&row["address"]), told);
        for member in row["members"].as_array().unwrap() {
            let told = BTreeMap::from([
                ("group", text(&member["iommu_group"])),
                ("driver", text(&member["driver"])),
            ]);
            facts.entry(text(&member["address"])).or_insert(told);
        }
    }
    facts
}

fn function_facts(function: &Value) -> BTreeMap<&'static str, String> {
    let detail = &function["detail"];
    assert!(detail.is_object(), "no detail: {:#}", function["notes"]);
    let class = text(&function["class"]);
    let mut facts = BTreeMap::from([
        ("ids", format!("{}:{}", text(&function["vendor"]), text(&function["device"]))),
        ("class and subclass", class[..4].to_owned()),
        ("class", class),
        ("revision", format!("{:02x}", function["revision"].as_u64().unwrap())),
        ("driver", text(&function["driver"])),
        ("override", text(&detail["driver_override"])),
        ("group", text(&function["iommu_group"])),
        ("numa", text(&function["numa_node"])),
        ("bars", bars(function)),
        ("path", words(&function["path"])),
        ("physical function", text(&function["physical_function"])),
        ("virtual functions", words(&function["sriov"]["present"])),
        ("virtual functions at most", text(&function["sriov"]["total"])),
        ("mdev types", mdev_types(detail)),
        ("reset", words(&function["reset_methods"])),
        ("interfaces", words(&function["nodes"]["interfaces"])),
        ("serial", text(&detail["serial"])),
        ("capabilities", capabilities(detail)),
    ]);
    if function["subsystem_vendor"].is_string() {
        let (vendor, device) = (&function["subsystem_vendor"], &function["subsystem_device"]);
        facts.insert("subsystem", format!("{}:{}", text(vendor), text(device)));
    }
    if detail["link"].is_object() {
        let link = |speed: &str, width: &str| {
            let tenths = detail["link"][speed].as_u64().unwrap();
            let (whole, rest) = (tenths / 10, tenths % 10);
            let rest = if rest == 0 { String::new() } else { format!(".{rest}") };
            format!("{whole}{rest}GT/s x{}", detail["link"][width])
        };
        facts.insert("link now", link("speed", "width"));
        facts.insert("link at most", link("max_speed", "max_width"));
    }
    facts
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => NONE.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn words(value: &Value) -> String {
    let words: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
    if words.is_empty() { NONE.to_owned() } else { words.join(" ") }
}

fn bars(function: &Value) -> String {
    let flag = |bar: &Value, name: &str, letter: &'static str| {
        if bar[name] == true { letter } else { "" }
    };
    let bar = |bar: &Value| {
        let (io, wide) = (flag(bar, "io", "i"), flag(bar, "is_64bit", "w"));
        format!("{}:{}{io}{wide}{}", bar["index"], bar["size"], flag(bar, "prefetchable", "p"))
    };
    let bars: Vec<String> = function["bars"].as_array().unwrap().iter().map(bar).collect();
    if bars.is_empty() { NONE.to_owned() } else { bars.join(" ") }
}

fn mdev_types(detail: &Value) -> String {
    let types = detail["mdev_types"].as_array().into_iter().flatten();
    let types: BTreeSet<String> = types.map(|kind| text(&kind["id"])).collect();
    words(&types.into_iter().collect())
}

fn capabilities(detail: &Value) -> String {
    let names: BTreeSet<String> =
        detail["capabilities"].as_array().unwrap().iter().map(text).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}
