//! `handover return` and `handover reconcile`: making devices, claims and the journal agree again.

use api::{Report, ReturnDevices, ReturnedDevice};
use clap::Args;

use crate::backend::Backend;
use crate::failure::{Done, Failure, WARNINGS};
use crate::table::Table;
use crate::{output, terminal};

/// Return unclaimed devices to their native drivers
///
/// Returns devices that a script left on a vfio driver, that a `driver_override` keeps from their driver, or that needed
/// manual attention and work again. Devices in use by a machine, a claim or a process are left alone and listed.
#[derive(Debug, Args)]
#[command(
    override_usage = "handover return [OPTIONS] <ADDRESS|NAME>...\n       handover return [OPTIONS] --all"
)]
pub struct Return {
    #[command(flatten)]
    backend: Backend,
    /// Addresses or registered names of the devices, unless --all is given
    #[arg(required_unless_present = "all", value_name = "ADDRESS|NAME")]
    addresses: Vec<String>,
    /// All devices on a vfio driver or in need of manual attention
    #[arg(long, conflicts_with = "addresses")]
    all: bool,
}

/// Compare claims, machines and devices, fix what can be fixed, and report the rest
///
/// The exit status is 10 if something needs manual attention.
#[derive(Debug, Args)]
pub struct Reconcile {
    #[command(flatten)]
    backend: Backend,
    /// Show the report of the last check; do not check again
    #[arg(long)]
    last: bool,
}

impl Return {
    pub fn run(self) -> Done {
        let body = ReturnDevices { addresses: self.addresses, all: self.all };
        let all: Vec<ReturnedDevice> = self
            .backend
            .ask(
                async |client| client.post("/return", Some(&body)).await,
                |engine| service::reconcile::return_devices(engine, &body),
            )
            .map_err(Failure::to("return devices"))?;
        if self.backend.connection.json() {
            output::json(&all)?;
        } else if all.is_empty() {
            output::line(
                "Nothing to return: no device is on a vfio driver, except those of the boot list, and none needs manual attention.",
            )?;
        } else {
            let mut table = Table::new(&["ADDRESS", "OUTCOME", "DRIVER", "WHY"]);
            for one in &all {
                let driver = one.driver.clone().unwrap_or_else(|| "none".to_owned());
                let why = one.reason.clone().unwrap_or_default();
                table.row([one.pci_address.clone(), one.outcome.clone(), driver, why]);
            }
            output::text(&table.render_within(terminal::width()))?;
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
                // Opening the engine has just checked.
                |engine| Ok(service::reconcile::report(engine.last_report().unwrap_or_default())),
            )
            .map_err(Failure::to("compare claims and devices"))?;
        if self.backend.connection.json() {
            output::json(&report)?;
            return ended(&report);
        }
        let sections = [
            ("finished", &report.finished),
            ("undone", &report.undone),
            ("restored", &report.restored),
            ("found running", &report.adopted),
            ("needs manual attention", &report.notes),
        ];
        for (title, lines) in sections.iter().filter(|(_, lines)| !lines.is_empty()) {
            output::line(&format!("{title}:"))?;
            lines.iter().try_for_each(|line| output::line(&format!("  {line}")))?;
        }
        if sections.iter().all(|(_, lines)| lines.is_empty()) {
            output::line("Claims, machines and devices agree.")?;
        }
        ended(&report)
    }
}

/// The exit status: what needs manual attention is a warning.
fn ended(report: &Report) -> Done {
    if report.notes.is_empty() { Ok(()) } else { Err(Failure::Answered(WARNINGS)) }
}
