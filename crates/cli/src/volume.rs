//! `handover volume`: disks that outlast the instances that have them.

use api::client::segment;
use api::{CreateVolume, Volume as Disk};
use clap::{Args, Subcommand};

use crate::connection::{Connection, tag, tag_query};
use crate::failure::{Done, Failure};
use crate::{listing, output, values};

/// Keep disks that outlast the machines that have them
#[derive(Debug, Args)]
pub struct Volume {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create an empty volume
    Create(Create),
    /// List the volumes
    #[command(visible_alias = "ls")]
    List {
        /// List only those with this tag (repeatable)
        #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
        tags: Vec<(String, String)>,
    },
    /// Show a volume
    Show {
        /// Name or id of the volume, as `handover volume list` shows it
        volume: String,
    },
    /// Delete a volume that no instance has, and its data
    #[command(visible_alias = "delete")]
    Rm {
        /// Name or id of the volume, as `handover volume list` shows it
        volume: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Name of the new volume
    name: String,
    /// Size in whole gigabytes, such as 100GB or 2TB
    #[arg(long, value_parser = values::gigabytes)]
    size: u64,
    /// Format of its file: raw (the usual one) or qcow2
    #[arg(long)]
    format: Option<String>,
    /// Take its whole size from this host's disk at once; by default it grows as it is written
    #[arg(long)]
    allocate: bool,
    /// Tag (repeatable)
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
}

impl Volume {
    pub fn run(self) -> Done {
        let Self { connection, command } = self;
        match command {
            Command::Create(create) => {
                let what = Failure::to(format!("create the volume {}", create.name));
                let body = create.body();
                let volume: Disk = connection
                    .talk(async |client| client.post("/volumes", Some(&body)).await)
                    .map_err(what)?;
                show(&connection, &volume)
            }
            Command::List { tags } => list(&connection, &tags),
            Command::Show { volume } => {
                let path = format!("/volumes/{}", segment(&volume));
                let found = connection
                    .talk(async |client| client.get(&path).await)
                    .map_err(Failure::to(format!("show the volume {volume}")))?;
                show(&connection, &found)
            }
            Command::Rm { volume } => {
                let path = format!("/volumes/{}", segment(&volume));
                connection
                    .talk(async |client| client.delete(&path).await)
                    .map_err(Failure::to(format!("delete the volume {volume}")))?;
                output::changed(&connection, &format!("Deleted the volume {volume}."))
            }
        }
    }
}

impl Create {
    fn body(self) -> CreateVolume {
        CreateVolume {
            name: self.name,
            size_gb: self.size,
            id: None,
            format: self.format,
            allocate: self.allocate.then_some(true),
            tags: (!self.tags.is_empty()).then(|| self.tags.into_iter().collect()),
        }
    }
}

fn list(connection: &Connection, tags: &[(String, String)]) -> Done {
    let path = format!("/volumes{}", tag_query(tags));
    let volumes: Vec<Disk> = connection
        .talk(async |client| client.get(&path).await)
        .map_err(Failure::to("list the volumes"))?;
    let headings = ["NAME", "SIZE", "USED", "FORMAT", "INSTANCES", "TAGS"];
    let none = "no volumes; `handover volume create` creates one";
    listing::print(connection.json(), &volumes, none, headings, |volume| {
        let [name, size, format] = [&volume.name, &volume.size, &volume.format].map(Clone::clone);
        [name, size, used(volume), format, users(volume), output::tags(&volume.tags)]
    })
}

fn used(volume: &Disk) -> String {
    volume.used_bytes.map(model::shown::bytes).unwrap_or_default()
}

/// The instances that have it: `web, db (read-only)`.
fn users(volume: &Disk) -> String {
    let names = volume.attachments.iter().map(|one| {
        let access = if one.readonly { " (read-only)" } else { "" };
        format!("{}{access}", one.instance_name)
    });
    names.collect::<Vec<_>>().join(", ")
}

fn show(connection: &Connection, volume: &Disk) -> Done {
    volume.warnings.iter().for_each(|note| output::warning(note));
    let fields = [
        ("name", volume.name.clone()),
        ("id", volume.id.clone()),
        ("size", volume.size.clone()),
        ("used", used(volume)),
        ("format", volume.format.clone()),
        ("instances", users(volume)),
        ("deleted with", volume.made_with.as_ref().map(|_| users(volume)).unwrap_or_default()),
        ("created", volume.created_at.clone()),
        ("tags", output::tags(&volume.tags)),
    ];
    listing::print_one(connection.json(), volume, &fields)
}
