//! Prints the tree.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use model::shown::{escaped, short};
use model::topology::words::{extras, heading};
use model::topology::{Part, Picture, RootBus, TreeFunction, link};

use super::matrix;

/// Colours of groups, reused if there are more groups.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Green,
    AnsiColor::Blue,
    AnsiColor::Red,
];

/// The least width of a name.
const LEAST_NAME: usize = 16;

/// A line of the tree.
enum Line {
    /// A heading.
    Heading(String),
    /// A function: its branch lines and address, then columns.
    Function { cells: [String; COLUMNS], more: String, colour: Option<usize>, bridge: bool },
}

/// TreeFunction, kind, name, link, group, driver.
const COLUMNS: usize = 6;
const NAME: usize = 2;
const GROUP: usize = 4;

/// The tree, and the distances under it.
pub fn render(picture: &Picture, width: Option<usize>) -> String {
    let mut lines = Vec::new();
    let several = picture.topology.nodes.len() > 1;
    for node in &picture.topology.nodes {
        lines.push(Line::Heading(heading(node, several)));
        let last = node.root_buses.len().saturating_sub(1);
        for (index, bus) in node.root_buses.iter().enumerate() {
            root_bus(picture, bus, index == last, &mut lines);
        }
    }
    let mut text = align(&lines, width);
    if picture.hidden > 0 {
        let functions = if picture.hidden == 1 { "function" } else { "functions" };
        let _ = writeln!(
            text,
            "\n{} {functions} of the host itself not shown (`handover topo --all` shows them)",
            picture.hidden
        );
    }
    if matrix::is_told(picture, width) {
        let _ = write!(text, "\n{}", matrix::render(picture, width));
    } else if picture.ends.len() > 1 {
        text.push_str("\n`handover topo --distances` shows the distances between devices\n");
    }
    text
}

fn root_bus(picture: &Picture, bus: &RootBus, last: bool, lines: &mut Vec<Line>) {
    let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
    lines.push(Line::Heading(format!("{branch}root bus {}", escaped(&bus.bus))));
    children(picture, &bus.children, below, lines);
}

fn children(picture: &Picture, places: &[TreeFunction], before: &str, lines: &mut Vec<Line>) {
    let last = places.len().saturating_sub(1);
    for (index, place) in places.iter().enumerate() {
        let (branch, below) = if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(function(picture, place, format!("{before}{branch}{}", place.address)));
        children(picture, &place.children, &format!("{before}{below}"), lines);
    }
}

fn function(picture: &Picture, place: &TreeFunction, left: String) -> Line {
    let what = match place.part {
        Part::RootPort => "root port".to_owned(),
        Part::SwitchUpstream => "switch".to_owned(),
        Part::SwitchDownstream => "port".to_owned(),
        Part::Bridge => "bridge".to_owned(),
        Part::Device => place.kind.to_string(),
    };
    let bridge = place.part != Part::Device;
    let words = if bridge { link::now } else { link::text };
    let link = place.link.as_ref().map(words).unwrap_or_default();
    let group = place.iommu_group.map(|group| format!("g{group}")).unwrap_or_default();
    let driver = escaped(place.driver.as_deref().unwrap_or_default()).into_owned();
    let colour = place.iommu_group.and_then(|group| picture.colours.get(&group)).copied();
    let name = escaped(&place.name).into_owned();
    Line::Function {
        cells: [left, what, name, link, group, driver],
        more: extras(place).join(", "),
        colour: colour.filter(|_| !bridge),
        bridge,
    }
}

/// Aligns the columns; on a terminal names are shortened first.
fn align(lines: &[Line], width: Option<usize>) -> String {
    let mut widths = [0; COLUMNS];
    let mut more = 0;
    for line in lines {
        let Line::Function { cells, more: extra, .. } = line else { continue };
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
        more = more.max(extra.chars().count());
    }
    if let Some(width) = width {
        let needed = widths.iter().sum::<usize>() + 2 * COLUMNS + more;
        let name = widths[NAME];
        widths[NAME] = name.saturating_sub(needed.saturating_sub(width)).max(LEAST_NAME.min(name));
    }
    let bold = Style::new().bold();
    let mut text = String::new();
    for line in lines {
        match line {
            Line::Heading(heading) => {
                let heading = short(heading, width.unwrap_or(usize::MAX));
                let _ = writeln!(text, "{bold}{heading}{bold:#}");
            }
            Line::Function { cells, more, colour, bridge } => {
                let style = style(*colour, *bridge);
                write_function(&mut text, (cells, more), &widths, width, style);
            }
        }
    }
    text
}

/// The style of a line, and that of its group.
fn style(colour: Option<usize>, bridge: bool) -> (Style, Style) {
    let line = if bridge { Style::new().dimmed() } else { Style::new() };
    let colour = colour.and_then(|number| COLOURS.get(number % COLOURS.len()));
    let group = colour.map_or(line, |colour| Style::new().bold().fg_color(Some((*colour).into())));
    (line, group)
}

/// Prints one line; on a terminal it is cut at the terminal's width.
fn write_function(
    text: &mut String,
    line: (&[String; COLUMNS], &str),
    widths: &[usize; COLUMNS],
    most: Option<usize>,
    (plain, group): (Style, Style),
) {
    let (cells, more) = line;
    let mut left = most.unwrap_or(usize::MAX);
    let last = cells.iter().rposition(|cell| !cell.is_empty()).unwrap_or(0);
    let columns = cells.iter().map(String::as_str).zip(widths.iter().copied());
    let columns = columns.take(if more.is_empty() { last + 1 } else { COLUMNS });
    let extra = (!more.is_empty()).then_some((more, more.chars().count()));
    for (index, (cell, width)) in columns.chain(extra).enumerate() {
        let style = if index == GROUP { group } else { plain };
        let cell = short(cell, width.min(left));
        let ends = if more.is_empty() { index == last } else { index == COLUMNS };
        if ends {
            let _ = write!(text, "{style}{cell}{style:#}");
        } else {
            let padded = (width + 2).min(left);
            let _ = write!(text, "{style}{cell:padded$}{style:#}");
            left -= padded;
        }
    }
    text.push('\n');
}
