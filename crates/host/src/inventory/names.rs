//! Names of vendors and devices, from the system's `pci.ids`. Only names that were looked up are kept.

use std::collections::{BTreeMap, BTreeSet};

use model::{Function, Id};

use crate::root::Root;

/// The paths of the file in distributions.
const FILES: [&str; 3] =
    ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids"];

/// The file has about 1.5 MiB.
const LIMIT: usize = 32 << 20;

/// A cache of the names that were looked up, and the version of the file.
#[derive(Debug, Default)]
pub struct Catalog {
    /// This host, whose file is read if the root has none.
    fallback: Option<Root>,
    stamp: Option<(&'static str, i64, u64)>,
    looked_up: BTreeSet<(Id, Id)>,
    vendors: BTreeMap<Id, String>,
    devices: BTreeMap<(Id, Id), String>,
}

impl Catalog {
    /// Takes names from another root, if the root that is read has no file of names.
    pub fn or_from(&mut self, root: Root) {
        self.fallback = Some(root);
    }

    /// Names functions. A host without the file has no names.
    pub fn name<'a>(&mut self, root: &Root, functions: impl Iterator<Item = &'a mut Function>) {
        let functions: Vec<_> = functions.collect();
        let stamp_in = |root: &Root| {
            FILES.iter().find_map(|file| {
                let stat = root.stat(file).ok()?;
                Some((*file, stat.modified, stat.size))
            })
        };
        let fallback = self.fallback.take();
        let own = stamp_in(root);
        let (place, stamp) = match (&own, &fallback) {
            (None, Some(host)) => (host, stamp_in(host)),
            _ => (root, own),
        };
        if stamp != self.stamp {
            *self = Self { stamp, ..Self::default() };
        }
        let wanted: BTreeSet<_> = functions.iter().map(|f| (f.vendor, f.device)).collect();
        if let Some((file, ..)) = stamp
            && !wanted.is_subset(&self.looked_up)
        {
            self.look_up(&place.bytes(file, LIMIT).unwrap_or_default(), &wanted);
            self.looked_up.extend(wanted);
        }
        self.fallback = fallback;
        for function in functions {
            function.vendor_name = self.vendors.get(&function.vendor).cloned();
            let key = (function.vendor, function.device);
            function.device_name = self.devices.get(&key).cloned();
            if function.device_name.is_none() && function.driver.as_deref() == Some("nvidia") {
                self.ask_driver(root, function);
            }
        }
    }

    /// Takes the name from NVIDIA's driver: on most systems `pci.ids` lacks cards of the last year.
    fn ask_driver(&mut self, root: &Root, function: &mut Function) {
        let Some(model) = crate::nodes::nvidia_model(root, function.address) else { return };
        let name = model.strip_prefix("NVIDIA ").unwrap_or(&model);
        let vendor = function.vendor_name.get_or_insert_with(|| "NVIDIA Corporation".to_owned());
        self.vendors.insert(function.vendor, vendor.clone());
        self.devices.insert((function.vendor, function.device), name.to_owned());
        function.device_name = Some(name.to_owned());
    }

    /// Reads the wanted names. One search per vendor is much faster than reading every line.
    fn look_up(&mut self, ids: &[u8], wanted: &BTreeSet<(Id, Id)>) {
        let vendors: BTreeSet<Id> = wanted.iter().map(|(vendor, _)| *vendor).collect();
        for vendor in vendors {
            let Some(block) = block(ids, vendor) else { continue };
            self.look_up_in(block, vendor, wanted);
        }
    }

    /// Reads the names in a vendor's block. A vendor's line begins with its id, its devices' lines with a tab, their
    /// subsystems' lines with two tabs.
    fn look_up_in(&mut self, block: &[u8], vendor: Id, wanted: &BTreeSet<(Id, Id)>) {
        let mut lines = block.split(|byte| *byte == b'\n');
        if let Some(line) = lines.next() {
            self.vendors.insert(vendor, name(line));
        }
        for line in lines {
            match line {
                [b'\t', b'\t', ..] | [b'#', ..] | [] => {}
                [b'\t', device @ ..] => {
                    let Some(id) = id(device).filter(|id| wanted.contains(&(vendor, *id))) else {
                        continue;
                    };
                    self.devices.insert((vendor, id), name(device));
                }
                _ => break,
            }
        }
    }
}

/// The rest of the file from the line of a vendor on; no other line begins like it.
fn block(ids: &[u8], vendor: Id) -> Option<&[u8]> {
    let line = format!("\n{:04x}  ", vendor.0);
    let start = match line.get(1..) {
        Some(first) if ids.starts_with(first.as_bytes()) => 0,
        _ => memchr::memmem::find(ids, line.as_bytes())? + 1,
    };
    ids.get(start..)
}

/// The id in `10de  NVIDIA Corporation`.
fn id(line: &[u8]) -> Option<Id> {
    let digits = std::str::from_utf8(line.get(..4)?).ok()?;
    u16::from_str_radix(digits, 16).ok().map(Id)
}

/// The name in that line.
fn name(line: &[u8]) -> String {
    String::from_utf8_lossy(line.get(4..).unwrap_or_default()).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_wanted_names_are_kept() {
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

    #[test]
    fn names_come_from_the_other_root_only_if_there_are_none() {
        let place = || {
            let place = tempfile::tempdir().unwrap();
            let root = Root::open(place.path()).unwrap();
            (place, root)
        };
        let (host, host_root) = place();
        let file = host.path().join("usr/share/misc/pci.ids");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "10de  NVIDIA Corporation\n\t20b0  GA100\n").unwrap();
        let (tree, root) = place();
        let mut catalog = Catalog::default();
        catalog.or_from(host_root);
        let mut named = || {
            let mut gpu = Function::unknown("0000:01:00.0".parse().unwrap());
            (gpu.vendor, gpu.device) = (Id(0x10de), Id(0x20b0));
            catalog.name(&root, std::iter::once(&mut gpu));
            gpu.title()
        };
        for _ in 0..2 {
            assert_eq!(named(), "NVIDIA Corporation GA100");
        }
        let own = tree.path().join("usr/share/hwdata/pci.ids");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "10de  NVIDIA\n").unwrap();
        assert_eq!(named(), "NVIDIA 20b0");
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
