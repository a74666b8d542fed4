//! PCI Express links that are narrower or slower than both ends support.

use super::power::sleeps;
use super::{Case, Finding, Severity, about, with_remedy};
use crate::{Function, Kind, Link, PortType};

/// Checks every link from the root port to the assembly.
pub fn narrow(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let links = links(case);
    for (upper, lower) in &links {
        findings.extend(finding_for(upper, lower));
    }
    if findings.is_empty() {
        findings.extend(links.last().and_then(|(upper, lower)| {
            let link = lower.detail.as_deref()?.link.as_ref()?;
            let read = format!(
                "the link of {} to {} is {}",
                lower.address,
                upper.address,
                shown(link.speed, link.width)
            );
            let meaning = "it has the width and speed that both ends support";
            Some(about(lower.address, "link", Severity::Good, read, meaning))
        }));
    }
    findings
}

/// The two ends of each link above the assembly's head, from the root port down. A switch has no link between its
/// upstream and downstream ports.
fn links<'a>(case: &Case<'a>) -> Vec<(&'a Function, &'a Function)> {
    // A VF has no link of its own (its link status is hard-wired to zero).
    if case.head.physical_function.is_some() {
        return Vec::new();
    }
    let inventory = case.patient.inventory;
    let way: Vec<&Function> = case
        .head
        .path
        .iter()
        .filter_map(|bridge| inventory.function(*bridge))
        .chain([case.head])
        .collect();
    way.windows(2)
        .filter_map(|pair| match pair {
            [upper, lower] if goes_down(upper) => Some((*upper, *lower)),
            _ => None,
        })
        .collect()
}

fn goes_down(port: &Function) -> bool {
    let kind = port.detail.as_deref().and_then(|detail| detail.port_type);
    matches!(kind, Some(PortType::RootPort | PortType::SwitchDownstream))
}

fn finding_for(upper: &Function, lower: &Function) -> Vec<Finding> {
    let link =
        |function: &Function| function.detail.as_deref().and_then(|detail| detail.link.clone());
    let (Some(above), Some(below)) = (link(upper), link(lower)) else { return Vec::new() };
    // A suspended link is slow by design.
    if sleeps(lower) || sleeps(upper) {
        return Vec::new();
    }
    if below.speed == 0 || below.width == 0 || above.width == 0 {
        return vec![down(upper, lower)];
    }
    let mut findings = Vec::new();
    findings.extend(width(upper, lower, &above, &below));
    findings.extend(speed(upper, lower, &above, &below));
    findings
}

fn down(upper: &Function, lower: &Function) -> Finding {
    let address = lower.address;
    let read = format!("the link of {address} to {} is down", upper.address);
    let meaning = "the host does not reach the device, so a machine would not either";
    let finding = about(address, "link", Severity::Warning, read, meaning);
    let words = "shut the host down, cut its power for a moment and reseat the card; if the link stays down, try another \
                 slot, and look for messages about the port in `dmesg`";
    with_remedy(finding, words, Vec::new())
}

fn width(upper: &Function, lower: &Function, above: &Link, below: &Link) -> Option<Finding> {
    let possible = above.max_width.min(below.max_width);
    let address = lower.address;
    if below.width < possible {
        let read = format!(
            "the link of {address} to {} is x{}; both ends support x{possible}",
            upper.address, below.width
        );
        let meaning =
            "lanes are missing: the device has less bandwidth, on the host and in a machine";
        let finding = about(address, "link", Severity::Warning, read, meaning);
        let words = "reseat the card, clean its contacts, check the riser, and check whether the firmware splits the \
                     slot's lanes (bifurcation)";
        return Some(with_remedy(finding, words, Vec::new()));
    }
    // A GPU in a slot with a quarter of its lanes is usually in the wrong slot.
    let card = below.max_width;
    (lower.kind() == Kind::Gpu && above.max_width <= card / 4).then(|| {
        let read = format!(
            "{address} supports x{card}; its slot, below {}, has x{}",
            upper.address, above.max_width
        );
        about(
            address,
            "link",
            Severity::Note,
            read,
            "the slot has less bandwidth than the card supports",
        )
    })
}

fn speed(upper: &Function, lower: &Function, above: &Link, below: &Link) -> Option<Finding> {
    let possible = above.max_speed.min(below.max_speed);
    if below.speed >= possible {
        return None;
    }
    let address = lower.address;
    let read = format!(
        "the link of {address} to {} runs at {}; both ends support {}",
        upper.address,
        transfers(below.speed),
        transfers(possible)
    );
    // The head can be the upstream port of a GPU's own switch.
    if matches!(lower.kind(), Kind::Gpu | Kind::Accelerator | Kind::Bridge) {
        let meaning = "GPUs slow their link down when idle; check again under load";
        return Some(about(address, "link", Severity::Note, read, meaning));
    }
    let meaning = "the device has less bandwidth, on the host and in a machine";
    let finding = about(address, "link", Severity::Warning, read, meaning);
    let words =
        "reseat the card, check the riser, and check the slot's speed in the firmware setup";
    Some(with_remedy(finding, words, Vec::new()))
}

fn shown(speed: u16, width: u8) -> String {
    format!("{} x{width}", transfers(speed))
}

/// `2.5 GT/s`, `16 GT/s`.
fn transfers(tenths: u16) -> String {
    match tenths % 10 {
        0 => format!("{} GT/s", tenths / 10),
        rest => format!("{}.{rest} GT/s", tenths / 10),
    }
}
