//! What is reserved, and what was done for it.

use host::boot_list::Change;
use model::boot_list::BootListEntry;
use model::{Function, Inventory};
use serde::Serialize;

use super::{BootList, Outcome};
use crate::failure::Done;
use crate::output;
use crate::table::Table;

/// A reserved function for a program.
#[derive(Serialize)]
struct Line {
    pci_address: String,
    vendor: String,
    device: String,
    driver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<String>,
}

/// What was done, for a program.
#[derive(Serialize)]
struct Told<'a> {
    functions: Vec<Line>,
    written: Vec<String>,
    removed: Vec<String>,
    dry_run: bool,
    /// What has to be run for it to take effect, where it was not.
    to_run: Option<&'a str>,
}

/// What is reserved.
pub fn list(reserved: &[BootListEntry], inventory: &Inventory, json: bool) -> Done {
    let lines = reserved.iter().map(|one| line(one, Some(now(one, inventory))));
    if json {
        return output::json(&lines.collect::<Vec<_>>());
    }
    if reserved.is_empty() {
        return output::line("Nothing is reserved.");
    }
    let mut table = Table::new(&["ADDRESS", "IDS", "FOR", "NOW"]);
    for Line { pci_address, vendor, device, driver, now } in lines {
        table.row([pci_address, format!("{vendor}:{device}"), driver, now.unwrap_or_default()]);
    }
    output::line(table.render().trim_end())
}

/// How it is with a reserved function now.
fn now(reserved: &BootListEntry, inventory: &Inventory) -> String {
    let Some(function) = inventory.function(reserved.address) else {
        return "not there".to_owned();
    };
    if (function.vendor, function.device) != (reserved.vendor, reserved.device) {
        return format!("another device is there ({})", ids(function));
    }
    match function.driver.as_deref() {
        Some(driver) if driver == reserved.driver => "there, on it".to_owned(),
        Some(driver) => format!("there, on {driver} until the next boot"),
        None => "there, without a driver".to_owned(),
    }
}

fn ids(function: &Function) -> String {
    format!("{}:{}", function.vendor, function.device)
}

fn line(reserved: &BootListEntry, now: Option<String>) -> Line {
    Line {
        pci_address: reserved.address.to_string(),
        vendor: reserved.vendor.to_string(),
        device: reserved.device.to_string(),
        driver: reserved.driver.clone(),
        now,
    }
}

/// What was done, and what is to be done.
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
        return output::json(&Told { functions, written, removed, dry_run: asked.dry_run, to_run });
    }
    let would = if asked.dry_run { "would be " } else { "" };
    for one in &outcome.functions {
        let BootListEntry { address, vendor, device, driver } = one;
        let said = if asked.remove {
            "reserved no longer".into()
        } else {
            format!("for {driver} from the next boot on")
        };
        output::line(&format!("{address}  {vendor}:{device}  {said}"))?;
    }
    for (what, paths) in [("written", &written), ("removed", &removed)] {
        if !paths.is_empty() {
            output::line(&format!("{would}{what}: {}", paths.join(" ")))?;
        }
    }
    let then = if outcome.changes.is_empty() {
        "Nothing had to be changed. If that was not done since:"
    } else {
        "Then"
    };
    match to_run {
        Some(command) => {
            output::line(&format!("{then} run `{command}`, and start this host again."))
        }
        None if asked.rebuild => output::line("Start this host again."),
        None => output::line(&format!(
            "{then} make the initial ramdisk again, and start this host again."
        )),
    }
}
