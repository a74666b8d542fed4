//! Prints what a dry run of a creation would make.

use api::PlannedInstance;

use super::device;
use crate::connection::Connection;
use crate::failure::Done;
use crate::table::Table;
use crate::{output, terminal};

pub fn print(connection: &Connection, planned: &PlannedInstance) -> Done {
    planned.notes.iter().for_each(|note| output::note(&format!("note: {note}")));
    if connection.json() {
        return output::json(planned);
    }
    output::line("Dry run: nothing was changed, and nothing is reserved.")?;
    output::line("")?;
    if !planned.attached.is_empty() {
        output::line("would hand over (`handover claim --dry-run` shows each step)")?;
        planned.attached.iter().try_for_each(|one| output::line(&format!("  {}", device(one))))?;
        output::line("")?;
    }
    let mut table = Table::new(&["CHOICE", "VALUE", "WHY"]);
    for choice in &planned.choices {
        table.row([choice.item.clone(), choice.value.clone(), choice.reason.clone()]);
    }
    output::text(&table.render_within(terminal::width()))
}
