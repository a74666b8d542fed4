//! Reads the host around its devices: a [`model::doctor::Platform`], the facts for the doctor's checks.
//!
//! Everything is read below the root, so that a recording contains it too. What cannot be read is named in
//! [`Platform::unseen`]; nothing here fails. Programs are run for their versions on the running host only; a recording
//! has them in the file [`TOOLS_FILE`].

mod boot;
mod cpu;
mod device_memory;
mod iommu;
mod memory;
mod modules;
mod nodes;
mod processes;
mod security;
mod tools;
mod x11;

use model::doctor::Platform;
use rustix::io::Errno;

use crate::problem;
use crate::root::Root;

pub use boot::initramfs;
pub use modules::MODULES;
pub use tools::{TOOLS_FILE, tools_text};

/// The most that is read of long procfs files: `/proc/interrupts` of a large server has megabytes.
const LONG: usize = 16 << 20;

/// Reads the facts.
pub(crate) fn read(root: &Root) -> Platform {
    let mut platform = kernel(root);
    if platform.cmdline.is_none() {
        platform.unseen.push("kernel command line (cannot read /proc/cmdline)".into());
    }
    cpu::read(root, &mut platform);
    iommu::read(root, &mut platform);
    boot::read(root, &mut platform);
    platform.xen_dom0 = crate::xen::is_first_domain(root);
    platform.x11 = x11::read(root);
    modules::read(root, &mut platform);
    memory::read(root, &mut platform);
    device_memory::read(root, &mut platform);
    platform.processes = processes::read(root);
    nodes::read(root, &mut platform);
    security::read(root, &mut platform);
    platform.ovmf = tools::ovmf(root);
    platform.tools = tools::read(root);
    platform
}

/// Only the facts about the firmware's framebuffers and the boot loader, which sets kernel parameters. Runs no program.
pub(crate) fn console(root: &Root) -> Platform {
    let mut platform = kernel(root);
    boot::read(root, &mut platform);
    memory::read(root, &mut platform);
    platform
}

fn kernel(root: &Root) -> Platform {
    Platform {
        kernel: root.text("proc/sys/kernel/osrelease").ok(),
        cmdline: root.text("proc/cmdline").ok(),
        distribution: distribution(root),
        ..Platform::default()
    }
}

/// `ID` and `VERSION_ID` (os-release(5)).
fn distribution(root: &Root) -> Option<String> {
    let files = ["etc/os-release", "usr/lib/os-release"];
    let text = files.iter().find_map(|file| root.text(file).ok())?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
    };
    let name = value("ID")?;
    Some(value("VERSION_ID").map_or(name.clone(), |version| format!("{name} {version}")))
}

/// The text of a file that can be longer than an attribute, and need not be UTF-8.
fn long_text(root: &Root, path: &str) -> Result<String, Errno> {
    root.bytes(path, LONG).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Formats an entry of [`Platform::unseen`]: the fact, and why it could not be read.
fn unseen(fact: &str, path: &str, errno: Errno) -> String {
    format!("{fact} (/{path}: {})", problem::words(errno))
}
