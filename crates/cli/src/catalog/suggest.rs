//! Suggests a devices file, with a comment for each device.

use std::fmt::Write as _;

use model::catalog::{Catalog, ClassOrDevice, Line};
use model::shown::escaped;
use model::{Inventory, Kind};

/// The file as text. All values consist of letters, digits, `.` and `-`, so quotes suffice.
pub fn render(inventory: &Inventory) -> String {
    let catalog = Catalog::suggested(inventory);
    let mut text = "\
# Devices of this host that can be requested by name: TYPE.VENDOR/NAME.
# Remove devices that must stay with the host, change the names as you like, then run: handover catalog check FILE
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

/// The name and address of the device. Names of `pci.ids` are untrusted text.
fn comment(inventory: &Inventory, line: &Line) -> String {
    let meant: Vec<_> = inventory.functions.values().filter(|f| line.fits(f)).collect();
    let Some(first) = meant.first() else { return String::new() };
    let mut text = format!("      # {}: {}", escaped(&first.title()), first.address);
    if meant.len() > 1 {
        let _ = write!(text, " and {} more", meant.len() - 1);
    }
    if first.kind() == Kind::Gpu && first.boot_vga {
        text.push_str(", shows the console");
    }
    if first.physical_function.is_some() {
        text.push_str(", a virtual function");
    }
    text.push('\n');
    text
}
