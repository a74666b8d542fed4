//! Options of kernel modules, and loading them.

use std::collections::BTreeSet;

use super::super::options::Listed;
use super::super::{BootLoader, Platform, Remedy};
use super::shell::{append_line, edit, module_pattern, quoted};
use super::{
    MODPROBE_FILE, kept_elsewhere, other_kernel_option, with_initramfs, without_kernel_option,
};

/// The administrator's files (modprobe.d(5)).
const MODPROBE_FILES: &str = "/etc/modprobe.d/*.conf";
/// Unraid copies it at each start.
const UNRAID_FILE: &str = "/boot/config/modprobe.d/handover.conf";
const MODULES_LOAD_FILE: &str = "/etc/modules-load.d/handover.conf";

/// Sets an option for the next load of a module: `module_option(p, "vfio-pci", "disable_idle_d3=1")`.
#[must_use]
pub fn module_option(platform: &Platform, module: &str, option: &str) -> Remedy {
    let line = format!("options {module} {option}");
    let words = format!("load {module} with {option}");
    if matches!(platform.boot_loader, BootLoader::Unraid { .. }) {
        let commands = vec![append_line(UNRAID_FILE, &line)];
        return Remedy { words, commands, reboot: true };
    }
    with_initramfs(platform, words, vec![append_line(MODPROBE_FILE, &line)])
}

/// Removes an option of a module from modprobe's files, and from the kernel's command line if it is there.
#[must_use]
pub fn without_module_option(platform: &Platform, module: &str, option: &str) -> Remedy {
    let line = format!("^[[:space:]]*options[[:space:]]+{}", module_pattern(module));
    let take = format!("/{line}[[:space:]]/s/[[:space:]]+{option}(=[^[:space:]]*)?//g");
    // modprobe rejects an `options` line without an option.
    let empty = format!("/{line}[[:space:]]*$/d");
    let words = format!("load {module} without {option}");
    let edited = with_initramfs(platform, words, vec![edit(MODPROBE_FILES, &[take, empty])]);
    let on_cmdline = format!("{module}.{option}");
    let named = |word: &str| word.replace('-', "_").starts_with(&on_cmdline.replace('-', "_"));
    match platform.cmdline_words().find(|word| named(word)) {
        Some(word) => {
            let name = word.split_once('=').map_or(word, |(name, _)| name);
            edited.and(without_kernel_option(platform, name))
        }
        None => edited,
    }
}

/// Loads modules now and at every boot.
#[must_use]
pub fn load_at_boot(platform: &Platform, modules: &[&str]) -> Remedy {
    if let Some(how) = kept_elsewhere(platform) {
        return Remedy::words(format!("load {} at every boot: {how}", modules.join(", ")));
    }
    let mut commands: Vec<String> =
        modules.iter().map(|module| append_line(MODULES_LOAD_FILE, module)).collect();
    commands.push(format!("modprobe -a {}", modules.join(" ")));
    let words = format!("load {} now and at every boot", modules.join(", "));
    Remedy { words, commands, reboot: false }
}

/// Lets members of a group lock unlimited memory.
#[must_use]
pub fn memlock_for_group(platform: &Platform, group: &str) -> Remedy {
    let line = format!("@{group} - memlock unlimited");
    let words =
        format!("let the group {group} lock memory, from the next login on (limits.conf(5))");
    if let Some(how) = kept_elsewhere(platform) {
        return Remedy::words(format!("{words}: {how}"));
    }
    let file = "/etc/security/limits.d/handover.conf";
    Remedy { words, commands: vec![append_line(file, &line)], reboot: false }
}

/// Lets a blacklisted module be loaded again. `lines` blacklist it, as in [`Module::blacklisted`]: a line of modprobe's
/// configuration as `file:line: text`, or an option on the kernel's command line.
///
/// [`Module::blacklisted`]: super::super::Module::blacklisted
#[must_use]
pub fn unblacklist(platform: &Platform, module: &str, lines: &[String]) -> Remedy {
    let mut commands = Vec::new();
    let files: BTreeSet<&str> =
        lines.iter().filter_map(|line| line.split_once(':')).map(|(file, _)| file).collect();
    for file in files.into_iter().filter(|file| file.starts_with('/')) {
        let mine = file.rsplit('/').next().map(|name| format!("/etc/modprobe.d/{name}"));
        let mine = mine.unwrap_or_else(|| MODPROBE_FILE.to_owned());
        if mine != file {
            // A file in /etc/modprobe.d replaces the packages' file of the same name (modprobe.d(5)).
            commands.push(format!("[ -f {0} ] || cp {1} {0}", quoted(&mine), quoted(file)));
        }
        let forbids = format!(
            "/^[[:space:]]*(blacklist|install)[[:space:]]+{}([[:space:]]|$)/s/^/# /",
            module_pattern(module)
        );
        commands.push(edit(&quoted(&mine), &[forbids]));
    }
    let remedy = if commands.is_empty() {
        Remedy::default()
    } else {
        let words = format!("let {module} be loaded: comment out the lines that blacklist it");
        with_initramfs(platform, words, commands)
    };
    let on_cmdline = lines
        .iter()
        .filter(|line| line.split_once('=').is_some_and(|(name, _)| ON_CMDLINE.contains(&name)));
    on_cmdline.fold(remedy, |remedy, option| remedy.and(without_module(platform, option, module)))
}

/// Options of the kernel's command line that blacklist modules: the kernel's own, modprobe's and dracut's.
const ON_CMDLINE: [&str; 3] = ["module_blacklist", "modprobe.blacklist", "rd.driver.blacklist"];

/// Takes a module out of such a list: others in it may be blacklisted for a good reason.
fn without_module(platform: &Platform, option: &str, module: &str) -> Remedy {
    let listed = Listed { option, word: module };
    let is_it = |word: &str| word.replace('-', "_") == module.replace('-', "_");
    match listed.without(is_it) {
        Some(rest) => other_kernel_option(platform, option, &rest),
        None => without_kernel_option(platform, option),
    }
}
