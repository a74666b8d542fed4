//! Parses `lspci -vvvnnk -D`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, NONE};
use crate::support::Host;

pub fn read(host: &Host) -> Facts {
    parse(&host.sh("lspci -vvvnnk -D"))
}

/// Functions are separated by empty lines; the first line of each has address, class and ids.
pub fn parse(text: &str) -> Facts {
    text.split("\n\n").filter(|block| !block.trim().is_empty()).filter_map(function).collect()
}

fn function(block: &str) -> Option<(String, BTreeMap<&'static str, String>)> {
    let mut lines = block.trim_matches('\n').lines();
    let (address, title) = lines.next()?.split_once(' ')?;
    let mut facts = BTreeMap::from([
        ("driver", NONE.to_owned()),
        ("group", NONE.to_owned()),
        ("numa", NONE.to_owned()),
        ("revision", "00".to_owned()),
    ]);
    let (class, ids) = brackets(title)?;
    facts.insert("class and subclass", class);
    facts.insert("ids", ids);
    if let Some((_, rest)) = title.split_once("(rev ") {
        facts.insert("revision", rest.get(..2)?.to_owned());
    }
    let mut capabilities = BTreeSet::new();
    let mut link: [Option<String>; 2] = [None, None];
    for line in lines {
        let line = line.trim_start();
        let after = |begin| line.strip_prefix(begin).map(|rest: &str| rest.trim().to_owned());
        if let Some(rest) = after("Subsystem:") {
            let ids = rest.rsplit_once('[')?.1.trim_end_matches(']').to_owned();
            facts.insert("subsystem", ids);
        } else if let Some(group) = after("IOMMU group:") {
            facts.insert("group", group);
        } else if let Some(node) = after("NUMA node:") {
            facts.insert("numa", node);
        } else if let Some(driver) = after("Kernel driver in use:") {
            facts.insert("driver", driver);
        } else if let Some(rest) = after("LnkCap:") {
            link[0] = speed_and_width(&rest);
        } else if let Some(rest) = after("LnkSta:") {
            link[1] = speed_and_width(&rest);
        } else if let Some(rest) = after("Capabilities:") {
            capability(&rest, &mut capabilities, &mut facts);
        }
    }
    if let [Some(most), Some(now)] = link {
        facts.insert("link at most", most);
        facts.insert("link now", now);
    }
    let capabilities: Vec<String> = capabilities.into_iter().collect();
    facts.insert("capabilities", capabilities.join(", "));
    Some((address.to_owned(), facts))
}

/// Class and ids of `3D controller [0302]: NVIDIA Corporation GA100 [A100] [10de:20b0] (rev a1)`.
fn brackets(title: &str) -> Option<(String, String)> {
    let class = title.split_once('[')?.1.get(..4)?.to_owned();
    let mut ids =
        title.split('[').filter_map(|part| part.split_once(']')).map(|(inside, _)| inside);
    let ids = ids.rfind(|inside| inside.len() == 9 && inside.as_bytes().get(4) == Some(&b':'))?;
    Some((class, ids.to_owned()))
}

/// `2.5GT/s x1` of `Port #0, Speed 2.5GT/s (overdriven), Width x1, ASPM L0s`; none where there is no link.
fn speed_and_width(text: &str) -> Option<String> {
    let speed = text.split_once("Speed ")?.1.split_once("GT/s")?.0;
    let width = text.split_once("Width x")?.1;
    let width: String = width.chars().take_while(char::is_ascii_digit).collect();
    (width != "0").then(|| format!("{speed}GT/s x{width}"))
}

/// `[100 v2] Advanced Error Reporting`: extended capabilities have a version.
fn capability(
    text: &str,
    capabilities: &mut BTreeSet<String>,
    facts: &mut BTreeMap<&'static str, String>,
) {
    const NAMES: [(&str, &str); 22] = [
        ("Access Control Services", "ACS"),
        ("Address Translation Service", "ATS"),
        ("Advanced Error Reporting", "AER"),
        ("Alternative Routing-ID", "ARI"),
        ("Device Serial Number", "DSN"),
        ("Express", "PCIe"),
        ("HyperTransport", "HyperTransport"),
        ("Latency Tolerance Reporting", "LTR"),
        ("MSI-X", "MSI-X"),
        ("MSI:", "MSI"),
        ("PCI Advanced Features", "AF"),
        ("Page Request Interface", "PRI"),
        ("Physical Resizable BAR", "ReBAR"),
        ("Power Budgeting", "Power Budgeting"),
        ("Power Management", "PM"),
        ("Process Address Space ID", "PASID"),
        ("SATA HBA", "SATA"),
        ("Secure device", "Secure Device"),
        ("Single Root I/O Virtualization", "SR-IOV"),
        ("Subsystem", "SSVID"),
        ("Virtual Channel", "VC"),
        ("Vital Product Data", "VPD"),
    ];
    let Some((place, name)) = text.split_once("] ") else { return };
    let known = NAMES.iter().find(|(begin, _)| name.starts_with(begin)).map(|(_, short)| *short);
    let short = match known {
        Some(short) => short,
        None if name.starts_with("Vendor Specific") && place.contains(" v") => "VSEC",
        None if name.starts_with("Vendor Specific") => "Vendor-Specific",
        // Appears as a difference, so that the table above gets completed.
        None => name,
    };
    capabilities.insert(short.to_owned());
    if let Some(serial) = name.strip_prefix("Device Serial Number ") {
        facts.insert("serial", serial.trim().to_owned());
    }
}

#[test]
fn a_function_is_read() {
    let text = "\
0000:23:00.0 3D controller [0302]: NVIDIA Corporation GA100 [A100 SXM4 40GB] [10de:20b0] (rev a1)
	Subsystem: NVIDIA Corporation Device [10de:144e]
	NUMA node: 0
	IOMMU group: 7
	Capabilities: [40] Power Management version 3
	Capabilities: [60] Express (v2) Endpoint, IntMsgNum 0
		LnkCap:	Port #0, Speed 16GT/s, Width x16, ASPM not supported
		LnkSta:	Speed 2.5GT/s (downgraded), Width x1 (downgraded)
	Capabilities: [100 v1] Device Serial Number 48-b0-2d-00-00-00-01-00
	Kernel driver in use: nvidia
	Kernel modules: nouveau, nvidia

0000:00:1f.0 ISA bridge [0601]: Intel Corporation 82801IB (ICH9) LPC Interface Controller [8086:2918] (rev 02)
	Kernel driver in use: lpc_ich
";
    let facts = parse(text);
    let gpu = &facts["0000:23:00.0"];
    let told = |name| gpu[name].as_str();
    assert_eq!((told("class and subclass"), told("ids")), ("0302", "10de:20b0"));
    assert_eq!((told("subsystem"), told("revision")), ("10de:144e", "a1"));
    assert_eq!((told("group"), told("numa"), told("driver")), ("7", "0", "nvidia"));
    assert_eq!((told("link at most"), told("link now")), ("16GT/s x16", "2.5GT/s x1"));
    assert_eq!(told("serial"), "48-b0-2d-00-00-00-01-00");
    assert_eq!(told("capabilities"), "DSN, PCIe, PM");
    let isa = &facts["0000:00:1f.0"];
    assert_eq!((isa["group"].as_str(), isa["driver"].as_str()), (NONE, "lpc_ich"));
    assert!(!isa.contains_key("link now"));
}
