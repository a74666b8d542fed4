//! The running kernel's modules: which can be had, and which vfio driver fits a function best.

use std::collections::BTreeSet;

use model::Function;

use crate::root::Root;

/// The modules that matter to a hand-over.
const OURS: [&str; 4] = ["vfio", "vfio_pci", "vfio_iommu_type1", "iommufd"];

/// Where distributions keep the modules of a kernel; the last is NixOS.
const PLACES: [&str; 3] =
    ["lib/modules", "usr/lib/modules", "run/booted-system/kernel-modules/lib/modules"];

/// `modules.alias` and `modules.dep` of a large distribution kernel have 2 MiB.
const LIMIT: usize = 32 << 20;

/// What the module files say, and which state of them.
#[derive(Debug, Default)]
pub struct Catalog {
    stamp: Option<Stamp>,
    available: BTreeSet<&'static str>,
    aliases: Vec<Alias>,
}

/// A state of the module files: the directory, and when `modules.alias` and `modules.dep` were written.
type Stamp = (String, [Option<(i64, u64)>; 2]);

/// One `alias vfio_pci:... module` (`MODULE_DEVICE_TABLE` with `PCI_DRIVER_OVERRIDE_DEVICE_VFIO`).
#[derive(Debug)]
struct Alias {
    pattern: String,
    module: String,
}

/// Whether a module is loaded or built in.
pub fn module_present(root: &Root, module: &str) -> bool {
    if root.exists(&format!("sys/module/{module}")) {
        return true;
    }
    // A built-in module without parameters has no directory below /sys/module.
    let builtin = || {
        let file = format!("{}/modules.builtin", directory(root)?);
        let bytes = root.bytes(&file, LIMIT).ok()?;
        Some(lines(&bytes).any(|line| module_of(line).is_some_and(|name| name == module)))
    };
    let driver = format!("sys/bus/pci/drivers/{}", module.replace('_', "-"));
    builtin().unwrap_or(false) || root.exists(&driver)
}

impl Catalog {
    /// Reads the files again if they have changed.
    pub fn refresh(&mut self, root: &Root) {
        let Some(place) = directory(root) else {
            *self = Self::default();
            return;
        };
        let state = |name: &str| {
            let stat = root.stat(&format!("{place}/{name}")).ok()?;
            Some((stat.st_mtime, u64::try_from(stat.st_size).unwrap_or_default()))
        };
        let stamp = (place.clone(), [state("modules.alias"), state("modules.dep")]);
        if self.stamp.as_ref() == Some(&stamp) {
            return;
        }
        let read = |name: &str| root.bytes(&format!("{place}/{name}"), LIMIT).unwrap_or_default();
        let mut available = BTreeSet::new();
        for file in ["modules.builtin", "modules.dep"] {
            for name in lines(&read(file)).filter_map(module_of) {
                available.extend(OURS.iter().find(|ours| **ours == name));
            }
        }
        let aliases = lines(&read("modules.alias")).filter_map(Alias::read).collect();
        *self = Self { stamp: Some(stamp), available, aliases };
    }

    /// Whether a module is loaded, built in, or can be loaded.
    pub fn can_have(&self, root: &Root, module: &str) -> bool {
        self.available.contains(module) || root.exists(&format!("sys/module/{module}"))
    }

    /// The vfio driver for a function: that of the alias with the fewest wildcards, as libvirt chooses.
    pub fn vfio_driver(&self, root: &Root, function: &Function) -> String {
        let modalias = modalias(function);
        let matching = self.aliases.iter().filter(|alias| matches(&alias.pattern, &modalias));
        let best = matching.min_by_key(|alias| alias.pattern.matches('*').count());
        match best.map(|alias| alias.module.as_str()) {
            None | Some("vfio_pci") => "vfio-pci".into(),
            Some(module) => driver_of(root, module),
        }
    }
}

/// The driver of a variant module: what the loaded module registered, else the module's own name, which is what all
/// variants in drivers/vfio/pci register (`.name = KBUILD_MODNAME`).
fn driver_of(root: &Root, module: &str) -> String {
    let drivers = root.names(&format!("sys/module/{module}/drivers")).unwrap_or_default();
    let driver = drivers.iter().find_map(|name| name.strip_prefix("pci:"));
    driver.unwrap_or(module).to_owned()
}

impl Alias {
    fn read(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"alias vfio_pci:")?;
        let (pattern, module) = std::str::from_utf8(rest).ok()?.split_once(' ')?;
        Some(Self { pattern: pattern.to_owned(), module: module.trim().replace('-', "_") })
    }
}

/// A function's modalias without its `pci:` (`pci_uevent` in drivers/pci/pci-driver.c).
fn modalias(function: &Function) -> String {
    let Function { vendor, device, class, .. } = function;
    let id = |id: Option<model::Id>| id.map_or(0, |id| id.0);
    format!(
        "v{:08X}d{:08X}sv{:08X}sd{:08X}bc{:02X}sc{:02X}i{:02X}",
        vendor.0,
        device.0,
        id(function.subsystem_vendor),
        id(function.subsystem_device),
        class.0 >> 16 & 0xff,
        class.0 >> 8 & 0xff,
        class.0 & 0xff,
    )
}

/// Whether a text matches a pattern in which `*` stands for any text; module aliases of PCI have no other wildcard.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

/// The directory of the running kernel's modules.
fn directory(root: &Root) -> Option<String> {
    let release = root.text("proc/sys/kernel/osrelease").ok()?;
    if release.contains('/') {
        return None;
    }
    let places = PLACES.iter().map(|place| format!("{place}/{release}"));
    places.into_iter().find(|place| root.exists(place))
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

/// The module that a line `kernel/drivers/vfio/pci/vfio-pci.ko.xz: ...` is about.
fn module_of(line: &[u8]) -> Option<String> {
    let path = line.split(|byte| *byte == b':').next()?;
    let name = std::str::from_utf8(path.rsplit(|byte| *byte == b'/').next()?).ok()?;
    Some(name.split_once(".ko")?.0.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let text = "v000015B3d0000101Esv000015B3sd00000001bc02sc00i00";
        for right in ["v*d*sv*sd*bc*sc*i*", "v000015B3d0000101Esv*sd*bc*sc*i*", text, "*"] {
            assert!(matches(right, text), "{right}");
        }
        for wrong in ["", "v000010DEd*sv*sd*bc*sc*i*", "v*d*sv*sd*bc03sc*i*", "v*i01"] {
            assert!(!matches(wrong, text), "{wrong}");
        }
    }

    #[test]
    fn a_line_names_its_module() {
        let name = |line: &str| module_of(line.as_bytes());
        assert_eq!(name("kernel/drivers/vfio/pci/vfio-pci.ko.zst: a.ko").unwrap(), "vfio_pci");
        assert_eq!(name("kernel/drivers/vfio/vfio.ko").unwrap(), "vfio");
        assert_eq!(name("nonsense"), None);
    }
}
