//! `handover boot-list`: the functions that vfio-pci takes at each boot, by address.

mod choose;
mod print;

use std::path::{Path, PathBuf};

use clap::Args;
use host::boot_list::{BootListError, Change};
use host::{LinuxHost, boot_list};
use model::boot_list::{BootListEntry, entries, with, without};
use model::doctor::remedy::rebuild_initramfs;
use model::{Address, Code, Refusal};

use crate::failure::{Done, Failure};
use crate::own_state::OwnStateDir;
use crate::source::Source;
use crate::{Json, terminal};

/// List, add or remove the devices that vfio-pci takes at each boot
///
/// A device's IOMMU group and companions are added with it. At boot the initial ramdisk binds them to vfio-pci before
/// any other driver is loaded, if the vendor and device ids at the address are still the same. A change takes effect
/// after the initial ramdisk is rebuilt (--rebuild) and the host is rebooted.
#[derive(Debug, Args)]
#[command(
    override_usage = "handover boot-list [OPTIONS] <ADDRESS|NAME>...\n       handover boot-list --list"
)]
pub struct BootList {
    /// Addresses, as `handover ls` prints them, or names of registered devices
    #[arg(value_name = "ADDRESS|NAME", required_unless_present = "list")]
    devices: Vec<String>,

    /// Remove the devices from the boot list
    #[arg(long, conflicts_with = "list")]
    remove: bool,

    /// Print the boot list
    #[arg(long, conflicts_with_all = ["devices", "dry_run", "rebuild", "alone"])]
    list: bool,

    /// Print what would be written or removed, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Rebuild the initial ramdisk afterwards
    #[arg(long, conflicts_with = "dry_run")]
    rebuild: bool,

    /// Leave the companions of a GPU (audio, USB) that are in other IOMMU groups
    #[arg(long)]
    alone: bool,

    /// Root directory of another host, with its etc, sys and proc, such as a mounted system; files are written there, so it
    /// cannot be a recording
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,

    #[command(flatten)]
    own: OwnStateDir,

    #[command(flatten)]
    output: Json,
}

/// The functions of the request, and the changes made for them.
struct Outcome {
    functions: Vec<BootListEntry>,
    /// Those that were to be removed, and are not on the list.
    absent: Vec<Address>,
    changes: Vec<Change>,
    /// The command that makes the changes take effect.
    rebuild: Option<&'static str>,
}

impl BootList {
    pub fn run(self) -> Done {
        if self.list {
            return self.show().map_err(Failure::to("list the boot list"))?;
        }
        let (verb, preposition) = if self.remove { ("remove", "from") } else { ("add", "to") };
        let action = format!("{verb} {} {preposition} the boot list", self.devices.join(", "));
        let outcome = self.work().map_err(Failure::to(action.clone()))?;
        // An entry is removed also where no tool could have put it into an initial ramdisk.
        let nothing_to_rebuild = self.remove && outcome.rebuild.is_none();
        if self.rebuild && !nothing_to_rebuild {
            rebuild(outcome.rebuild).map_err(Failure::to(action))?;
        }
        print::outcome(&self, &outcome)
    }

    fn show(&self) -> Result<Done, Refusal> {
        let source = self.source();
        let host = source.open()?;
        let list = boot_list::list(host.root()).map_err(|error| source.unreadable(&error))?;
        let inventory = source.inventory(&host)?;
        print::unread_lines(&list);
        Ok(print::list(&entries(&list), &inventory, self.output.json))
    }

    fn source(&self) -> Source {
        Source { root: self.root.clone() }
    }

    fn work(&self) -> Result<Outcome, Refusal> {
        if self.rebuild && self.root != Path::new("/") {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "--rebuild rebuilds the initial ramdisk of this host, but --root names another host",
                "rebuild the initial ramdisk on that host",
            ));
        }
        let addresses = self.addresses()?;
        let host = self.source().open()?;
        let tool = host.platform().initramfs;
        let root = host.root();
        let _turn = if self.dry_run { None } else { Some(boot_list::lock(root).map_err(refused)?) };
        let list = boot_list::list(root).map_err(refused)?;
        let (functions, wanted) = self.wanted(&host, &addresses, &list)?;
        let changes = boot_list::changes(root, tool, &wanted).map_err(conflict)?;
        if !self.dry_run {
            changes
                .iter()
                .try_for_each(|change| boot_list::apply(root, change))
                .map_err(refused)?;
        }
        let listed = |one: &Address| functions.iter().any(|entry| entry.address == *one);
        let absent = addresses.into_iter().filter(|one| self.remove && !listed(one)).collect();
        Ok(Outcome { functions, absent, changes, rebuild: rebuild_initramfs(tool) })
    }

    /// The addresses of the request; registered devices are looked up by name.
    fn addresses(&self) -> Result<Vec<Address>, Refusal> {
        let mut names = None;
        let address = |text: &String| {
            let wrong = match text.parse::<Address>() {
                Ok(address) => return Ok(address),
                Err(wrong) => wrong,
            };
            let names = names.get_or_insert_with(|| self.own.read(&self.source()).names);
            let named = names.iter().find(|(_, name)| *name == text);
            named.map(|(address, _)| *address).ok_or_else(|| {
                let remedy = "use an address (`handover ls`) or the name of a registered device (`handover device list`)";
                Refusal { remedy: remedy.to_owned(), ..wrong.into() }
            })
        };
        self.devices.iter().map(address).collect()
    }

    /// The functions of the request, and the new list.
    fn wanted(
        &self,
        host: &LinuxHost,
        addresses: &[Address],
        list: &str,
    ) -> Result<(Vec<BootListEntry>, String), Refusal> {
        let inventory = self.source().inventory(host)?;
        if self.remove {
            let all = choose::listed(&inventory, addresses, self.alone);
            let functions: Vec<BootListEntry> =
                entries(list).into_iter().filter(|one| all.contains(&one.address)).collect();
            choose::expect_no_claims(&self.own.read(&self.source()), &functions)?;
            return Ok((functions, without(list, &all)));
        }
        let functions = choose::additions(host, &inventory, addresses, self.alone)?;
        choose::known_tool(host.platform().initramfs)?;
        let list = with(list, &functions);
        Ok((functions, list))
    }
}

/// Rebuilds the initial ramdisk; the output of the command goes to standard error.
fn rebuild(command: Option<&str>) -> Result<(), Refusal> {
    let Some(command) = command else { return Err(choose::unknown_tool()) };
    let failed = |reason: String| {
        Refusal::new(
            Code::StepFailed,
            format!("the boot list is written, but `{command}` failed: {reason}"),
            "check its output, fix the cause, and run it again",
        )
    };
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let mut process = std::process::Command::new(program);
    // Standard output can be JSON.
    process.args(words).stdout(terminal::child_output());
    let status = process.status().map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}

fn refused(error: model::HostError) -> Refusal {
    Refusal::new(
        Code::StepFailed,
        error.to_string(),
        "run it as root, and not on a recording; repeat the command to finish a partial change",
    )
}

fn conflict(error: BootListError) -> Refusal {
    match error {
        BootListError::Host(error) => refused(error),
        BootListError::Foreign { .. } => Refusal::new(
            Code::Conflict,
            error.to_string(),
            "find out what created the file; move it away if it is not needed, and retry",
        ),
    }
}
