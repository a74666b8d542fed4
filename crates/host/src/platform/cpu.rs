//! The processors.

use model::doctor::{Cpu, Platform};

use super::{long_text, unseen};
use crate::root::Root;

const CPUINFO: &str = "proc/cpuinfo";

/// Reads the facts of the first processor; they are the same for all.
pub fn read(root: &Root, platform: &mut Platform) {
    let text = match long_text(root, CPUINFO) {
        Ok(text) => text,
        Err(errno) => return platform.unseen.push(unseen("the processors", CPUINFO, errno)),
    };
    let value = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
    };
    let flags = value("flags").unwrap_or_default();
    let flag = |wanted: &str| flags.split_ascii_whitespace().any(|flag| flag == wanted);
    platform.virtual_machine = flag(crate::virtual_machine::FLAG);
    platform.cpu = Cpu {
        vendor: value("vendor_id").unwrap_or_default().to_owned(),
        model: value("model name").unwrap_or_default().to_owned(),
        virtualization: ["vmx", "svm"].into_iter().find(|name| flag(name)).map(str::to_owned),
        // `address sizes	: 46 bits physical, 48 bits virtual`
        physical_bits: value("address sizes")
            .and_then(|sizes| sizes.split_once(" bits physical")?.0.parse().ok()),
    };
}
