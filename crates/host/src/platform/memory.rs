//! Memory: its size, huge pages, the limit of locked memory, and the firmware's framebuffers.

use model::doctor::{Framebuffer, HugePages, Platform};

use super::{long_text, unseen};
use crate::root::Root;

const HUGE_PAGES: &str = "sys/kernel/mm/hugepages";
const LIMITS: &str = "proc/self/limits";
const IOMEM: &str = "proc/iomem";

/// Names of the firmware framebuffer's regions in `/proc/iomem`: drivers/firmware/sysfb.c, drivers/video/fbdev and
/// drivers/gpu/drm/sysfb.
const FRAMEBUFFERS: [&str; 8] = [
    "BOOTFB",
    "simple-framebuffer",
    "simplefb",
    "simpledrm",
    "efifb",
    "vesafb",
    "efidrm",
    "vesadrm",
];

/// Reads the facts about memory.
pub fn read(root: &Root, platform: &mut Platform) {
    let meminfo = root.text("proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes =
        total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    platform.memory = kibibytes.unwrap_or_default().saturating_mul(1024);
    platform.huge_pages = huge_pages(root);
    match root.text(LIMITS) {
        Ok(text) => platform.memlock_limit = memlock(&text),
        Err(errno) => platform.unseen.push(unseen("limits of this process", LIMITS, errno)),
    }
    match long_text(root, IOMEM) {
        Ok(text) => framebuffers(&text, platform),
        Err(errno) => platform.unseen.push(unseen("firmware framebuffers", IOMEM, errno)),
    }
}

fn huge_pages(root: &Root) -> Vec<HugePages> {
    let names = root.names(HUGE_PAGES).unwrap_or_default();
    let mut sizes: Vec<HugePages> = names
        .iter()
        .filter_map(|name| {
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?;
            let count =
                |file: &str| root.text(&format!("{HUGE_PAGES}/{name}/{file}")).ok()?.parse().ok();
            Some(HugePages {
                size: size.checked_mul(1024)?,
                total: count("nr_hugepages")?,
                free: count("free_hugepages").unwrap_or(0),
            })
        })
        .collect();
    sizes.sort_unstable_by_key(|pages| pages.size);
    sizes
}

/// The soft limit in `Max locked memory   8388608   8388608   bytes`.
fn memlock(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        bytes => bytes.parse().ok(),
    }
}

/// Parses lines such as `  4000000000-40007e8fff : BOOTFB`. Without root all addresses are 0 (`%pK` in
/// kernel/resource.c).
fn framebuffers(text: &str, platform: &mut Platform) {
    let mut hidden = false;
    for line in text.lines() {
        let Some((range, name)) = line.split_once(" : ") else { continue };
        let name = name.trim();
        if !FRAMEBUFFERS.contains(&name) {
            continue;
        }
        let Some((start, end)) = range.trim().split_once('-') else { continue };
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        match (hex(start), hex(end)) {
            (Some(0), Some(0)) => hidden = true,
            (Some(start), Some(end)) if start <= end => {
                platform.framebuffers.push(Framebuffer { name: name.to_owned(), start, end });
            }
            _ => {}
        }
    }
    if hidden {
        let note =
            "address of the firmware's framebuffer (/proc/iomem shows addresses to root only)";
        platform.unseen.push(note.into());
    }
}
