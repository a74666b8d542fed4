//! Prints values of the REST API: as a table, as fields, or as JSON.

use model::{Kind, short_titles};
use serde::Serialize;

use crate::failure::Done;
use crate::table::Table;
use crate::{output, terminal};

/// The heading of the column with names of models, which give way on a narrow terminal.
pub const MODEL: &str = "MODEL";

/// The heading of the column with kinds of devices.
const KIND: &str = "KIND";

/// Prints values as JSON, or as a table with one row each. If there are none, says so on standard error.
pub fn print<T: Serialize, const N: usize>(
    json: bool,
    all: &[T],
    none: &str,
    headings: [&'static str; N],
    cells: impl Fn(&T) -> [String; N],
) -> Done {
    if json {
        return output::json(&all);
    }
    if all.is_empty() {
        output::note(none);
        return Ok(());
    }
    let rows: Vec<[String; N]> = all.iter().map(cells).collect();
    output::text(&table(headings, rows).render_within(terminal::width()))
}

/// The same, with the column that gives way on a narrow terminal, and shorter forms of its cells, the shortest last.
pub fn print_with<T: Serialize, const N: usize>(
    json: bool,
    all: &[T],
    none: &str,
    headings: [&'static str; N],
    (column, shorter): (&str, impl Fn(&T) -> Vec<String>),
    cells: impl Fn(&T) -> [String; N],
) -> Done {
    if json {
        return output::json(&all);
    }
    if all.is_empty() {
        output::note(none);
        return Ok(());
    }
    let mut table = Table::with_names(&headings, column);
    all.iter().for_each(|one| table.row_of(cells(one), shorter(one)));
    output::text(&table.render_within(terminal::width()))
}

/// A table of values, with the shorter forms of models' names.
fn table<const N: usize>(headings: [&'static str; N], rows: Vec<[String; N]>) -> Table {
    let place = |wanted| headings.iter().position(|heading| *heading == wanted);
    let (kind, model) = (place(KIND), place(MODEL));
    let mut table = Table::with_names(&headings, MODEL);
    for cells in rows {
        let cell = |column: Option<usize>| cells.get(column?).map(String::as_str);
        let kind = cell(kind).and_then(|kind| kind.parse().ok()).unwrap_or(Kind::Other);
        let shorter = cell(model).map(|model| short_titles(kind, model));
        table.row_of(cells, shorter.unwrap_or_default());
    }
    table
}

/// Prints one value as JSON, or its fields, one per line.
pub fn print_one(json: bool, one: &impl Serialize, fields: &[(&str, String)]) -> Done {
    if json { output::json(one) } else { output::fields(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_give_way_by_the_name_that_people_know() {
        let headings = ["NAME", "ADDRESS", KIND, MODEL, "STATE", "ATTACHED TO", "TAGS"];
        let title = "NVIDIA Corporation GA102 [GeForce RTX 3090]";
        let cells = ["gpu0", "0000:01:00.0", "gpu", title, "claimed", "web", "team=a room=b"];
        let text = |width| {
            let table = table(headings, vec![cells.map(str::to_owned)]);
            anstream::adapter::strip_str(&table.render_within(width)).to_string()
        };
        assert!(text(None).contains(title) && text(Some(200)).contains(title));
        for width in 50..130 {
            let text = text(Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            assert!(text.contains("GeForce RTX 3090"), "{text}");
            assert!(text.contains("team=a room=b") && text.contains("claimed"), "{text}");
        }
    }
}
