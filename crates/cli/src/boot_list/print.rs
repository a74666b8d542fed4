//! Prints the boot list and changes to it.

use host::boot_list::Change;
use model::boot_list::{BootListEntry, LIST};
use model::{Function, Inventory};
use serde::Serialize;

use super::{BootList, Outcome};
use crate::failure::Done;
use crate::table::Table;
use crate::{output, terminal};

/// An entry of the boot list, for JSON.
#[derive(Serialize)]
struct Line {
    pci_address: String,
    vendor: String,
    device: String,
    driver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<String>,
}

/// The changes, for JSON.
#[derive(Serialize)]
struct Changes<'a> {
    functions: Vec<Line>,
    written: Vec<String>,
    removed: Vec<String>,
    dry_run: bool,
    /// The command that makes the changes take effect, unless it has been run.
    to_run: Option<&'a str>,
}

/// Prints the boot list.
pub fn list(list: &[BootListEntry], inventory: &Inventory, json: bool) -> Done {
    let lines = list.iter().map(|one| line(one, Some(now(one, inventory))));
    if json {
        return output::json(&lines.collect::<Vec<_>>());
    }
    if list.is_empty() {
        return output::line("The boot list is empty.");
    }
    let mut table = Table::new(&["ADDRESS", "IDS", "FOR", "NOW"]);
    for Line { pci_address, vendor, device, driver, now } in lines {
        table.row([pci_address, format!("{vendor}:{device}"), driver, now.unwrap_or_default()]);
    }
    output::text(&table.render_within(terminal::width()))
}

/// Notes the lines that the boot script ignores.
pub fn unread_lines(list: &str) {
    for (number, line) in model::boot_list::unread_lines(list) {
        output::note(&format!(
            "line {number} of {LIST} is not an entry and has no effect: {line:?}; an entry is `ADDRESS 0xVENDOR 0xDEVICE DRIVER`"
        ));
    }
}

/// The current state of a listed function.
fn now(entry: &BootListEntry, inventory: &Inventory) -> String {
    let Some(function) = inventory.function(entry.address) else {
        return "absent".to_owned();
    };
    if (function.vendor, function.device) != (entry.vendor, entry.device) {
        return format!("another device at this address ({})", ids(function));
    }
    match function.driver.as_deref() {
        Some(driver) if driver == entry.driver => "bound".to_owned(),
        Some(driver) => format!("bound to {driver} until the next boot"),
        None => "no driver".to_owned(),
    }
}

fn ids(function: &Function) -> String {
    format!("{}:{}", function.vendor, function.device)
}

fn line(entry: &BootListEntry, now: Option<String>) -> Line {
    Line {
        pci_address: entry.address.to_string(),
        vendor: entry.vendor.to_string(),
        device: entry.device.to_string(),
        driver: entry.driver.clone(),
        now,
    }
}

/// Prints what was changed, and what remains to be done.
pub fn outcome(asked: &BootList, outcome: &Outcome) -> Done {
    let paths = |written: bool| -> Vec<String> {
        let changes = outcome.changes.iter();
        let of_kind = |change: &&Change| matches!(change, Change::Write { .. }) == written;
        changes
            .filter(of_kind)
            .map(|change| asked.root.join(change.path()))
            .map(|path| path.display().to_string())
            .collect()
    };
    let (written, removed) = (paths(true), paths(false));
    let to_run = outcome.rebuild.filter(|_| !asked.rebuild);
    if asked.output.json {
        let functions = outcome.functions.iter().map(|one| line(one, None)).collect();
        return output::json(&Changes {
            functions,
            written,
            removed,
            dry_run: asked.dry_run,
            to_run,
        });
    }
    let would = if asked.dry_run { "would be " } else { "" };
    for one in &outcome.functions {
        let BootListEntry { address, vendor, device, driver } = one;
        let effect = if asked.remove {
            "removed from the boot list".into()
        } else {
            format!("{driver} from the next boot on")
        };
        output::line(&format!("{address}  {vendor}:{device}  {effect}"))?;
    }
    for address in &outcome.absent {
        output::line(&format!("{address} is not on the boot list"))?;
    }
    for (what, paths) in [("written", &written), ("removed", &removed)] {
        if !paths.is_empty() {
            output::line(&format!("{would}{what}: {}", paths.join(" ")))?;
        }
    }
    let then = if outcome.changes.is_empty() {
        "No changes. If not done since the last change,"
    } else {
        "Then"
    };
    match to_run {
        Some(command) => output::line(&format!("{then} run `{command}` and reboot this host.")),
        None if asked.rebuild => output::line("Reboot this host."),
        None => output::line(&format!("{then} rebuild the initial ramdisk and reboot this host.")),
    }
}
