//! Prints the tree.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use model::short_titles;
use model::shown::{escaped, short};
use model::topology::words::{extras, heading};
use model::topology::{Part, Picture, RootBus, TreeFunction, link};

use super::matrix;
use crate::table::{name_width, name_within};
use crate::wrap::{paragraph, strict_lines};

/// Colours of groups, reused if there are more groups.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Green,
    AnsiColor::Blue,
    AnsiColor::Red,
];

/// The least width of a name beside all columns.
const LEAST_NAME: usize = 16;

/// With fewer characters, what continues a line has no branches of the tree before it.
const LEAST_REST: usize = 16;

/// A line of the tree.
enum Line {
    /// A heading.
    Heading(String),
    /// A function.
    Function(Box<Shown>),
}

/// A function's line.
struct Shown {
    /// Its branch lines and address, then columns.
    cells: [String; COLUMNS],
    /// Shorter forms of its name.
    shorter: Vec<String>,
    more: String,
    /// The branch lines of what continues its line.
    below: String,
    colour: Option<usize>,
    bridge: bool,
}

/// How the columns fit a terminal.
struct Layout {
    width: usize,
    widths: [usize; COLUMNS],
    /// How many columns are on the first line of a function.
    columns: usize,
}

/// The gap between columns.
const GAP: &str = "  ";

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
        let hidden = format!(
            "{} {functions} of the host itself not shown (`handover topo --all` shows them)",
            picture.hidden
        );
        let _ = writeln!(text, "\n{}", paragraph(&hidden, 0, 0, width));
    }
    if matrix::is_told(picture, width) {
        let _ = write!(text, "\n{}", matrix::render(picture, width));
    } else if picture.ends.len() > 1 {
        let more = "`handover topo --distances` shows the distances between devices";
        let _ = writeln!(text, "\n{}", paragraph(more, 0, 0, width));
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
        let below = format!("{before}{below}");
        let left = format!("{before}{branch}{}", place.address);
        let inner = if place.children.is_empty() { "   " } else { "│  " };
        let shown = function(picture, place, left, format!("{below}{inner}"));
        lines.push(Line::Function(Box::new(shown)));
        children(picture, &place.children, &below, lines);
    }
}

fn function(picture: &Picture, place: &TreeFunction, left: String, below: String) -> Shown {
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
    Shown {
        shorter: short_titles(place.kind, &name),
        cells: [left, what, name, link, group, driver],
        more: extras(place).join(", "),
        below,
        colour: colour.filter(|_| !bridge),
        bridge,
    }
}

/// Aligns the columns. On a terminal names are shortened; what does not fit then continues below.
fn align(lines: &[Line], width: Option<usize>) -> String {
    let layout = layout(lines, width);
    let bold = Style::new().bold();
    let mut text = String::new();
    for line in lines {
        match line {
            Line::Heading(heading) => {
                let heading = short(heading, layout.width);
                let _ = writeln!(text, "{bold}{heading}{bold:#}");
            }
            Line::Function(shown) => write_function(&mut text, shown, &layout),
        }
    }
    text
}

fn layout(lines: &[Line], width: Option<usize>) -> Layout {
    let mut widths = [0; COLUMNS];
    let mut ends = Vec::new();
    for line in lines {
        let Line::Function(shown) = line else { continue };
        for (width, cell) in widths.iter_mut().zip(&shown.cells) {
            *width = (*width).max(cell.chars().count());
        }
        ends.push(shown.more.chars().count());
    }
    let Some(width) = width else { return Layout { width: usize::MAX, widths, columns: COLUMNS } };
    let natural = widths[NAME];
    let fixed = widths.iter().sum::<usize>() - natural + GAP.len() * COLUMNS;
    let room = width.saturating_sub(fixed);
    let (name, columns) = match name_width(natural, &ends, 0, room) {
        Some(name) if room >= natural.min(LEAST_NAME) => (name, COLUMNS),
        _ => {
            let before: usize = widths.iter().take(NAME).map(|width| width + GAP.len()).sum();
            (width.saturating_sub(before).min(natural), NAME + 1)
        }
    };
    widths[NAME] = name;
    Layout { width, widths, columns }
}

/// The style of a line, and that of its group.
fn style(colour: Option<usize>, bridge: bool) -> (Style, Style) {
    let line = if bridge { Style::new().dimmed() } else { Style::new() };
    let colour = colour.and_then(|number| COLOURS.get(number % COLOURS.len()));
    let group = colour.map_or(line, |colour| Style::new().bold().fg_color(Some((*colour).into())));
    (line, group)
}

/// Prints a function: its columns on a line, and below it what has no room there.
fn write_function(text: &mut String, shown: &Shown, layout: &Layout) {
    let (plain, group) = style(shown.colour, shown.bridge);
    let Layout { width, widths, columns } = *layout;
    let used = widths.iter().take(columns).map(|width| width + GAP.len()).sum::<usize>();
    let more = shown.more.as_str();
    let beside = columns == COLUMNS && used.saturating_add(more.chars().count()) <= width;
    let mut line = Vec::new();
    for (index, (cell, width)) in shown.cells.iter().zip(widths).enumerate().take(columns) {
        let cell =
            if index == NAME { name_within(cell, &shown.shorter, width) } else { cell.clone() };
        line.push((format!("{cell:width$}"), if index == GROUP { group } else { plain }));
    }
    line.extend(beside.then(|| (more.to_owned(), plain)));
    write_line(text, &line, width);
    let rest = shown.cells.iter().skip(columns).map(String::as_str);
    let rest: Vec<&str> =
        rest.chain((!beside).then_some(more)).filter(|cell| !cell.is_empty()).collect();
    if rest.is_empty() {
        return;
    }
    let room = width.saturating_sub(shown.below.chars().count());
    let (below, room) = if room < LEAST_REST { ("", width) } else { (shown.below.as_str(), room) };
    for further in strict_lines(&rest.join(", "), room, room) {
        let _ = writeln!(text, "{plain}{below}{further}{plain:#}");
    }
}

/// Prints cells with their styles, without the blanks at the end of the line, cut at the terminal's width.
fn write_line(text: &mut String, cells: &[(String, Style)], width: usize) {
    let last = cells.iter().rposition(|(cell, _)| !cell.trim().is_empty()).unwrap_or(0);
    let mut left = width;
    for (index, (cell, style)) in cells.iter().take(last + 1).enumerate() {
        if left == 0 && index > 0 {
            break;
        }
        let cell = if index == last { cell.trim_end().to_owned() } else { format!("{cell}{GAP}") };
        let count = cell.chars().count();
        // A column's padding may end beyond the edge, its text may not.
        let cell = short(if count > left { cell.trim_end() } else { &cell }, left);
        left = left.saturating_sub(cell.chars().count().max(1));
        let _ = write!(text, "{style}{cell}{style:#}");
    }
    text.push('\n');
}
