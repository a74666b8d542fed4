//! `handover cdi`: what container tools are told of devices and claims (Container Device Interface).

mod generate;
mod kept;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use daemon::cdi::{Folder, STATIC, USUAL};
use model::Refusal;

use crate::door::Door;
use crate::failure::Done;

/// Write, list and remove specifications of devices for container tools such as podman
///
/// A claim that is prepared has its specification by itself, in --cdi-dir: `podman run --device handover.dev/claim=ID`.
#[derive(Debug, Args)]
#[command(after_long_help = "docs/cdi.md tells what a container gets.")]
pub struct Cdi {
    #[command(flatten)]
    door: Door,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Generate(generate::Generate),
    /// List the specifications that Handover wrote
    #[command(visible_alias = "ls")]
    List,
    /// Remove specifications of claims that are no more, and of devices whose nodes are gone
    Clean {
        /// All that Handover wrote
        #[arg(long)]
        all: bool,
    },
}

impl Cdi {
    pub fn run(self) -> Done {
        match self.command {
            Command::Generate(generate) => generate.run(&self.door),
            Command::List => kept::list(&self.door),
            Command::Clean { all } => kept::clean(&self.door, all),
        }
    }
}

/// Where the files of claims are; nowhere for `none`.
pub fn folder(dir: &Path) -> Option<Folder> {
    (dir.as_os_str() != "none").then(|| Folder::new(dir))
}

/// Where files of ours can be: in the usual places, or where somebody says.
fn folders(dir: &Path) -> Vec<Folder> {
    let mut all: Vec<Folder> = folder(dir).into_iter().collect();
    if dir == Path::new(USUAL) {
        all.push(Folder::new(STATIC));
    }
    all
}

/// The names in our files, where a directory is said or the usual ones are.
pub fn names(dir: &Path) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    for folder in folders(dir) {
        let files = folder.ours()?.into_iter();
        names.extend(files.filter_map(|file| file.spec.ok()).flat_map(|spec| {
            let own: Vec<String> = spec.names().collect();
            own
        }));
    }
    Ok(names)
}

/// The claims, where they can be asked for.
fn claims(door: &Door) -> Result<Vec<api::Claim>, Refusal> {
    door.ask(async |client| client.get("/claims").await, daemon::door::claims)
}

/// Those of the paths at which nothing is on this host.
fn missing<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    paths.filter(|path| !PathBuf::from(path).exists()).map(str::to_owned).collect()
}
