//! `handover watch`: prints changes of the host's devices as the kernel reports them; needs no daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anstyle::Style;
use clap::Args;
use host::Follower;
use jiff::{Timestamp, Zoned};
use model::shown::escaped;
use model::{Change, Code, HostError, HostMonitor, Inventory, Refusal};
use serde::Serialize;

use crate::failure::{Done, Failure};
use crate::filter::{self, Filter};
use crate::{Json, output, terminal};

/// After this long without a change, a burst of changes is over.
const QUIET: Duration = Duration::from_millis(100);

/// After this long, the changes are shown even if the burst goes on.
const LONGEST_BURST: Duration = Duration::from_secs(1);

/// Examples, for the help.
const EXAMPLES: &str = "  handover watch                    all changes
  handover watch gpu                changes of GPUs
  handover watch 01:00.0 --json     changes of one function, for programs";

/// Print changes of the host's devices as they happen
///
/// One line per change: a device appears or disappears; its driver, IOMMU group, VFs or mediated devices change; its
/// driver creates network interfaces, disks, display or VFIO nodes. Ends with Ctrl-C.
#[derive(Debug, Args)]
#[command(after_long_help = filter::help(EXAMPLES))]
pub struct Watch {
    /// Print only changes of functions that match before or after the change: an address or its beginning, ids, a kind,
    /// key:value, or free text; all filters must match
    #[arg(value_name = "FILTER")]
    filters: Vec<Filter>,

    /// Refused with the reason: other reading commands have it.
    #[arg(long, value_name = "DIR|FILE", default_value = "/", hide = true)]
    root: PathBuf,

    #[command(flatten)]
    output: Json,
}

/// A change in JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    #[serde(flatten)]
    change: &'a Change,
    words: String,
}

impl Watch {
    pub fn run(self) -> Done {
        if self.root != Path::new("/") {
            return Err(Failure::to("watch")(Refusal::new(
                Code::InvalidRequest,
                "changes are reported by the running kernel: a recording or another tree has none",
                format!(
                    "watch this host without --root; `handover ls --root {}` lists its devices",
                    self.root.display()
                ),
            )));
        }
        until_interrupted(move || self.follow())
    }

    fn follow(&self) -> Done {
        let follower = Follower::start().map_err(failed)?;
        let mut known = follower.snapshot();
        introduce(&known);
        loop {
            follower.wait(None).map_err(failed)?;
            let changes = follower.catch_up().map_err(failed)?;
            if changes.is_empty() {
                continue;
            }
            let now = follower.snapshot();
            for change in changes.iter().filter(|change| self.wants(change, &known, &now)) {
                self.print(change)?;
            }
            known = now;
        }
    }

    fn wants(&self, change: &Change, before: &Inventory, after: &Inventory) -> bool {
        let functions = [before, after].map(|inventory| inventory.function(change.address));
        self.filters.is_empty()
            || functions.into_iter().flatten().any(|f| Filter::all_match(&self.filters, f))
    }

    fn print(&self, change: &Change) -> Done {
        let now = Timestamp::now();
        if self.output.json {
            let line = Line { time: now, change, words: change.kind.to_string() };
            output::json_line(&line)
        } else {
            output::text(&sentence(&now.to_zoned(jiff::tz::TimeZone::system()), change))
        }
    }
}

/// `14:05:09.123  0000:01:00.0  NVIDIA Corporation GA100: bound to vfio-pci`.
fn sentence(time: &Zoned, change: &Change) -> String {
    let (dim, bold) = (Style::new().dimmed(), Style::new().bold());
    let Change { address, name, kind } = change;
    let time = time.strftime("%H:%M:%S%.3f");
    let (name, kind) = (escaped(name), kind.to_string());
    let kind = escaped(&kind);
    format!("{dim}{time}{dim:#}  {bold}{address}{bold:#}  {name}: {bold}{kind}{bold:#}")
}

/// Prints to standard error what is monitored.
fn introduce(inventory: &Inventory) {
    let (functions, groups) = (inventory.functions.len(), inventory.groups.len());
    // If standard error is closed, the changes are still printed.
    output::note(&format!("watching {functions} PCI functions in {groups} IOMMU groups"));
}

/// Calls `show` now and after each change of a device, until Ctrl-C. With `pages`, each output replaces the last on a
/// terminal, and is separated by a line elsewhere.
pub fn at_each_change(pages: bool, mut show: impl FnMut() -> Done + Send + 'static) -> Done {
    until_interrupted(move || {
        let follower = Follower::start().map_err(failed)?;
        let mut first = true;
        loop {
            if pages {
                turn_page(first)?;
            }
            show()?;
            first = false;
            while follower.catch_up().map_err(failed)?.is_empty() {
                follower.wait(None).map_err(failed)?;
            }
            settle(&follower)?;
        }
    })
}

/// Clears the terminal.
fn turn_page(first: bool) -> Done {
    if terminal::shows_output() {
        Ok(terminal::clear()?)
    } else if first {
        Ok(())
    } else {
        output::line("")
    }
}

/// Waits until a burst is over: binding a driver makes several changes.
fn settle(follower: &Follower) -> Done {
    let end = Instant::now() + LONGEST_BURST;
    while Instant::now() < end && follower.wait(Some(QUIET)).map_err(failed)? {
        follower.catch_up().map_err(failed)?;
    }
    Ok(())
}

/// Runs endless work until Ctrl-C.
fn until_interrupted(work: impl FnOnce() -> Done + Send + 'static) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let working = tokio::task::spawn_blocking(work);
        tokio::select! {
            done = working => done.map_err(io::Error::from)?,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    });
    // The work blocks in the kernel; the process does not wait for it.
    runtime.shutdown_background();
    done
}

fn failed(error: HostError) -> Failure {
    let remedy = "run it on the host itself: a sandbox or container may block netlink";
    Failure::to("watch the host's devices")(Refusal::new(Code::Internal, error.to_string(), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ChangeKind, Function};

    fn change() -> Change {
        let (before, after) = (None, Some("vfio-pci".to_owned()));
        Change {
            address: "0000:01:00.0".parse().unwrap(),
            name: "NVIDIA Corporation GA100".into(),
            kind: ChangeKind::Driver { before, after },
        }
    }

    #[test]
    fn a_line_for_a_person_and_one_for_a_program() {
        let time: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let text = sentence(&time.to_zoned(jiff::tz::TimeZone::UTC), &change());
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            plain,
            "03:04:05.678  0000:01:00.0  NVIDIA Corporation GA100: bound to vfio-pci"
        );
        let hostile = Change { name: "\u{1b}[2J\nfake".into(), ..change() };
        let text = sentence(&time.to_zoned(jiff::tz::TimeZone::UTC), &hostile);
        assert!(text.contains("  \\u001b[2J\\nfake: "), "{text:?}");
        let line = Line { time, change: &change(), words: change().kind.to_string() };
        assert_eq!(
            serde_json::to_value(&line).unwrap(),
            serde_json::json!({
                "time": "2026-01-02T03:04:05.678Z",
                "address": "0000:01:00.0",
                "name": "NVIDIA Corporation GA100",
                "change": "driver",
                "before": null,
                "after": "vfio-pci",
                "words": "bound to vfio-pci"
            })
        );
    }

    #[test]
    fn events_before_or_after_the_selection_are_reported() {
        let with_driver = |driver: &str| {
            let mut function = Function::unknown("0000:01:00.0".parse().unwrap());
            function.driver = Some(driver.into());
            Inventory {
                functions: [(function.address, function)].into_iter().collect(),
                ..Inventory::default()
            }
        };
        let (before, after) = (with_driver("nvidia"), with_driver("vfio-pci"));
        let wants = |filters: &[&str]| {
            let filters = filters.iter().map(|text| text.parse().unwrap()).collect();
            let watch = Watch { filters, root: "/".into(), output: Json { json: false } };
            watch.wants(&change(), &before, &after)
        };
        assert!(wants(&[]) && wants(&["01:"]));
        assert!(wants(&["driver:nvidia"]) && wants(&["driver:vfio-pci"]));
        assert!(!wants(&["02:"]) && !wants(&["01:", "driver:nouveau"]));
        let gone = Change { kind: ChangeKind::Gone, ..change() };
        let watch = Watch {
            filters: vec!["driver:nvidia".parse().unwrap()],
            root: "/".into(),
            output: Json { json: false },
        };
        assert!(watch.wants(&gone, &before, &Inventory::default()));
    }
}
