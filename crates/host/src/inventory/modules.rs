//! The running kernel's modules: which are available, and which vfio driver fits a function best.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use memchr::memmem;
use model::Function;

use super::builtin;
use super::modalias::Modalias;
use crate::root::Root;

/// The modules that matter for passthrough.
const OURS: [&str; 4] = ["vfio", "vfio_pci", "vfio_iommu_type1", "iommufd"];

/// The directories of kernel modules in distributions; the last is for NixOS.
const DIRECTORIES: [&str; 3] =
    ["lib/modules", "usr/lib/modules", "run/booted-system/kernel-modules/lib/modules"];

/// The files with the aliases of loadable and of built-in modules.
const LOADABLE: &str = "modules.alias";
const BUILT_IN: &str = "modules.builtin.modinfo";

/// `modules.alias` and `modules.dep` of a large distribution kernel have 2 MiB.
const LIMIT: usize = 32 << 20;

/// A cache of the module files, filled on demand.
#[derive(Debug, Default)]
pub struct Catalog {
    stamp: Option<Stamp>,
    available: Option<BTreeSet<&'static str>>,
    vfio_aliases: Option<Vec<Alias>>,
    vfio_drivers: HashMap<Modalias, String>,
    candidates: BTreeMap<Modalias, Vec<String>>,
}

/// The version of the module files: the directory, and the times and sizes of the files that matter.
type Stamp = (String, [Option<(i64, u64)>; 3]);

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
    /// Clears the cache if the files have changed.
    pub fn refresh(&mut self, root: &Root) {
        let Some(directory) = directory(root) else {
            *self = Self::default();
            return;
        };
        let state = |name: &str| {
            let stat = root.stat(&format!("{directory}/{name}")).ok()?;
            Some((stat.modified, stat.size))
        };
        let states = [state(LOADABLE), state("modules.dep"), state(BUILT_IN)];
        let stamp = Some((directory, states));
        if self.stamp != stamp {
            *self = Self { stamp, ..Self::default() };
        }
    }

    /// Whether a module is loaded, built in, or can be loaded.
    pub fn is_available(&mut self, root: &Root, module: &str) -> bool {
        if root.exists(&format!("sys/module/{module}")) {
            return true;
        }
        let files = || [self.file(root, "modules.builtin"), self.file(root, "modules.dep")];
        if self.available.is_none() {
            self.available = Some(files().iter().flat_map(|bytes| ours(bytes)).collect());
        }
        self.available.as_ref().is_some_and(|available| available.contains(module))
    }

    /// Chooses the vfio driver of each function: that of the alias with the fewest wildcards, like libvirt.
    pub fn choose_drivers<'a>(
        &mut self,
        root: &Root,
        functions: impl Iterator<Item = &'a mut Function>,
    ) {
        if self.vfio_aliases.is_none() {
            let files = [self.file(root, LOADABLE), self.file(root, BUILT_IN)];
            let aliases = patterns(&files, "vfio_pci:").map(|(pattern, module)| Alias {
                pattern: pattern.to_owned(),
                module: module.replace('-', "_"),
            });
            self.vfio_aliases = Some(aliases.collect());
        }
        let aliases = self.vfio_aliases.as_deref().unwrap_or_default();
        for function in functions {
            let modalias = Modalias::of(function);
            let chosen = self.vfio_drivers.entry(modalias);
            function.vfio_driver =
                chosen.or_insert_with(|| vfio_driver(root, aliases, modalias)).clone();
        }
    }

    /// Looks up the modules with a driver for functions, without vfio modules.
    pub fn candidates<'a>(
        &mut self,
        root: &Root,
        functions: impl Iterator<Item = &'a Function>,
    ) -> &BTreeMap<Modalias, Vec<String>> {
        let mut wanted: Vec<Modalias> = functions
            .map(Modalias::of)
            .filter(|modalias| !self.candidates.contains_key(modalias))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        if !wanted.is_empty() {
            let files = [self.file(root, LOADABLE), self.file(root, BUILT_IN)];
            self.candidates.extend(drivers_for(patterns(&files, "pci:"), &wanted));
        }
        &self.candidates
    }

    fn file(&self, root: &Root, name: &str) -> Vec<u8> {
        let Some((directory, _)) = &self.stamp else { return Vec::new() };
        root.bytes(&format!("{directory}/{name}"), LIMIT).unwrap_or_default()
    }
}

/// The modules of [`OURS`] in a list of modules.
fn ours(bytes: &[u8]) -> impl Iterator<Item = &'static str> {
    let named = |line: &[u8]| memmem::find(line, b"vfio").or(memmem::find(line, b"iommufd"));
    lines(bytes).filter(move |line| named(line).is_some()).filter_map(|line| {
        let name = module_of(line)?;
        OURS.into_iter().find(|ours| **ours == name)
    })
}

fn vfio_driver(root: &Root, aliases: &[Alias], modalias: Modalias) -> String {
    let text = modalias.to_string();
    let matching = aliases.iter().filter(|alias| matches(&alias.pattern, &text));
    let best = matching.min_by_key(|alias| alias.pattern.matches('*').count());
    match best.map(|alias| alias.module.as_str()) {
        None | Some("vfio_pci") => "vfio-pci".into(),
        Some(module) => driver_of(root, module),
    }
}

/// The driver of a variant module: the one that the loaded module registered, else the module's name, which all
/// variants in drivers/vfio/pci register (`.name = KBUILD_MODNAME`).
fn driver_of(root: &Root, module: &str) -> String {
    let drivers = root.names(&format!("sys/module/{module}/drivers")).unwrap_or_default();
    let driver = drivers.iter().find_map(|name| name.strip_prefix("pci:"));
    driver.unwrap_or(module).to_owned()
}

/// For each modalias, the names of the modules with a driver for it.
fn drivers_for<'a>(
    patterns: impl Iterator<Item = (&'a str, &'a str)>,
    wanted: &[Modalias],
) -> BTreeMap<Modalias, Vec<String>> {
    let mut found: BTreeMap<Modalias, Vec<String>> = BTreeMap::new();
    // The file has twenty thousand PCI lines, most of them for one vendor: each is compared with that vendor's
    // functions only.
    let mut vendors: HashMap<String, Vec<(String, Modalias)>> = HashMap::new();
    for modalias in wanted {
        let entry = (modalias.to_string(), *modalias);
        vendors.entry(format!("v{:08X}", modalias.vendor.0)).or_default().push(entry);
        found.entry(*modalias).or_default();
    }
    let all: Vec<_> = vendors.values().flatten().cloned().collect();
    for (pattern, module) in patterns {
        let vendor = pattern.get(..9).filter(|vendor| !vendor.contains('*'));
        let tried = match vendor {
            Some(vendor) => vendors.get(vendor).map(Vec::as_slice).unwrap_or_default(),
            None => &all,
        };
        for (_, modalias) in tried.iter().filter(|(text, _)| matches(pattern, text)) {
            let modules = found.entry(*modalias).or_default();
            modules.push(module.replace('-', "_"));
        }
    }
    for modules in found.values_mut() {
        modules.sort_unstable();
        modules.dedup();
    }
    found
}

/// The patterns and modules of one kind of aliases, in the files of loadable and of built-in modules.
fn patterns<'a>(
    [loadable, built_in]: &'a [Vec<u8>; 2],
    kind: &'static str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    aliases(loadable, kind).chain(builtin::aliases(built_in, kind))
}

/// The patterns and modules of the lines `alias pci:... module`.
fn aliases<'a>(bytes: &'a [u8], kind: &'static str) -> impl Iterator<Item = (&'a str, &'a str)> {
    const ALIAS: &[u8] = b"alias ";
    let starts = memmem::find_iter(bytes, kind.as_bytes()).filter_map(move |at| {
        let start = at.checked_sub(ALIAS.len())?;
        bytes.get(start..at).is_some_and(|word| word == ALIAS).then_some((start, at + kind.len()))
    });
    starts.filter_map(|(at, from)| {
        let begins = at == 0 || bytes.get(at - 1) == Some(&b'\n');
        let rest = bytes.get(from..).filter(|_| begins)?;
        let line = rest.get(..memchr::memchr(b'\n', rest).unwrap_or(rest.len()))?;
        let (pattern, module) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        Some((pattern, module.trim()))
    })
}

/// Whether a text matches a pattern in which `*` stands for any text. PCI module aliases have no other wildcard.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = text.find(part) else { return false };
        text = text.get(at + part.len()..).unwrap_or_default();
    }
    text.ends_with(last)
}

/// The directory of the running kernel's modules.
fn directory(root: &Root) -> Option<String> {
    let release = root.text("proc/sys/kernel/osrelease").ok()?;
    if release.contains('/') {
        return None;
    }
    let mut candidates = DIRECTORIES.iter().map(|directory| format!("{directory}/{release}"));
    candidates.find(|directory| root.exists(directory))
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b'\n', bytes).chain([bytes.len()]);
    ends.scan(0, |start, end| {
        let line = bytes.get(*start..end).unwrap_or_default();
        *start = end + 1;
        Some(line)
    })
}

/// The module of a line `kernel/drivers/vfio/pci/vfio-pci.ko.xz: ...`.
fn module_of(line: &[u8]) -> Option<String> {
    let path = line.split(|byte| *byte == b':').next()?;
    let name = std::str::from_utf8(path.rsplit(|byte| *byte == b'/').next()?).ok()?;
    Some(name.split_once(".ko")?.0.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn every_line_is_seen_once() {
        let seen: Vec<_> = lines(b"a\n\nbc").collect();
        assert_eq!(seen, [b"a".as_slice(), b"", b"bc"]);
        assert_eq!(lines(b"").count(), 1);
    }

    #[test]
    fn the_aliases_of_modules_are_read() {
        let file = b"# Aliases\n\
            alias pci:v000010DEd*sv*sd*bc03sc02i00* nvidia\n\
            alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau\n\
            alias pci:v*d*sv*sd*bc03sc*i* any-display\n\
            alias pci:v00008086d*sv*sd*bc03sc*i* i915\n\
            alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n\
            alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau\n";
        let gpu = Modalias::read("pci:v000010DEd000020B0sv000010DEsd00001450bc03sc02i00").unwrap();
        let built_in = b"nova-core.alias=pci:v000010DEd*sv*sd*bc03sc*i*\0nova-core.license=GPL\0";
        let files = [file.to_vec(), built_in.to_vec()];
        let found = drivers_for(patterns(&files, "pci:"), &[gpu]);
        assert_eq!(found[&gpu], ["any_display", "nouveau", "nova_core", "nvidia"]);
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "(alias (vfio_)?pci:[v*d0-9A-F]{0,20} ?[a-z]{0,4}\n|.|\n){0,9}") {
            let gpu = Modalias::read("pci:v000010DEd000020B0sv000010DEsd00001450bc03sc02i00");
            for file in [bytes.as_slice(), text.as_bytes()] {
                let _ = drivers_for(aliases(file, "pci:"), gpu.as_slice());
                let _ = ours(file).count();
                let _ = aliases(file, "vfio_pci:").count();
            }
        }

        #[test]
        fn a_pattern_made_from_a_text_matches_it(text in "[a-c]{0,12}", cuts in proptest::collection::vec(0usize..12, 0..4)) {
            let mut pattern = text.clone();
            for cut in cuts {
                let at = cut.min(pattern.len());
                let end = (at + 2).min(pattern.len());
                pattern.replace_range(at..end, "*");
            }
            prop_assert!(matches(&pattern, &text), "{} {}", pattern, text);
        }
    }
}
