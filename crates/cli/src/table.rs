//! Aligned tables for people.

use std::fmt::Write as _;

use anstyle::Style;

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

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text. An empty cell is a dash; the last column is not padded.
    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(self.headings.get(column).map_or(0, |heading| heading.len()))
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let bold = Style::new().bold();
        let mut text = bold.to_string();
        line(&mut text, &widths, self.headings.iter().copied());
        let _ = write!(text, "{bold:#}");
        for row in &self.rows {
            line(&mut text, &widths, row.iter().map(String::as_str));
        }
        text
    }
}

fn line<'a>(text: &mut String, widths: &[usize], cells: impl Iterator<Item = &'a str>) {
    let mut line = String::new();
    for (cell, width) in cells.zip(widths) {
        let cell = if cell.is_empty() { "-" } else { cell };
        let _ = write!(line, "{cell:width$}  ");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
