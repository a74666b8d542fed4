//! The tree as an SVG picture for reports, without scripts or external parts, for light and dark backgrounds.

mod card;
mod item;
mod layout;

use std::fmt::Write as _;

use super::words;
use super::{Part, Picture, TreeFunction, link};
use crate::Kind;
use crate::shown::short;
use item::{Item, Shape, Title};
use layout::{Column, GAP, HEADING, PAD};

/// Number of colours in the style sheet; they repeat for more groups.
const COLOURS: usize = 8;
/// Outer margin.
const MARGIN: u32 = 24;
/// The minimum width, so that the legend fits.
const LEAST: u32 = 620;

/// The picture.
#[must_use]
pub fn render(picture: &Picture) -> String {
    let top = MARGIN + 40;
    let (columns, right, bottom) = layout::columns(&picture.topology.nodes, MARGIN, top);
    let width = (right + MARGIN).max(LEAST);
    let legend = legend(picture, bottom + 2 * GAP, width - 2 * MARGIN);
    let height = bottom + 2 * GAP + legend.1 + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"PCI devices of this host\">\n<style>\n{}</style>\n",
        include_str!("style.css")
    );
    let _ = writeln!(svg, r#"<rect class="page" width="{width}" height="{height}"/>"#);
    let baseline = MARGIN + 20;
    let _ = writeln!(svg, r#"<text class="title" x="{MARGIN}" y="{baseline}">PCI devices</text>"#);
    let summary = escape(&summary(picture));
    let beside = MARGIN + 150;
    let _ = writeln!(svg, r#"<text class="faint" x="{beside}" y="{baseline}">{summary}</text>"#);
    for column in &columns {
        node(&mut svg, picture, column);
    }
    svg.push_str(&legend.0);
    svg.push_str("</svg>\n");
    svg
}

/// The number of functions of each kind.
fn summary(picture: &Picture) -> String {
    let devices = || picture.topology.functions().filter(|place| place.part == Part::Device);
    let counts = Kind::ALL.into_iter().filter_map(|kind| {
        let count = devices().filter(|place| place.kind == kind).count();
        (count > 0).then(|| format!("{count} × {}", card::kind(kind)))
    });
    counts.collect::<Vec<_>>().join(" · ")
}

fn node(svg: &mut String, picture: &Picture, column: &Column<'_>) {
    let Column { x, y, width, height, .. } = column;
    let _ = writeln!(
        svg,
        r#"<rect class="node" x="{x}" y="{y}" width="{width}" height="{height}" rx="10"/>"#
    );
    let heading = words::heading(column.node, picture.topology.nodes.len() > 1);
    heading_text(svg, "node-name", x + PAD, y + 22, *width, &heading);
    for item in &column.items {
        draw(svg, picture, item);
    }
}

fn draw(svg: &mut String, picture: &Picture, item: &Item<'_>) {
    let colour = |place: &TreeFunction| {
        let number = place.iommu_group.and_then(|group| picture.colours.get(&group));
        number.map_or_else(|| "plain".to_owned(), |number| format!("c{}", number % COLOURS))
    };
    match &item.shape {
        Shape::Card { functions, behind } => card::draw(svg, item, functions, behind, &colour),
        Shape::Box { title, behind, inner } => {
            let Item { x, y, width, height, .. } = item;
            let _ = writeln!(
                svg,
                r#"<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>"#
            );
            heading_text(
                svg,
                "box-name",
                x + PAD,
                y + HEADING - 9,
                *width,
                &box_name(title, behind),
            );
            for item in inner {
                draw(svg, picture, item);
            }
        }
    }
}

fn box_name(title: &Title<'_>, behind: &[&TreeFunction]) -> String {
    let place = match title {
        Title::RootBus(bus) => return format!("Root bus {}", bus.bus),
        Title::Bridge(place) => place,
    };
    let word = match place.part {
        Part::RootPort => "Root port",
        Part::Bridge => "Bridge",
        _ => "Switch",
    };
    let mut name = format!("{word} {}", place.address);
    if let Some(present) = &place.link {
        let _ = write!(name, " · {}", link::now(present));
    }
    if let Some(port) = behind.first() {
        let _ = write!(name, " · behind {}", port.address);
    }
    name
}

fn heading_text(svg: &mut String, class: &str, x: u32, y: u32, width: u32, heading: &str) {
    // Heading letters are about 8 wide.
    let most = usize::try_from(width.saturating_sub(2 * PAD) / 8).unwrap_or(usize::MAX);
    let heading = escape(&short(heading, most));
    let _ = writeln!(svg, r#"<text class="{class}" x="{x}" y="{y}">{heading}</text>"#);
}

/// The legend, and its height.
fn legend(picture: &Picture, top: u32, width: u32) -> (String, u32) {
    let mut lines = vec![
        "gN is the IOMMU group: functions with the same colour share a group, and can only be handed over together; grey is alone in its group.",
        "A card is a slot; \"+ .1\" is another function of it. Orange is a link, the device's own or that of a switch above, that is slower or narrower than the device supports.",
    ];
    if picture.hidden > 0 {
        lines.push("The host's own functions and idle ports are not shown.");
    }
    // Small letters are about 6 wide.
    let most = usize::try_from(width / 6).unwrap_or(usize::MAX);
    let mut svg = String::new();
    let mut baseline = top + 12;
    for line in lines {
        for part in wrap(line, most) {
            let part = escape(&part);
            let _ =
                writeln!(svg, r#"<text class="faint" x="{MARGIN}" y="{baseline}">{part}</text>"#);
            baseline += 16;
        }
    }
    (svg, baseline - top - 12)
}

fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > most {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Escapes text for XML. Characters that XML 1.0 forbids are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            other if other.is_control() => {}
            other => escaped.push(other),
        }
    }
    escaped
}
