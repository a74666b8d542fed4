//! Aligned tables, which fit a terminal.
//!
//! In a pipe nothing is cut. On a terminal that is too narrow the column of names gives way: first by shorter forms of a
//! name, then in the middle of it. What the last column has no room for continues on further lines; where even short
//! names have no room, the last columns move to a second line as a whole. Only these two columns change: an address, a
//! driver and a holder are always whole, unless the terminal is narrower than any of them.

use std::fmt::Write as _;

use anstyle::Style;
use model::shown::{escaped, short, short_in_the_middle};

use crate::wrap::strict_lines;

/// The gap between columns.
const GAP: &str = "  ";

/// The least widths of names: what a name should have, and what it must have.
const LEAST: [usize; 2] = [24, 16];

/// The indent of what continues a row.
const INDENT: usize = 4;

/// A table: a row of headings, and rows of cells.
#[derive(Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Row>,
    /// The column of names.
    name: Option<usize>,
}

#[derive(Debug)]
struct Row {
    cells: Vec<String>,
    /// Shorter forms of its name.
    shorter: Vec<String>,
}

/// How a table fits a terminal.
struct Layout {
    width: usize,
    widths: Vec<usize>,
    /// The first column that is on a second line; the number of columns if there is none.
    second: usize,
}

impl Table {
    /// An empty table.
    pub fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new(), name: None }
    }

    /// An empty table with a column of names, which give way on a narrow terminal.
    pub fn with_names(headings: &[&'static str], column: &str) -> Self {
        let name = headings.iter().position(|heading| *heading == column);
        Self { name, ..Self::new(headings) }
    }

    /// Adds a row. Its values are escaped: a recording must not control the terminal.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.row_of(cells, Vec::new());
    }

    /// Adds a row with shorter forms of its name, the shortest last.
    pub fn row_of(&mut self, cells: impl IntoIterator<Item = String>, shorter: Vec<String>) {
        let escaped = |text: String| escaped(&text).into_owned();
        let cells = cells.into_iter().map(escaped).collect();
        self.rows.push(Row { cells, shorter: shorter.into_iter().map(escaped).collect() });
    }

    /// The table in lines of at most `width`; `None` for no limit. An empty cell is shown as a dash; the last column is not
    /// padded.
    pub fn render_within(&self, width: Option<usize>) -> String {
        let widths = self.widths();
        let whole = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let layout = match width {
            Some(width) if width < whole => self.fit(widths, width),
            _ => {
                let second = widths.len();
                Layout { width: usize::MAX, widths, second }
            }
        };
        let bold = Style::new().bold();
        let headings = self.headings.iter().map(|heading| (*heading).to_owned()).collect();
        let mut text = bold.to_string();
        self.write(&mut text, &Row { cells: headings, shorter: Vec::new() }, &layout);
        let _ = write!(text, "{bold:#}");
        for row in &self.rows {
            self.write(&mut text, row, &layout);
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    fn fit(&self, mut widths: Vec<usize>, width: usize) -> Layout {
        let last = widths.len().saturating_sub(1);
        let natural = self.name.and_then(|name| widths.get(name)).copied().unwrap_or(0);
        let fixed = |columns: usize| {
            let gaps = GAP.len() * columns.saturating_sub(1);
            let cells: usize = widths.iter().take(columns).sum();
            (cells + gaps).saturating_sub(natural)
        };
        let ends = self.rows.iter().filter_map(|row| row.cells.get(last));
        let ends: Vec<usize> = ends.map(|end| end.chars().count()).collect();
        let heading = self.headings.last().map_or(0, |heading| heading.len());
        let room = width.saturating_sub(fixed(last) + GAP.len());
        let name = name_width(natural, &ends, heading, room);
        let (second, name) = name.map_or_else(
            || {
                let after = self.name.map_or(1, |name| name + 1);
                let fits = |second: &usize| fixed(*second) + natural.min(LEAST[1]) <= width;
                let second = (after..=last).rev().find(fits).unwrap_or(after.min(last));
                (second, width.saturating_sub(fixed(second)).min(natural))
            },
            |name| (widths.len(), name),
        );
        if let Some(cell) = self.name.and_then(|column| widths.get_mut(column)) {
            *cell = name;
        }
        Layout { width, widths, second }
    }

    fn write(&self, text: &mut String, row: &Row, layout: &Layout) {
        let last = self.headings.len().saturating_sub(1);
        let mut line = String::new();
        for (column, width) in layout.widths.iter().enumerate() {
            if column == layout.second {
                end_line(text, &line, layout.width);
                line = " ".repeat(layout.indent());
            }
            let cell = row.cells.get(column).map_or("", String::as_str);
            let cell = if cell.is_empty() { "-" } else { cell };
            if column == last && column > 0 {
                write_end(text, line, cell, layout);
                return;
            }
            let cell = if self.name == Some(column) {
                name_within(cell, &row.shorter, *width)
            } else {
                cell.to_owned()
            };
            let _ = write!(line, "{cell:width$}{GAP}");
        }
        end_line(text, &line, layout.width);
    }
}

impl Layout {
    /// The indent of further lines, less where that would be much of the width.
    fn indent(&self) -> usize {
        INDENT.min(self.width / 4)
    }
}

/// Ends a row with its last cell, on further lines if it has no room.
fn write_end(text: &mut String, line: String, cell: &str, layout: &Layout) {
    let used = line.chars().count();
    let length = cell.chars().count();
    if layout.width == usize::MAX || used + length <= layout.width {
        end_line(text, &(line + cell), layout.width);
        return;
    }
    let indent = layout.indent();
    let room = layout.width.saturating_sub(indent);
    // On a second line of its own it starts there; a state after columns is not torn apart.
    let first =
        if layout.second < layout.widths.len() { layout.width.saturating_sub(used) } else { 0 };
    let mut lines = strict_lines(cell, first, room).into_iter();
    end_line(text, &(line + &lines.next().unwrap_or_default()), layout.width);
    for further in lines {
        end_line(text, &format!("{:indent$}{further}", ""), layout.width);
    }
}

fn end_line(text: &mut String, line: &str, width: usize) {
    let line = line.trim_end();
    text.push_str(&short(line, width));
    text.push('\n');
}

/// The widest column of names, at most `natural`, with which as many ends of rows as possible fit beside it within `room`;
/// `None` if not even the heading and one of them do.
pub fn name_width(natural: usize, ends: &[usize], heading: usize, room: usize) -> Option<usize> {
    LEAST.into_iter().find_map(|least| {
        let left = room.checked_sub(natural.min(least)).filter(|left| heading <= *left)?;
        let longest = ends.iter().copied().filter(|end| *end <= left).max()?;
        Some(natural.min(room - longest.max(heading)))
    })
}

/// The longest form of a name that fits, or the shortest without what is in its middle.
pub fn name_within(name: &str, shorter: &[String], most: usize) -> String {
    let mut forms = std::iter::once(name).chain(shorter.iter().map(String::as_str));
    let fits = forms.find(|form| form.chars().count() <= most);
    let shortest = shorter.last().map_or(name, String::as_str);
    fits.map_or_else(|| short_in_the_middle(shortest, most).into_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use model::{Kind, short_titles};
    use proptest::prelude::*;

    use super::*;

    fn shown(table: &Table, width: Option<usize>) -> String {
        anstream::adapter::strip_str(&table.render_within(width)).to_string()
    }

    fn table() -> Table {
        let mut table = Table::with_names(&["ADDRESS", "NAME", "STATE"], "NAME");
        let cells = ["0000:01:00.0", "A controller with a very long name", "\u{1b}[2Jfree"];
        table.row(cells.map(str::to_owned));
        table
    }

    #[test]
    fn lines_fit_a_terminal_and_are_whole_in_a_pipe() {
        let shown = |width| shown(&table(), width);
        assert!(shown(None).contains("A controller with a very long name  \\u001b[2Jfree"));
        assert!(shown(Some(50)).contains("0000:01:00.0  A controll… long name  \\u001b[2Jfree"));
        for width in 0..90 {
            assert!(shown(Some(width)).lines().all(|line| line.chars().count() <= width.max(1)));
        }
    }

    /// Such as those of `return` and `boot-list`: the last column continues on further lines.
    #[test]
    fn a_table_without_names_fits_too() {
        let mut table = Table::new(&["ADDRESS", "OUTCOME", "DRIVER", "WHY"]);
        let why = "it is claimed by job/7, which has to be released first";
        table.row(["0000:01:00.0", "left", "vfio-pci", why].map(str::to_owned));
        for width in 40..100 {
            let text = shown(&table, Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
            let bare = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(bare.contains("vfio-pci") && bare.contains("first"), "{width}: {text}");
        }
    }

    #[test]
    fn a_name_gives_way_and_a_holder_does_not() {
        let mut table = Table::with_names(&["ADDRESS", "NAME", "DRIVER", "STATE"], "NAME");
        let title = "NVIDIA Corporation GA102 [GeForce RTX 3090]";
        let mut add = |address: &str, state: &str| {
            let cells = [address, title, "nvidia", state].map(str::to_owned);
            table.row_of(cells, short_titles(Kind::Gpu, title));
        };
        add("0000:01:00.0", "free");
        add("0000:02:00.0", "in use: someone's program (pid 217) by /dev/nvidia0");
        assert_eq!(
            shown(&table, Some(60)),
            "ADDRESS       NAME                             DRIVER  STATE\n\
             0000:01:00.0  NVIDIA GA102 [GeForce RTX 3090]  nvidia  free\n\
             0000:02:00.0  NVIDIA GA102 [GeForce RTX 3090]  nvidia\n    \
                 in use: someone's program (pid 217) by /dev/nvidia0\n"
        );
        assert_eq!(
            shown(&table, Some(40)),
            "ADDRESS       NAME                DRIVER\n    STATE\n\
             0000:01:00.0  GeForce RTX 3090    nvidia\n    free\n\
             0000:02:00.0  GeForce RTX 3090    nvidia\n    \
                 in use: someone's program (pid 217)\n    by /dev/nvidia0\n"
        );
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal_and_no_end_is_cut(
            rows in prop::collection::vec(("[a-z]{0,9}", "[a-z ]{0,40}", "[a-z]{0,9}", "[a-z ]{0,60}"), 0..6),
            width in 0usize..140,
        ) {
            let mut table = Table::with_names(&["A", "NAME", "C", "STATE"], "NAME");
            for (a, name, c, state) in &rows {
                table.row([a, name, c, state].map(Clone::clone));
            }
            let text = shown(&table, Some(width));
            prop_assert!(text.lines().all(|line| line.chars().count() <= width.max(1)), "{text}");
            let bare = |text: &str| text.replace([' ', '\n'], "");
            for (_, _, c, state) in rows.iter().filter(|_| width >= 30) {
                prop_assert!(bare(&text).contains(&bare(state)), "{state}: {text}");
                prop_assert!(text.contains(c.as_str()), "{c}: {text}");
            }
        }
    }
}
