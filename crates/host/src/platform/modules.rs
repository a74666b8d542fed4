//! Modules that matter for passthrough: loaded, loadable, blacklisted.

use std::collections::{BTreeMap, BTreeSet};

use model::doctor::{Module, Platform};

use super::long_text;
use crate::modprobe;
use crate::root::Root;

/// The modules that the doctor checks.
pub const MODULES: [&str; 22] = [
    "vfio",
    "vfio_pci",
    "vfio_iommu_type1",
    "vfio_virqfd",
    "iommufd",
    "mdev",
    "kvm",
    "kvm_intel",
    "kvm_amd",
    "nvidia",
    "nvidia_drm",
    "nvidia_vgpu_vfio",
    "nouveau",
    "nova_core",
    "amdgpu",
    "radeon",
    "i915",
    "xe",
    "snd_hda_intel",
    "mlx5_vfio_pci",
    "nvgrace_gpu_vfio_pci",
    "xen_pciback",
];

/// The directories of kernel modules in distributions; the last is for NixOS.
const DIRECTORIES: [&str; 3] =
    ["lib/modules", "usr/lib/modules", "run/booted-system/kernel-modules/lib/modules"];

/// Options of the kernel's command line that blacklist modules: the kernel's own, modprobe's and dracut's.
const BLACKLISTING: [&str; 3] = ["module_blacklist", "modprobe.blacklist", "rd.driver.blacklist"];

/// Reads the state of each module.
pub fn read(root: &Root, platform: &mut Platform) {
    let directory = platform.kernel.as_deref().and_then(|release| directory(root, release));
    let listed = |file: &str| {
        let path = format!("{}/{file}", directory.as_deref()?);
        long_text(root, &path).ok().map(|text| names(&text))
    };
    let (builtin, loadable) = (listed("modules.builtin"), listed("modules.dep"));
    if loadable.is_none() {
        platform.unseen.push("loadable modules (no modules.dep for this kernel)".into());
    }
    let mut blacklisted = blacklisted_by_files(root);
    blacklist_by_cmdline(platform, &mut blacklisted);
    for name in MODULES {
        let directory = format!("sys/module/{name}");
        let has = |set: &Option<BTreeSet<&str>>| set.as_ref().is_some_and(|set| set.contains(name));
        let module = Module {
            loaded: root.exists(&directory) || has(&builtin),
            available: has(&loadable),
            blacklisted: blacklisted.remove(name).unwrap_or_default(),
            version: root.text(&format!("{directory}/version")).ok(),
        };
        if module != Module::default() {
            platform.modules.insert(name.to_owned(), module);
        }
    }
}

fn directory(root: &Root, release: &str) -> Option<String> {
    if release.contains('/') {
        return None;
    }
    let mut candidates = DIRECTORIES.iter().map(|directory| format!("{directory}/{release}"));
    candidates.find(|directory| root.exists(directory))
}

/// The [`MODULES`] in a list of files: `kernel/drivers/vfio/pci/vfio-pci.ko.xz: ...`.
fn names(text: &str) -> BTreeSet<&'static str> {
    let named = text.lines().filter_map(|line| {
        let path = line.split(':').next()?;
        let name = path.rsplit('/').next()?.split_once(".ko")?.0;
        MODULES.into_iter().find(|known| same(known, name))
    });
    named.collect()
}

/// Compares module names, in which `-` and `_` are the same.
fn same(known: &str, name: &str) -> bool {
    known.len() == name.len()
        && known.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}

/// The lines that blacklist modules or replace their loading, by module, as `file:line: text`.
fn blacklisted_by_files(root: &Root) -> BTreeMap<&'static str, Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut blacklisted: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for directory in modprobe::DIRECTORIES {
        for file in root.names(directory).unwrap_or_default() {
            if !file.ends_with(".conf") || !seen.insert(file.clone()) {
                continue;
            }
            let path = format!("{directory}/{file}");
            let text = long_text(root, &path).unwrap_or_default();
            for (number, line) in text.lines().enumerate() {
                if let Some(module) = blacklisted_module(line) {
                    let line = format!("/{path}:{}: {}", number + 1, line.trim());
                    blacklisted.entry(module).or_default().push(line);
                }
            }
        }
    }
    blacklisted
}

/// The module that a line of modprobe's configuration blacklists or replaces.
fn blacklisted_module(line: &str) -> Option<&'static str> {
    let mut words = line.split_ascii_whitespace();
    let (command, name) = (words.next()?, words.next()?);
    matches!(command, "blacklist" | "install").then_some(())?;
    MODULES.into_iter().find(|known| same(known, name))
}

fn blacklist_by_cmdline(
    platform: &Platform,
    blacklisted: &mut BTreeMap<&'static str, Vec<String>>,
) {
    for word in platform.cmdline_words() {
        let Some((option, names)) = word.split_once('=') else { continue };
        if !BLACKLISTING.contains(&option) {
            continue;
        }
        for module in MODULES {
            if names.split(',').any(|name| same(module, name)) {
                blacklisted.entry(module).or_default().push(word.to_owned());
            }
        }
    }
}
