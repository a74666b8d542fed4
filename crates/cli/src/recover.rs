//! `handover recover` and `handover reconcile`: bringing devices, claims and records together again.

use api::{RecoverDevices, RecoveredDevice, Report};
use clap::Args;

use crate::backend::Backend;
use crate::failure::{Done, Failure, WARNINGS};
use crate::output;
use crate::table::Table;

/// Return unclaimed devices to their native drivers
///
/// What a script left on vfio, what is reserved for a driver that never came, and what waits for a person and is well
/// again. What a machine, a claim or a process has is left alone, and named.
#[derive(Debug, Args)]
pub struct Recover {
    #[command(flatten)]
    backend: Backend,
    /// Which; or --all
    #[arg(required_unless_present = "all", value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// All that is on a vfio driver or waits for a person
    #[arg(long, conflicts_with = "addresses")]
    all: bool,
}

/// Compare claims, machines and devices, mend what can be mended, and tell the rest
#[derive(Debug, Args)]
pub struct Reconcile {
    #[command(flatten)]
    backend: Backend,
    /// Only show what the last look found
    #[arg(long)]
    last: bool,
}

impl Recover {
    pub fn run(self) -> Done {
        let body = RecoverDevices { addresses: self.addresses };
        let all: Vec<RecoveredDevice> = self
            .backend
            .ask(
                async |client| client.post("/recover", Some(&body)).await,
                |engine| service::recovery::recover(engine, &body),
            )
            .map_err(Failure::to("recover devices"))?;
        if self.backend.connection.json() {
            output::json(&all)?;
        } else if all.is_empty() {
            output::line(
                "Nothing to recover: no device is on a vfio driver or waits for a person.",
            )?;
        } else {
            let mut table = Table::new(&["ADDRESS", "OUTCOME", "DRIVER", "WHY"]);
            for one in &all {
                let driver = one.driver.clone().unwrap_or_else(|| "none".to_owned());
                let why = one.reason.clone().unwrap_or_default();
                table.row([one.pci_address.clone(), one.outcome.clone(), driver, why]);
            }
            output::line(table.render().trim_end())?;
        }
        let left = all.iter().any(|one| one.outcome == "left");
        if left { Err(Failure::Answered(WARNINGS)) } else { Ok(()) }
    }
}

impl Reconcile {
    pub fn run(self) -> Done {
        let report: Report = self
            .backend
            .ask(
                async |client| {
                    if self.last {
                        return client.get("/reconcile").await;
                    }
                    client.post("/reconcile", None::<&()>).await
                },
                // Opening the engine has looked already.
                |engine| Ok(service::recovery::report(engine.last_report().unwrap_or_default())),
            )
            .map_err(Failure::to("compare claims and devices"))?;
        if self.backend.connection.json() {
            return output::json(&report);
        }
        let told = [
            ("finished", &report.finished),
            ("undone", &report.undone),
            ("restored", &report.restored),
            ("found running", &report.adopted),
            ("for you", &report.notes),
        ];
        for (what, lines) in told.iter().filter(|(_, lines)| !lines.is_empty()) {
            output::line(&format!("{what}:"))?;
            lines.iter().try_for_each(|line| output::line(&format!("  {line}")))?;
        }
        if told.iter().all(|(_, lines)| lines.is_empty()) {
            return output::line("Claims, machines and devices agree.");
        }
        Ok(())
    }
}
