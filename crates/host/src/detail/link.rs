//! The PCIe link from the kernel's attributes (Documentation/ABI/testing/sysfs-bus-pci), for readers without access to
//! the registers.

use model::{Link, LinkBaseline};

use super::config::Config;
use super::registers;
use crate::root::Dir;

/// The present speed and width of the link, from configuration space, or from attributes if only the header can be
/// read; `None` if there is no link or it is down.
pub fn baseline(dir: &Dir, config: Config<'_>) -> Option<LinkBaseline> {
    let link =
        if config.is_header_only() { of_attributes(dir) } else { registers::link_of(config) };
    let Link { speed, width, .. } = link?;
    (speed != 0 && width != 0).then_some(LinkBaseline { speed, width })
}

/// Reads the link; `None` if the function has none.
pub fn of_attributes(dir: &Dir) -> Option<Link> {
    let text = |name: &str| dir.attribute(name).unwrap_or_default();
    let width = |name: &str| text(name).parse::<u8>().unwrap_or_default();
    let max_width = width("max_link_width");
    // The kernel shows 255 if the capability reads all ones, and 0 if there is no link.
    if matches!(max_width, 0 | 255) {
        return None;
    }
    let width = width("current_link_width");
    let speed = if width == 0 { 0 } else { speed(&text("current_link_speed")) };
    Some(Link { speed, width, max_speed: speed_of_max(dir), max_width })
}

fn speed_of_max(dir: &Dir) -> u16 {
    speed(&dir.attribute("max_link_speed").unwrap_or_default())
}

/// `8.0 GT/s PCIe` in tenths of GT/s; 0 for `Unknown` (`pci_speed_string` in drivers/pci/probe.c).
fn speed(text: &str) -> u16 {
    let number = text.split_once(" GT/s").map(|(number, _)| number).unwrap_or_default();
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let digits = whole.parse::<u16>().ok().zip(tenth.parse::<u16>().ok());
    let tenths = digits.filter(|(_, tenth)| *tenth < 10);
    tenths.and_then(|(whole, tenth)| whole.checked_mul(10)?.checked_add(tenth)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read() {
        let read = ["2.5 GT/s PCIe", "8.0 GT/s PCIe", "16 GT/s", "Unknown", "", "9999999.9 GT/s"];
        assert_eq!(read.map(speed), [25, 80, 160, 0, 0, 0]);
    }
}
