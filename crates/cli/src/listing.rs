//! Prints values of the REST API: as a table, as fields, or as JSON.

use serde::Serialize;

use crate::failure::Done;
use crate::output;
use crate::table::Table;

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
    let mut table = Table::new(&headings);
    all.iter().for_each(|one| table.row(cells(one)));
    output::text(&table.render())?;
    if all.is_empty() {
        output::note(none);
    }
    Ok(())
}

/// Prints one value as JSON, or its fields, one per line.
pub fn print_one(json: bool, one: &impl Serialize, fields: &[(&str, String)]) -> Done {
    if json { output::json(one) } else { output::fields(fields) }
}
