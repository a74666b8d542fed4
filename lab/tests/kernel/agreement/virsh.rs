//! Parses `virsh nodedev-list` and `nodedev-dumpxml`.
//!
//! libvirt writes one element per line, so no XML parser is needed. What it does not know of a function (a
//! group, a node, a driver) it leaves out.

use std::collections::BTreeMap;

use super::{Facts, NONE};
use crate::support::Host;

/// All in one `virsh`: to start one costs an emulated machine a second.
pub fn read(host: &Host) -> Facts {
    host.sh("/opt/lab/libvirt");
    parse(&host.sh("virsh nodedev-list --cap pci | sed '/./!d; s/^/nodedev-dumpxml /' | virsh -q"))
}

pub fn parse(text: &str) -> Facts {
    text.split("<device>").skip(1).filter_map(function).collect()
}

fn function(device: &str) -> Option<(String, BTreeMap<&'static str, String>)> {
    let mut facts = BTreeMap::from([
        ("driver", NONE.to_owned()),
        ("group", NONE.to_owned()),
        ("numa", NONE.to_owned()),
        ("physical function", NONE.to_owned()),
        ("virtual functions", NONE.to_owned()),
        ("virtual functions at most", NONE.to_owned()),
        ("mdev types", NONE.to_owned()),
    ]);
    let mut address = None;
    let (mut vendor, mut product) = (String::new(), String::new());
    // The elements around a line, for an address means one thing in a group and another one in a function.
    let mut around: Vec<&str> = Vec::new();
    let (mut functions, mut types, mut links) = (Vec::new(), Vec::new(), Vec::new());
    for line in device.lines().map(str::trim) {
        let element = line.trim_start_matches('<').split([' ', '>', '/']).next()?;
        match (around.last().copied(), element) {
            (None, "path") => {
                let (own, above) = path(content(line)?)?;
                address = Some(own);
                facts.insert("path", above);
            }
            (Some("driver"), "name") => drop(facts.insert("driver", content(line)?)),
            (_, "class") => drop(facts.insert("class", hex(&content(line)?))),
            (_, "vendor") => vendor = hex(&attribute(line, "id")?),
            (_, "product") => product = hex(&attribute(line, "id")?),
            (_, "iommuGroup") => drop(facts.insert("group", attribute(line, "number")?)),
            (_, "numa") => drop(facts.insert("numa", attribute(line, "node")?)),
            (Some("virt_functions"), "address") => functions.push(place(line)?),
            (Some("phys_function"), "address") => {
                facts.insert("physical function", place(line)?);
            }
            (Some("mdev_types"), "type") => types.push(attribute(line, "id")?),
            (_, "link") => links.extend(link(line)),
            _ => {}
        }
        if let Some(count) = attribute(line, "maxCount") {
            facts.insert("virtual functions at most", count);
        }
        enter_or_leave(line, &mut around);
    }
    facts.insert("ids", format!("{vendor}:{product}"));
    // A virtual function has its physical one's link: a speed now, and none at most.
    if links.len() == 2 {
        facts.extend(links);
    }
    types.sort();
    for (name, words) in [("virtual functions", functions), ("mdev types", types)] {
        if !words.is_empty() {
            facts.insert(name, words.join(" "));
        }
    }
    Some((address?, facts))
}

/// Keeps account of the elements around a line.
fn enter_or_leave<'a>(line: &'a str, around: &mut Vec<&'a str>) {
    if line.starts_with("</") {
        around.pop();
    } else if line.starts_with('<') && !line.ends_with("/>") && !line.contains("</") {
        // A capability's type says more than its element's name.
        let name = line.trim_start_matches('<').split([' ', '>']).next().unwrap_or_default();
        let capability = line.strip_prefix("<capability type='");
        around.push(capability.map_or(name, |rest| rest.split('\'').next().unwrap_or(name)));
    }
}

/// The text of an element in one line.
fn content(line: &str) -> Option<String> {
    Some(line.split_once('>')?.1.split_once('<')?.0.to_owned())
}

fn attribute(line: &str, name: &str) -> Option<String> {
    let rest = line.split_once(&format!(" {name}='"))?.1;
    Some(rest.split_once('\'')?.0.to_owned())
}

fn hex(text: &str) -> String {
    text.trim_start_matches("0x").to_owned()
}

/// An address element.
fn place(line: &str) -> Option<String> {
    let part = |name: &str| attribute(line, name).map(|text| hex(&text));
    Some(format!("{}:{}:{}.{}", part("domain")?, part("bus")?, part("slot")?, part("function")?))
}

/// A function's own address, and those of the bridges above it.
fn path(path: String) -> Option<(String, String)> {
    let parts = path.split('/').filter(|part| part.contains('.'));
    let mut addresses: Vec<&str> = parts.collect();
    let own = addresses.pop()?.to_owned();
    Some((own, if addresses.is_empty() { NONE.to_owned() } else { addresses.join(" ") }))
}

/// `<link validity='cap' port='0' speed='2.5' width='1'/>`; a function without a link has no speed, or a width of 0.
fn link(line: &str) -> Option<(&'static str, String)> {
    let name = match attribute(line, "validity")?.as_str() {
        "cap" => "link at most",
        "sta" => "link now",
        _ => return None,
    };
    Some((name, format!("{}GT/s x{}", attribute(line, "speed")?, attribute(line, "width")?)))
}

const NIC_AND_FUNCTION: &str = "\
<device>
  <name>pci_0000_21_00_0</name>
  <path>/sys/devices/pci0000:20/0000:20:00.0/0000:21:00.0</path>
  <parent>pci_0000_20_00_0</parent>
  <driver>
    <name>igb</name>
  </driver>
  <capability type='pci'>
    <class>0x020000</class>
    <domain>0</domain>
    <bus>33</bus>
    <slot>0</slot>
    <function>0</function>
    <product id='0x10c9'>82576 Gigabit Network Connection</product>
    <vendor id='0x8086'>Intel Corporation</vendor>
    <capability type='virt_functions' maxCount='7'>
      <address domain='0x0000' bus='0x21' slot='0x10' function='0x0'/>
      <address domain='0x0000' bus='0x21' slot='0x10' function='0x2'/>
    </capability>
    <capability type='mdev_types'>
      <type id='lab-2'>
        <name>two</name>
      </type>
      <type id='lab-1'>
        <name>one</name>
      </type>
    </capability>
    <iommuGroup number='3'>
      <address domain='0x0000' bus='0x21' slot='0x00' function='0x0'/>
    </iommuGroup>
    <numa node='1'/>
    <pci-express>
      <link validity='cap' port='0' speed='2.5' width='4'/>
      <link validity='sta' speed='2.5' width='1'/>
    </pci-express>
  </capability>
</device>

<device>
  <name>pci_0000_21_10_0</name>
  <path>/sys/devices/pci0000:20/0000:20:00.0/0000:21:10.0</path>
  <capability type='pci'>
    <class>0x020000</class>
    <product id='0x10ca'>82576 Virtual Function</product>
    <vendor id='0x8086'>Intel Corporation</vendor>
    <capability type='phys_function'>
      <address domain='0x0000' bus='0x21' slot='0x00' function='0x0'/>
    </capability>
    <pci-express>
      <link validity='cap' port='0' width='0'/>
      <link validity='sta' speed='2.5' width='1'/>
    </pci-express>
  </capability>
</device>
";

#[test]
fn a_function_is_read() {
    let facts = parse(NIC_AND_FUNCTION);
    let told = |address: &str, name| facts[address][name].clone();
    let nic = "0000:21:00.0";
    assert_eq!((told(nic, "ids"), told(nic, "class")), ("8086:10c9".into(), "020000".into()));
    assert_eq!((told(nic, "driver"), told(nic, "group")), ("igb".into(), "3".into()));
    assert_eq!((told(nic, "numa"), told(nic, "path")), ("1".into(), "0000:20:00.0".into()));
    assert_eq!(told(nic, "virtual functions"), "0000:21:10.0 0000:21:10.2");
    assert_eq!(told(nic, "virtual functions at most"), "7");
    assert_eq!(told(nic, "mdev types"), "lab-1 lab-2");
    assert_eq!(
        (told(nic, "link at most"), told(nic, "link now")),
        ("2.5GT/s x4".into(), "2.5GT/s x1".into())
    );
    let function = &facts["0000:21:10.0"];
    assert_eq!((function["physical function"].as_str(), function["driver"].as_str()), (nic, NONE));
    assert!(!function.contains_key("link now"));
}
