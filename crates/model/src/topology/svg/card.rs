//! The card of a slot.

use std::fmt::Write as _;

use super::escape;
use super::item::{CARD, Item, LINE};
use crate::Kind;
use crate::shown::short;
use crate::topology::{Part, TreeFunction, link, words};

/// Characters of a name in a line of a card.
const NAME: usize = 27;
/// Characters of a small line.
const SMALL: usize = 38;
/// Padding above the first line and below the last.
const MARGIN: u32 = 10;

/// The height of a card.
pub fn height(functions: &[&TreeFunction], behind: &[&TreeFunction]) -> u32 {
    let count = lines(functions, behind).len();
    MARGIN * 2 + LINE * u32::try_from(count).unwrap_or(u32::MAX / LINE / 2)
}

/// Draws a card.
pub fn draw(
    svg: &mut String,
    item: &Item<'_>,
    functions: &[&TreeFunction],
    behind: &[&TreeFunction],
    colour: &dyn Fn(&TreeFunction) -> String,
) {
    let Item { x, y, height, .. } = item;
    let Some(head) = functions.first() else { return };
    let _ = writeln!(
        svg,
        r#"<g><title>{}</title><rect class="card" x="{x}" y="{y}" width="{CARD}" height="{height}" rx="6"/>"#,
        escape(&format!("{} {}", head.address, head.name))
    );
    let _ = writeln!(
        svg,
        r#"<rect class="{}" x="{x}" y="{y}" width="5" height="{height}" rx="2"/>"#,
        colour(head)
    );
    let left = x + 16;
    let mut baseline = y + MARGIN + 11;
    for (class, line) in lines(functions, behind) {
        let _ = writeln!(
            svg,
            r#"<text class="{class}" x="{left}" y="{baseline}">{}</text>"#,
            escape(&line)
        );
        baseline += LINE;
    }
    let mut groups: Vec<&&TreeFunction> = Vec::new();
    for place in functions.iter().filter(|place| place.iommu_group.is_some()) {
        if groups.iter().all(|other| other.iommu_group != place.iommu_group) {
            groups.push(place);
        }
    }
    let mut right = x + CARD - 10;
    for place in groups.iter().rev().take(3) {
        let label = format!("g{}", place.iommu_group.unwrap_or_default());
        let wide = 12 + 7 * u32::try_from(label.len()).unwrap_or(4);
        right = right.saturating_sub(wide);
        let (top, middle, base) = (y + 8, right + wide / 2, y + 20);
        let _ = writeln!(
            svg,
            r#"<rect class="{}" x="{right}" y="{top}" width="{wide}" height="16" rx="8"/><text class="chip" x="{middle}" y="{base}" text-anchor="middle">{label}</text>"#,
            colour(place)
        );
        right = right.saturating_sub(4);
    }
    svg.push_str("</g>\n");
}

/// The lines of a card with their classes.
fn lines(functions: &[&TreeFunction], behind: &[&TreeFunction]) -> Vec<(&'static str, String)> {
    let Some((head, others)) = functions.split_first() else { return Vec::new() };
    let small = |line: String| short(&line, SMALL).into_owned();
    let kind = if head.part == Part::Device { kind(head.kind) } else { "PORT" };
    let mut lines = vec![("kind", kind.to_owned())];
    lines.extend(name(head).into_iter().map(|line| ("name", line)));
    let driver = head.driver.as_deref().unwrap_or("no driver");
    lines.push(("mono", small(format!("{}  {driver}", head.address))));
    if let Some(present) = &head.link {
        let class = if link::is_slow(present) { "slow" } else { "small" };
        lines.push((class, small(link::text(present))));
    }
    if let Some(uplink) = words::uplink(head) {
        lines.push(("slow", small(uplink)));
    }
    lines.extend(head.state.iter().map(|state| ("state", small(state.clone()))));
    let extras: Vec<String> = words::extras(head)
        .into_iter()
        .skip(usize::from(head.state.is_some()))
        .filter(|extra| Some(extra) != words::uplink(head).as_ref())
        .collect();
    let extras = extras.join(", ");
    if !extras.is_empty() {
        lines.push(("small", small(extras)));
    }
    for other in others.iter().take(7) {
        let driver = other.driver.as_deref().unwrap_or("no driver");
        let function = other.address.function();
        lines.push(("mono", small(format!("+ .{function} {}  {driver}", other.kind))));
    }
    if !behind.is_empty() {
        let way: Vec<String> = behind.iter().map(|bridge| short_address(bridge)).collect();
        lines.push(("faint", small(format!("behind {}", way.join(" › ")))));
    }
    lines
}

/// The label of a kind, above a name.
pub const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Gpu => "GPU",
        Kind::Nic => "NIC",
        Kind::Nvme => "NVMe",
        Kind::Storage => "STORAGE",
        Kind::Audio => "AUDIO",
        Kind::Usb => "USB",
        Kind::Accelerator => "ACCELERATOR",
        Kind::Bridge => "BRIDGE",
        Kind::Other => "DEVICE",
    }
}

/// A bridge's address, without the domain if that is 0.
fn short_address(place: &TreeFunction) -> String {
    let address = place.address.to_string();
    address.strip_prefix("0000:").map_or(address.clone(), str::to_owned)
}

/// A name in at most two lines: the brackets at the end of a GPU's or NIC's name hold the product name, but for a SATA
/// controller only its mode.
fn name(place: &TreeFunction) -> Vec<String> {
    let full = place.name.as_str();
    let branded = matches!(place.kind, Kind::Gpu | Kind::Accelerator | Kind::Nic | Kind::Other);
    let brackets = full.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    let known = brackets.map(|(_, name)| name).filter(|_| branded);
    let (mut first, mut second) = (String::new(), String::new());
    for word in known.unwrap_or(full).split_whitespace() {
        let room = first.chars().count() + 1 + word.chars().count() <= NAME;
        let line =
            if second.is_empty() && (room || first.is_empty()) { &mut first } else { &mut second };
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let lines = [first, second].into_iter().filter(|line| !line.is_empty());
    lines.map(|line| short(&line, NAME).into_owned()).collect()
}
