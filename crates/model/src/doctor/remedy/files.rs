//! Files of the X server's configuration that are moved aside.

use super::super::{Platform, Remedy};
use super::shell::quoted;

/// Directories whose files belong to packages.
const OF_PACKAGES: [&str; 2] = ["/usr/share/", "/usr/lib/"];

/// Gives files another name, which their program ignores. A package would bring its file back with the next update:
/// dpkg is told to write it under the other name.
#[must_use]
pub fn move_aside<'a>(platform: &Platform, files: impl Iterator<Item = &'a str>) -> Remedy {
    let files: Vec<&str> = files.collect();
    if !files.iter().all(|file| file.chars().all(|c| c.is_ascii_graphic())) {
        return Remedy::words(format!(
            "rename {}, whose name has unusual characters",
            files.join(", ")
        ));
    }
    let diverts = platform.distribution.as_deref().is_some_and(|name| {
        let debian = ["debian", "ubuntu", "linuxmint", "pop", "raspbian", "devuan"];
        debian.contains(&name.split(' ').next().unwrap_or_default())
    });
    let of_package = |file: &str| OF_PACKAGES.iter().any(|start| file.starts_with(start));
    let command = |file: &&str| {
        let (from, to) = (quoted(file), quoted(&format!("{file}.disabled")));
        if diverts && of_package(file) {
            format!("dpkg-divert --local --rename --divert {to} --add {from}")
        } else {
            format!("[ ! -f {from} ] || mv -f {from} {to}")
        }
    };
    let commands = files.iter().map(command).collect();
    let mut words =
        format!("rename {}, then restart the desktop (`.disabled` is ignored)", files.join(", "));
    if !diverts && files.iter().any(|file| of_package(file)) {
        words += "; an update of the package that has it brings it back";
    }
    Remedy { words, commands, reboot: false }
}
