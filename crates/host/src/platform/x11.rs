//! The X server's configuration: files that name a graphics driver or a card (xorg.conf(5)).

use model::Address;
use model::doctor::X11File;

use super::long_text;
use crate::root::Root;

/// Single files, then directories of files.
const FILES: [&str; 2] = ["etc/X11/xorg.conf", "usr/lib/xorg/xorg.conf"];
const DIRECTORIES: [&str; 4] = [
    "etc/X11/xorg.conf.d",
    "usr/share/X11/xorg.conf.d",
    "usr/lib/X11/xorg.conf.d",
    "usr/etc/X11/xorg.conf.d",
];

/// The files that name a driver or a card.
pub fn read(root: &Root) -> Vec<X11File> {
    let mut paths: Vec<String> = FILES.iter().map(|&file| file.to_owned()).collect();
    for directory in DIRECTORIES {
        let names = root.names(directory).unwrap_or_default().into_iter();
        let names = names.filter(|name| name.ends_with(".conf"));
        paths.extend(names.map(|name| format!("{directory}/{name}")));
    }
    let files = paths.into_iter().filter_map(|path| {
        let file = read_one(&path, &long_text(root, &path).ok()?);
        (!file.drivers.is_empty() || !file.cards.is_empty()).then_some(file)
    });
    files.collect()
}

fn read_one(path: &str, text: &str) -> X11File {
    let mut file = X11File { path: format!("/{path}"), ..X11File::default() };
    for line in text.lines() {
        let Some((key, value)) = statement(line) else { continue };
        match key.as_str() {
            // `MatchDriver` is the driver of the kernel, `Driver` that of the server; input drivers are named alike.
            "driver" | "matchdriver" => file.drivers.extend(graphics(value)),
            "busid" => file.cards.extend(card(value)),
            _ => {}
        }
    }
    file.drivers.sort();
    file.drivers.dedup();
    file
}

/// A statement's key, in small letters without `_` (as the server compares them), and its quoted value.
fn statement(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    let (key, rest) = line.split_once(char::is_whitespace)?;
    let value = rest.trim().strip_prefix('"')?.split('"').next()?;
    let key = key.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect();
    Some((key, value))
}

/// The drivers of cards that are handed over; others, such as `libinput` and `modesetting`, pin no card.
fn graphics(value: &str) -> Option<String> {
    let known = ["nvidia", "nouveau", "amdgpu", "radeon", "intel", "i915", "xe"];
    let name = value.to_ascii_lowercase();
    let base = name.split('-').next().unwrap_or_default();
    known.contains(&base).then_some(name)
}

/// `PCI:1:0:0`, `PCI:2@0:0:0`: bus, domain, device and function in decimal numbers.
fn card(value: &str) -> Option<Address> {
    let (scheme, rest) = value.split_once(':')?;
    scheme.eq_ignore_ascii_case("pci").then_some(())?;
    let mut parts = rest.split(':');
    let (bus, device) = (parts.next()?, parts.next()?);
    let function = parts.next().unwrap_or("0");
    let (bus, domain) = bus.split_once('@').unwrap_or((bus, "0"));
    let number = |text: &str| text.trim().parse::<u8>().ok();
    Address::new(domain.trim().parse().ok()?, number(bus)?, number(device)?, number(function)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_and_cards_are_read() {
        let text = "# Driver \"nvidia\"\nSection \"OutputClass\"\n  MatchDriver \"nvidia-drm\"\n\tDriver\t\"nvidia\"\n\
                    EndSection\nSection \"Device\"\n Bus_ID \"PCI:10@1:0:0\"\n Driver \"libinput\"\n BusID \"PCI:x\"";
        let file = read_one("etc/X11/xorg.conf", text);
        assert_eq!(file.path, "/etc/X11/xorg.conf");
        assert_eq!(file.drivers, ["nvidia", "nvidia-drm"]);
        assert_eq!(file.cards, [Address::new(1, 10, 0, 0).unwrap()]);
    }
}
