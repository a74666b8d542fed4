//! A first devices file, with a comment for each device.

use std::fmt::Write as _;

use model::catalog::{Catalog, ClassOrDevice, Line};
use model::{Inventory, Kind};

/// The file as text. All its values are ids and names of letters, digits, `.` and `-`, so that quotes are enough.
pub fn render(inventory: &Inventory) -> String {
    let catalog = Catalog::suggested(inventory);
    let mut text = "\
# Devices of this host that may be handed over, each under the name by which it is asked for: TYPE.VENDOR/NAME.
# Remove what shall stay, change the names as you like, then: handover catalog check FILE
"
    .to_owned();
    if catalog.lines.is_empty() {
        text.push_str("vendors: []\n");
        return text;
    }
    text.push_str("vendors:\n");
    let mut vendor = None;
    for line in &catalog.lines {
        if vendor != Some(line.vendor) {
            vendor = Some(line.vendor);
            let name = &line.vendor_name;
            let _ =
                write!(text, "  - id: \"0x{}\"\n    name: \"{name}\"\n    devices:\n", line.vendor);
        }
        let id = match line.pattern.id {
            ClassOrDevice::Class(class) => class.to_string(),
            ClassOrDevice::Device(device) => device.to_string(),
        };
        let _ = write!(
            text,
            "{}      - id: \"0x{id}\"\n        name: \"{}\"\n        type: \"{}\"\n",
            comment(inventory, line),
            line.name,
            line.kind
        );
    }
    text
}

/// What the line means, and where: names of `pci.ids` are somebody else's text, so control characters are left out.
fn comment(inventory: &Inventory, line: &Line) -> String {
    let meant: Vec<_> = inventory.functions.values().filter(|f| line.fits(f)).collect();
    let Some(first) = meant.first() else { return String::new() };
    let name: String = first.title().chars().filter(|letter| !letter.is_control()).collect();
    let mut text = format!("      # {name}: {}", first.address);
    if meant.len() > 1 {
        let _ = write!(text, " and {} more", meant.len() - 1);
    }
    if first.kind() == Kind::Gpu && first.boot_vga {
        text.push_str(", the one that shows the console");
    }
    if first.physical_function.is_some() {
        text.push_str(", a virtual function");
    }
    text.push('\n');
    text
}
