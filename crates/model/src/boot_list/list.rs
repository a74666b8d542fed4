//! The boot list file: one `ADDRESS VENDOR DEVICE DRIVER` per line. Comments and unknown lines are preserved.

use std::fmt;

use crate::{Address, Function, Id};

/// An entry of the boot list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootListEntry {
    /// Its address.
    pub address: Address,
    /// The vendor id that it must still have at boot.
    pub vendor: Id,
    /// The device id that it must still have at boot.
    pub device: Id,
    /// The vfio driver to bind.
    pub driver: String,
}

impl BootListEntry {
    /// Creates an entry.
    #[must_use]
    pub fn new(address: Address, vendor: Id, device: Id, driver: &str) -> Self {
        Self { address, vendor, device, driver: driver.to_owned() }
    }

    /// The entry for a function, with its current ids.
    #[must_use]
    pub fn of(function: &Function) -> Self {
        let Function { address, vendor, device, vfio_driver, .. } = function;
        Self { address: *address, vendor: *vendor, device: *device, driver: vfio_driver.clone() }
    }

    /// Parses a line; `None` if it is not an entry.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let mut word = || words.next();
        let address = word()?.parse().ok()?;
        let vendor = word()?.strip_prefix("0x")?.parse().ok()?;
        let device = word()?.strip_prefix("0x")?.parse().ok()?;
        let driver = word()?.to_owned();
        words.next().is_none().then_some(Self { address, vendor, device, driver })
    }
}

impl fmt::Display for BootListEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, vendor, device, driver } = self;
        write!(f, "{address} 0x{vendor} 0x{device} {driver}")
    }
}

/// The entries, in order.
#[must_use]
pub fn entries(list: &str) -> Vec<BootListEntry> {
    list.lines().filter_map(BootListEntry::read).collect()
}

/// The lines that are neither entries nor comments, with their numbers. The boot script ignores them.
pub fn unread_lines(list: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = list.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered.filter(|(_, line)| {
        let text = line.trim();
        !text.is_empty() && !text.starts_with('#') && BootListEntry::read(line).is_none()
    })
}

/// The list with these entries: they replace entries with the same addresses, or are appended.
#[must_use]
pub fn with(list: &str, wanted: &[BootListEntry]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut had: Vec<Address> = Vec::new();
    for line in list.lines() {
        let own = BootListEntry::read(line)
            .and_then(|old| wanted.iter().find(|wanted| wanted.address == old.address));
        match own {
            None => lines.push(line.to_owned()),
            Some(own) if had.contains(&own.address) => {}
            Some(own) => {
                had.push(own.address);
                lines.push(own.to_string());
            }
        }
    }
    let new = wanted.iter().filter(|wanted| !had.contains(&wanted.address));
    lines.extend(new.map(ToString::to_string));
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The list without these addresses.
#[must_use]
pub fn without(list: &str, addresses: &[Address]) -> String {
    let stays = |line: &&str| {
        BootListEntry::read(line).is_none_or(|reserved| !addresses.contains(&reserved.address))
    };
    list.lines().filter(stays).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reserved(text: &str) -> BootListEntry {
        BootListEntry::read(text).unwrap()
    }

    #[test]
    fn lines_of_others_stay_where_they_are() {
        let gpu = reserved("0000:01:00.0 0x10de 0x20b0 vfio-pci");
        let list = "# mine\n0000:01:00.0 0x10de 0x1b38 vfio-pci\n\nwhat is this\n0000:02:00.0 0x8086 0x10fb vfio-pci\n";
        let changed = with(list, std::slice::from_ref(&gpu));
        assert_eq!(
            changed,
            "# mine\n0000:01:00.0 0x10de 0x20b0 vfio-pci\n\nwhat is this\n0000:02:00.0 0x8086 0x10fb vfio-pci\n"
        );
        assert_eq!(with(&changed, std::slice::from_ref(&gpu)), changed);
        let other = reserved("0000:02:00.0 0x8086 0x10fb vfio-pci");
        assert_eq!(
            without(&changed, &[other.address]),
            with("# mine\n0000:01:00.0 0x10de 0x20b0 vfio-pci\n\nwhat is this\n", &[gpu])
        );
    }

    proptest! {
        #[test]
        fn what_is_put_in_is_there_once_and_can_be_taken_out(list in "(#?[0-9a-fx:. \t]{0,40}\n){0,6}") {
            let gpu = reserved("0000:01:00.0 0x10de 0x20b0 vfio-pci");
            let more = with(&list, std::slice::from_ref(&gpu));
            prop_assert_eq!(entries(&more).iter().filter(|one| **one == gpu).count(), 1);
            let less = without(&more, &[gpu.address]);
            prop_assert!(entries(&less).iter().all(|one| one.address != gpu.address));
            prop_assert_eq!(without(&list, &[gpu.address]), less);
        }
    }
}
