//! Names of vendors and devices, from the system's `pci.ids`. Only those that are asked for are kept.

use std::collections::{BTreeMap, BTreeSet};

use model::{Function, Id};

use crate::root::Root;

/// Where distributions keep the file.
const PLACES: [&str; 3] =
    ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids"];

/// The file has about 1.5 MiB.
const LIMIT: usize = 32 << 20;

/// The names that were looked up, and in which state of which file.
#[derive(Debug, Default)]
pub struct Catalog {
    stamp: Option<(&'static str, i64, u64)>,
    looked_up: BTreeSet<(Id, Id)>,
    vendors: BTreeMap<Id, String>,
    devices: BTreeMap<(Id, Id), String>,
}

impl Catalog {
    /// Names functions. A host without the file has no names.
    pub fn name<'a>(&mut self, root: &Root, functions: impl Iterator<Item = &'a mut Function>) {
        let functions: Vec<_> = functions.collect();
        let stamp = PLACES.iter().find_map(|place| {
            let stat = root.stat(place).ok()?;
            Some((*place, stat.modified, stat.size))
        });
        if stamp != self.stamp {
            *self = Self { stamp, ..Self::default() };
        }
        let wanted: BTreeSet<_> = functions.iter().map(|f| (f.vendor, f.device)).collect();
        if let Some((place, ..)) = stamp
            && !wanted.is_subset(&self.looked_up)
        {
            self.look_up(&root.bytes(place, LIMIT).unwrap_or_default(), &wanted);
            self.looked_up.extend(wanted);
        }
        for function in functions {
            function.vendor_name = self.vendors.get(&function.vendor).cloned();
            let key = (function.vendor, function.device);
            function.device_name = self.devices.get(&key).cloned();
        }
    }

    /// Reads the wanted names: a vendor's line begins with its id, its devices' lines with a tab, their subsystems'
    /// with two; the classes, whose lines begin with `C`, come last.
    fn look_up(&mut self, ids: &[u8], wanted: &BTreeSet<(Id, Id)>) {
        let vendors: BTreeSet<Id> = wanted.iter().map(|(vendor, _)| *vendor).collect();
        let mut vendor = None;
        let mut rest = ids;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            match line {
                [b'C', b' ', ..] => break,
                [b'\t', b'\t', ..] | [b'#', ..] | [] => {}
                [b'\t', device @ ..] => {
                    let Some(vendor) = vendor else { continue };
                    let Some((device, name)) = entry(device) else { continue };
                    if wanted.contains(&(vendor, device)) {
                        self.devices.insert((vendor, device), name);
                    }
                }
                line => {
                    vendor = None;
                    let Some((id, name)) = entry(line) else { continue };
                    if vendors.contains(&id) {
                        vendor = Some(id);
                        self.vendors.insert(id, name);
                    }
                }
            }
        }
    }
}

/// `10de  NVIDIA Corporation`.
fn entry(line: &[u8]) -> Option<(Id, String)> {
    let (id, name) = (line.get(..4)?, line.get(4..)?);
    let id = std::str::from_utf8(id).ok()?;
    let id = u16::from_str_radix(id, 16).ok().map(Id)?;
    Some((id, String::from_utf8_lossy(name).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_what_is_wanted_and_no_more() {
        let ids = "# comment\n\n10de  NVIDIA Corporation\n\t20b0  GA100 [A100 SXM4 40GB]\n\
                   \t\t10de 1450  HGX\n\t20b2  GA100 [A100 SXM4 80GB]\n8086  Intel Corporation\n\
                   \t10d3  82574L\nC 03  Display controller\n\t00  VGA\n";
        let mut catalog = Catalog::default();
        let wanted = BTreeSet::from([(Id(0x10de), Id(0x20b0)), (Id(0x10de), Id(0x1450))]);
        catalog.look_up(ids.as_bytes(), &wanted);
        assert_eq!(catalog.vendors, BTreeMap::from([(Id(0x10de), "NVIDIA Corporation".into())]));
        let name = "GA100 [A100 SXM4 40GB]".to_owned();
        assert_eq!(catalog.devices, BTreeMap::from([((Id(0x10de), Id(0x20b0)), name)]));
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "([0-9a-f]{0,5} |\t|\n|C |.){0,30}") {
            let wanted = BTreeSet::from([(Id(0), Id(0)), (Id(0x10de), Id(0x20b0))]);
            for file in [bytes.as_slice(), text.as_bytes()] {
                Catalog::default().look_up(file, &wanted);
            }
        }
    }
}
