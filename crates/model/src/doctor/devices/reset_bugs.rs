//! Devices with known reset bugs, from `data/reset-bugs.txt`, which names the sources.

use std::sync::LazyLock;

use super::{Case, Finding, Severity, about, with_remedy};
use crate::{Function, Id};

/// The known bugs; the file's head explains the format.
const DATA: &str = include_str!("../../../data/reset-bugs.txt");

static BUGS: LazyLock<Vec<ResetBug<'static>>> = LazyLock::new(|| read(DATA));

/// A module outside the kernel that resets AMD's GPUs.
const VENDOR_RESET: &str = "vendor_reset";

/// One bug of some devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ResetBug<'a> {
    /// Names of the devices.
    devices: &'a str,
    /// The vendor and the ranges of device ids.
    ids: Vec<(Id, Id, Id)>,
    /// Instead: devices that are known to reset well.
    works: Vec<(Id, Id, Id)>,
    /// The reset methods that fail, by the kernel's names.
    breaks: Vec<&'a str>,
    /// What happens.
    effect: &'a str,
    /// Whether the module vendor-reset fixes it.
    vendor_reset: bool,
    /// The source.
    source: &'a str,
}

impl ResetBug<'_> {
    fn is_of(&self, function: &Function) -> bool {
        contain(&self.ids, function)
    }
}

fn contain(ranges: &[(Id, Id, Id)], function: &Function) -> bool {
    ranges.iter().any(|(vendor, first, last)| {
        *vendor == function.vendor && (*first..=*last).contains(&function.device)
    })
}

/// Whether the data says how the function resets, well or badly.
pub fn is_known(function: &Function) -> bool {
    BUGS.iter().any(|bug| bug.is_of(function) || contain(&bug.works, function))
}

/// The known reset bugs of the assembly.
pub fn known(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in case.taken() {
        for bug in BUGS.iter().filter(|bug| bug.is_of(function)) {
            findings.push(finding_for(case, function, bug));
        }
    }
    findings
}

/// Whether the method that the kernel would use to reset the function is known to fail.
pub fn fails(function: &Function) -> bool {
    let method = function.reset_methods.first();
    method.is_some_and(|method| {
        BUGS.iter().any(|bug| bug.is_of(function) && bug.breaks.contains(&method.as_str()))
    })
}

fn finding_for(case: &Case<'_>, function: &Function, bug: &ResetBug<'_>) -> Finding {
    let address = function.address;
    let ids = format!("{address} is {}:{} ({})", function.vendor, function.device, bug.devices);
    let Some(method) = function.reset_methods.first() else {
        let read = format!("{ids}; the kernel does not show how it would reset it");
        let meaning = format!("with {}: {} [{}]", bug.breaks.join(", "), bug.effect, bug.source);
        return about(address, "reset-bug", Severity::Warning, read, meaning);
    };
    let read = format!("{ids}; the kernel would reset it by {method} (reset_method)");
    if !bug.breaks.contains(&method.as_str()) {
        let meaning = format!("the known bug ({}) does not affect this method", bug.source);
        return about(address, "reset-bug", Severity::Good, read, meaning);
    }
    let meaning = format!("{} [{}]", bug.effect, bug.source);
    let finding = about(address, "reset-bug", Severity::Warning, read, meaning);
    let (words, commands) = remedy_for(case, function, bug);
    with_remedy(finding, words, commands)
}

fn remedy_for(case: &Case<'_>, function: &Function, bug: &ResetBug<'_>) -> (String, Vec<String>) {
    let choose = |method: &str| {
        format!("echo {method} > /sys/bus/pci/devices/{}/reset_method", function.address)
    };
    let module = case.patient.platform.modules.get(VENDOR_RESET);
    if bug.vendor_reset {
        return if module.is_some_and(|module| module.loaded || module.available) {
            (
                "load the installed module vendor-reset, and let it reset the device".into(),
                vec!["modprobe vendor-reset".into(), choose("device_specific")],
            )
        } else {
            (
                "install the module vendor-reset (https://github.com/gnif/vendor-reset, by DKMS), and load it before \
                 the first reset of the device; without it, plan for a reboot of the host between two machines"
                    .into(),
                Vec::new(),
            )
        };
    }
    match function.reset_methods.iter().find(|method| !bug.breaks.contains(&method.as_str())) {
        Some(other) => (
            format!(
                "use a newer kernel, which works around the bug, or choose another method ({other}) before each \
                     hand-over"
            ),
            vec![choose(other)],
        ),
        None => (
            "use a newer kernel, which does not reset the device, or plan for a reboot of the host"
                .into(),
            Vec::new(),
        ),
    }
}

/// Parses a file: paragraphs of `key: value` lines. Invalid paragraphs are skipped; a test checks that our file has
/// none.
fn read(text: &str) -> Vec<ResetBug<'_>> {
    text.split("\n\n").filter_map(bug).collect()
}

fn bug(paragraph: &str) -> Option<ResetBug<'_>> {
    let mut bug = ResetBug::default();
    for line in paragraph.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(':')?;
        let value = value.trim();
        match key {
            "devices" => bug.devices = value,
            "ids" => bug.ids.extend(value.split_whitespace().filter_map(range)),
            "works" => bug.works.extend(value.split_whitespace().filter_map(range)),
            "breaks" => bug.breaks = value.split_whitespace().collect(),
            "effect" => bug.effect = value,
            "mended-by" => bug.vendor_reset = value == "vendor-reset",
            "source" => bug.source = value,
            _ => return None,
        }
    }
    (!bug.ids.is_empty() || !bug.works.is_empty()).then_some(bug)
}

/// `1002:67df`, or `10de:2340-237f` for a range.
fn range(text: &str) -> Option<(Id, Id, Id)> {
    let (vendor, devices) = text.split_once(':')?;
    let (first, last) = devices.split_once('-').unwrap_or((devices, devices));
    Some((vendor.parse().ok()?, first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_paragraph_of_the_data_is_whole() {
        let paragraphs: Vec<&str> = DATA
            .split("\n\n")
            .filter(|paragraph| paragraph.lines().any(|line| !line.starts_with('#')))
            .collect();
        let bugs = read(DATA);
        assert_eq!(bugs.len(), paragraphs.len());
        for (bug, paragraph) in bugs.iter().zip(paragraphs) {
            let words = |key: &str| {
                let lines = paragraph.lines().filter_map(|line| line.strip_prefix(key));
                lines.flat_map(str::split_whitespace).count()
            };
            let ids = (bug.ids.len(), bug.works.len());
            assert_eq!(
                ids,
                (words("ids:"), words("works:")),
                "an id that is none in {}",
                bug.devices
            );
            assert!(bug.source.starts_with("https://"), "{} has no source", bug.devices);
            assert!(!bug.devices.is_empty());
            if bug.ids.is_empty() {
                assert!(bug.breaks.is_empty() && bug.effect.is_empty(), "{bug:?}");
                continue;
            }
            assert!(!bug.effect.is_empty(), "{bug:?}");
            let methods = ["flr", "af_flr", "pm", "bus", "cxl_bus", "acpi"];
            assert!(!bug.breaks.is_empty() && bug.breaks.iter().all(|m| methods.contains(m)));
        }
    }

    #[test]
    fn no_id_is_there_twice() {
        let mut ids: Vec<_> = read(DATA).into_iter().flat_map(|bug| bug.ids).collect();
        ids.sort();
        for pair in ids.windows(2) {
            let (one, two) = (pair[0], pair[1]);
            assert!(one.0 != two.0 || one.2 < two.1, "{one:?} and {two:?}");
        }
    }

    #[test]
    fn resets_without_a_bug_are_left_out() {
        assert_eq!(read("# only words\n\nids: nonsense\n\nsomething else"), Vec::new());
    }
}
