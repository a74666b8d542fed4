//! `handover reserve`: functions that are for machines from the next boot on, by address.

mod choose;
mod print;

use std::path::{Path, PathBuf};

use clap::Args;
use host::boot_list::{BootListError, Change};
use host::{LinuxHost, boot_list};
use model::boot_list::{BootListEntry, entries, with, without};
use model::doctor::remedy::rebuild_initramfs;
use model::{Address, Code, Refusal};

use crate::Json;
use crate::failure::{Done, Failure};
use crate::source::Source;

/// Reserve devices for machines by address, from the next boot on
///
/// All that goes with a device is reserved with it. At the boot the initial ramdisk gives it to vfio before any other driver
/// is loaded, if what is at the address still has the same vendor and device ids. Nothing changes before: what
/// makes the initial ramdisk has to be run first (--rebuild), and the host to be started again.
#[derive(Debug, Args)]
pub struct BootList {
    /// Which, as `handover ls` shows them
    #[arg(value_name = "ADDRESS", required_unless_present = "list")]
    addresses: Vec<Address>,

    /// Reserve them no longer
    #[arg(long, conflicts_with = "list")]
    remove: bool,

    /// List what is reserved
    #[arg(long, conflicts_with_all = ["addresses", "dry_run", "rebuild", "alone"])]
    list: bool,

    /// Only say what would be written or removed
    #[arg(long)]
    dry_run: bool,

    /// Make the initial ramdisk again afterwards
    #[arg(long, conflicts_with = "dry_run")]
    rebuild: bool,

    /// Leave the companions of a GPU (audio, USB) that are in other IOMMU groups
    #[arg(long)]
    alone: bool,

    /// The host: the directory that has its etc, sys and proc in it
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,

    #[command(flatten)]
    output: Json,
}

/// What was asked for, and what it takes.
struct Outcome {
    functions: Vec<BootListEntry>,
    changes: Vec<Change>,
    /// What has to be run for it to take effect.
    rebuild: Option<&'static str>,
}

impl BootList {
    pub fn run(self) -> Done {
        if self.list {
            return self.show().map_err(Failure::to("list what is reserved"))?;
        }
        let names: Vec<String> = self.addresses.iter().map(Address::to_string).collect();
        let verb = if self.remove { "reserve no longer" } else { "reserve" };
        let what = format!("{verb} {}", names.join(", "));
        let outcome = self.work().map_err(Failure::to(what.clone()))?;
        if self.rebuild {
            rebuild(outcome.rebuild).map_err(Failure::to(what))?;
        }
        print::outcome(&self, &outcome)
    }

    fn show(&self) -> Result<Done, Refusal> {
        let source = self.source();
        let host = source.open()?;
        let list = boot_list::list(host.root()).map_err(|error| source.unreadable(&error))?;
        let inventory = source.inventory(&host)?;
        Ok(print::list(&entries(&list), &inventory, self.output.json))
    }

    fn source(&self) -> Source {
        Source { root: self.root.clone() }
    }

    fn work(&self) -> Result<Outcome, Refusal> {
        if self.rebuild && self.root != Path::new("/") {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "--rebuild makes the initial ramdisk of this host, and --root is another",
                "make that host's initial ramdisk there",
            ));
        }
        let host = self.source().open()?;
        let tool = host.platform().initramfs;
        let root = host.root();
        let _turn = if self.dry_run { None } else { Some(boot_list::lock(root).map_err(refused)?) };
        let list = boot_list::list(root).map_err(refused)?;
        let (functions, wanted) = self.wanted(&host, &list)?;
        let changes = boot_list::changes(root, tool, &wanted).map_err(conflict)?;
        if !self.dry_run {
            changes.iter().try_for_each(|change| boot_list::make(root, change)).map_err(refused)?;
        }
        Ok(Outcome { functions, changes, rebuild: rebuild_initramfs(tool) })
    }

    /// The functions that are meant, and the list as it shall be.
    fn wanted(
        &self,
        host: &LinuxHost,
        list: &str,
    ) -> Result<(Vec<BootListEntry>, String), Refusal> {
        let inventory = self.source().inventory(host)?;
        if self.remove {
            let all = choose::meant(&inventory, &self.addresses, self.alone);
            let functions: Vec<BootListEntry> =
                entries(list).into_iter().filter(|one| all.contains(&one.address)).collect();
            return Ok((functions, without(list, &all)));
        }
        choose::known_tool(host.platform().initramfs)?;
        let functions = choose::reservable(host, &inventory, &self.addresses, self.alone)?;
        let list = with(list, &functions);
        Ok((functions, list))
    }
}

/// Runs what makes the initial ramdisk again; what it prints is shown.
fn rebuild(command: Option<&str>) -> Result<(), Refusal> {
    let Some(command) = command else { return Err(choose::unknown_tool()) };
    let failed = |reason: String| {
        Refusal::new(
            Code::StepFailed,
            format!("the files are as they should be, but `{command}` failed: {reason}"),
            "see what it said, and run it again",
        )
    };
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let mut process = std::process::Command::new(program);
    // What is printed to standard output is ours, and can be JSON.
    process.args(words).stdout(std::io::stderr());
    let status = process.status().map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}

fn refused(error: model::HostError) -> Refusal {
    Refusal::new(
        Code::StepFailed,
        error.to_string(),
        "run it as root, and not on a recording; the same command again finishes what was begun",
    )
}

fn conflict(error: BootListError) -> Refusal {
    match error {
        BootListError::Host(error) => refused(error),
        BootListError::Foreign { .. } => Refusal::new(
            Code::Conflict,
            error.to_string(),
            "see whose it is; move it away if nobody needs it, and ask again",
        ),
    }
}
