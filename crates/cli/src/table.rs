//! Aligned tables.

use std::fmt::Write as _;

use anstyle::Style;
use model::shown::{escaped, short};

/// The gap between columns.
const GAP: &str = "  ";

/// The least width of a column.
const LEAST: usize = 12;

/// A table: a row of headings, and rows of cells.
#[derive(Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Its values are escaped: a recording must not control the terminal.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| escaped(&cell).into_owned()).collect());
    }

    /// The table as text. An empty cell is shown as a dash; the last column is not padded.
    pub fn render(&self) -> String {
        self.render_with(&self.widths(), None)
    }

    /// The table in lines of at most `width`: shortens the cells of `column` first, then the ends of lines.
    pub fn render_within(&self, width: Option<usize>, column: usize) -> String {
        let Some(width) = width else { return self.render() };
        let mut widths = self.widths();
        let needed = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        if let Some(elastic) = widths.get_mut(column) {
            *elastic =
                elastic.saturating_sub(needed.saturating_sub(width)).max(LEAST.min(*elastic));
        }
        self.render_with(&widths, Some(width))
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    fn render_with(&self, widths: &[usize], most: Option<usize>) -> String {
        let bold = Style::new().bold();
        let mut text = bold.to_string();
        line(&mut text, widths, most, self.headings.iter().copied());
        let _ = write!(text, "{bold:#}");
        for row in &self.rows {
            line(&mut text, widths, most, row.iter().map(String::as_str));
        }
        text
    }
}

fn line<'a>(
    text: &mut String,
    widths: &[usize],
    most: Option<usize>,
    cells: impl Iterator<Item = &'a str>,
) {
    let mut line = String::new();
    for (cell, width) in cells.zip(widths) {
        let cell = if cell.is_empty() { "-" } else { cell };
        let _ = write!(line, "{:width$}{GAP}", short(cell, *width));
    }
    let line = line.trim_end();
    text.push_str(&most.map_or_else(|| line.into(), |most| short(line, most)));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ADDRESS", "NAME", "STATE"]);
        let cells = ["0000:01:00.0", "A controller with a very long name", "\u{1b}[2Jfree"];
        table.row(cells.map(str::to_owned));
        table
    }

    #[test]
    fn lines_fit_a_terminal_and_are_whole_in_a_pipe() {
        let shown =
            |width| anstream::adapter::strip_str(&table().render_within(width, 1)).to_string();
        assert!(shown(None).contains("A controller with a very long name  \\u001b[2Jfree"));
        assert!(shown(Some(50)).contains("0000:01:00.0  A controller with a …  \\u001b[2Jfree"));
        for width in 0..90 {
            assert!(shown(Some(width)).lines().all(|line| line.chars().count() <= width.max(1)));
        }
    }
}
