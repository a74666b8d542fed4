//! What `depmod` wrote about a kernel's modules: `modules.dep`, `modules.builtin`, `modules.softdep`, `modules.alias`.

use std::collections::{BTreeMap, BTreeSet};

use crate::normal;
use crate::pattern::matches;

/// The most modules that one needs.
const MAX_DEPENDENCIES: usize = 256;

/// The files that `depmod` wrote. Those that are missing are empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'a> {
    /// `modules.dep`.
    pub dep: &'a str,
    /// `modules.builtin`.
    pub builtin: &'a str,
    /// `modules.softdep`.
    pub softdep: &'a str,
    /// `modules.alias`.
    pub alias: &'a str,
}

/// A kernel's modules by name.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The path of each, and the paths of what it needs, nearest first.
    modules: BTreeMap<String, (String, Vec<String>)>,
    built_in: BTreeSet<String>,
    /// What should be loaded before each, if it is there: names or aliases.
    soft: BTreeMap<String, Vec<String>>,
    /// The modules of each alias that has no wildcard.
    aliases: BTreeMap<String, Vec<String>>,
    /// Aliases with wildcards, and their modules.
    patterns: Vec<(String, String)>,
}

impl Index {
    /// Reads the texts.
    #[must_use]
    pub fn new(texts: &Texts<'_>) -> Self {
        let mut index =
            Self { built_in: texts.builtin.lines().map(module_name).collect(), ..Self::default() };
        for line in texts.dep.lines() {
            let Some((path, dependencies)) = line.split_once(':') else { continue };
            let dependencies = dependencies.split_whitespace().map(str::to_owned).collect();
            index.modules.insert(module_name(path), (path.to_owned(), dependencies));
        }
        texts.softdep.lines().for_each(|line| index.read_soft(line));
        texts.alias.lines().for_each(|line| index.read_alias(line));
        index
    }

    fn read_alias(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (Some("alias"), Some(alias), Some(module)) = (words.next(), words.next(), words.next())
        else {
            return;
        };
        if alias.contains(['*', '?', '[']) {
            self.patterns.push((alias.to_owned(), normal(module)));
        } else {
            self.aliases.entry(normal(alias)).or_default().push(normal(module));
        }
    }

    /// The modules for a device, by its alias (the file `modalias` in sysfs).
    #[must_use]
    pub fn for_device(&self, alias: &str) -> Vec<&str> {
        let exact = self.aliases.get(&normal(alias)).into_iter().flatten().map(String::as_str);
        let matching = self.patterns.iter().filter(|(pattern, _)| matches(pattern, alias));
        exact.chain(matching.map(|(_, module)| module.as_str())).collect()
    }

    fn read_soft(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { return };
        let mut before = false;
        for word in words {
            match word {
                "pre:" => before = true,
                "post:" => before = false,
                name if before => {
                    self.soft.entry(normal(module)).or_default().push(normal(name));
                }
                _ => {}
            }
        }
    }

    /// Whether the kernel has it without a module.
    #[must_use]
    pub fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(&normal(name))
    }

    /// The paths of a module and all that it needs, in the order in which they are loaded; none if there is no such
    /// module.
    #[must_use]
    pub fn with_dependencies(&self, name: &str) -> Option<Vec<String>> {
        let mut order = Vec::new();
        self.add(&normal(name), &mut order, &mut BTreeSet::new())?;
        Some(order)
    }

    fn add(&self, name: &str, order: &mut Vec<String>, seen: &mut BTreeSet<String>) -> Option<()> {
        let (path, dependencies) = self.modules.get(name)?;
        // A circle of soft dependencies ends here.
        if seen.len() >= MAX_DEPENDENCIES || !seen.insert(name.to_owned()) {
            return Some(());
        }
        for soft in self.soft.get(name).into_iter().flatten() {
            let aliased = self.aliases.get(soft).into_iter().flatten();
            for module in aliased.chain([soft]) {
                // It may be built in, or not there at all: then the module works without it.
                let _ = self.add(module, order, seen);
            }
        }
        // `modules.dep` lists all that is needed, the nearest first.
        for path in dependencies.iter().rev() {
            let needed = module_name(path);
            if self.add(&needed, order, seen).is_none() && !order.contains(path) {
                order.push(path.clone());
            }
        }
        if !order.contains(path) {
            order.push(path.clone());
        }
        Some(())
    }
}

/// A module's name from its path, as the kernel shows it.
#[must_use]
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split_once(".ko").map_or(file, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXTS: Texts<'_> = Texts {
        dep: "kernel/nvidia-drm.ko.xz: kernel/nvidia-modeset.ko kernel/nvidia.ko\n\
              kernel/nvidia-modeset.ko: kernel/nvidia.ko\nkernel/nvidia.ko:\nkernel/crc32c-intel.ko:\nno colon\n",
        builtin: "kernel/fs/ext4/ext4.ko\n",
        softdep: "softdep nvidia pre: crc32c gone post: after\nsoftdep crc32c-intel pre: nvidia\n",
        alias: "alias pci:v000010DEd*sv*sd*bc03sc02i00* nvidia\nalias crc32c crc32c-intel\nalias short\n",
    };

    #[test]
    fn a_device_has_its_modules_and_they_their_order() {
        let index = Index::new(&TEXTS);
        let device = "pci:v000010DEd00002330sv000010DEsd000016C1bc03sc02i00";
        assert_eq!(index.for_device(device), ["nvidia"]);
        assert_eq!(index.for_device("crc32c"), ["crc32c_intel"]);
        let order = index.with_dependencies("nvidia-drm").unwrap();
        let expected = ["crc32c-intel.ko", "nvidia.ko", "nvidia-modeset.ko", "nvidia-drm.ko.xz"];
        assert!(
            order.iter().map(|path| path.trim_start_matches("kernel/")).eq(expected),
            "{order:?}"
        );
        assert!(index.is_built_in("ext4") && !index.is_built_in("nvidia"));
        assert!(index.with_dependencies("nothing").is_none());
    }

    proptest! {
        #[test]
        fn no_text_panics(dep in "[ab:/. \\n]{0,60}", soft in "(softdep [ab] pre: [ab] [ab]\\n){0,8}", name in "[ab]") {
            let texts = Texts { dep: &dep, softdep: &soft, builtin: &dep, alias: &soft };
            let index = Index::new(&texts);
            let _ = index.with_dependencies(&name);
            let _ = index.for_device(&dep);
        }
    }
}
