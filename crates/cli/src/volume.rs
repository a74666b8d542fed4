//! `handover volume`: disks that outlast the instances that have them.

use std::path::PathBuf;

use api::client::{Client, FilePart, query_value, segment};
use api::{CreateVolume, ResizeVolume, Volume as Disk};
use clap::{Args, Subcommand};
use model::Refusal;

use crate::connection::{Connection, tag, tag_query};
use crate::failure::{Done, Failure};
use crate::progress::waiting;
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
    /// Create a volume: empty, with the files of an archive, or with the content of an image
    Create(Create),
    /// Make a volume larger; the instances that have it must be stopped
    ///
    /// Only the disk grows: the guest enlarges its file system, for example with resize2fs(8).
    Resize {
        /// Name or id of the volume, as `handover volume list` shows it
        volume: String,
        /// New size in whole gigabytes, such as 200GB
        #[arg(value_parser = values::gigabytes)]
        size: u64,
    },
    /// List the volumes
    #[command(visible_alias = "ls")]
    List {
        /// List only those with this tag (repeatable)
        #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
        tags: Vec<(String, String)>,
    },
    /// Show a volume
    #[command(visible_alias = "info")]
    Show {
        /// Name or id of the volume, as `handover volume list` shows it
        volume: String,
    },
    /// Delete a volume that no instance has, and its data; cancel one that is being made
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
    /// Archive (.tar.gz) whose files it gets, in an ext4 file system; owners, modes and times are kept
    #[arg(long, value_name = "FILE", conflicts_with_all = ["format", "allocate"])]
    from_archive: Option<PathBuf>,
    /// Image whose disk it gets the content of, as `handover image list` shows it; the size is at least that of its disk
    #[arg(long, value_name = "IMAGE", conflicts_with = "from_archive")]
    from_image: Option<String>,
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
                let line = format!("the volume {} is made", create.name);
                let made =
                    connection.talk(async |client| waiting(&line, create.send(&client)).await);
                let volume: Disk = made.map_err(what)?;
                show(&connection, &volume)
            }
            Command::Resize { volume, size } => {
                let path = format!("/volumes/{}", segment(&volume));
                let body = ResizeVolume { size_gb: size };
                let resized = connection
                    .talk(async |client| client.patch(&path, &body).await)
                    .map_err(Failure::to(format!("make the volume {volume} larger")))?;
                show(&connection, &resized)
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
    async fn send(self, client: &Client) -> Result<Disk, Refusal> {
        let Some(path) = self.from_archive else {
            return client.post("/volumes", Some(&self.body())).await;
        };
        let tags = tag_query(&self.tags).replacen('?', "&", 1);
        let name = query_value(&self.name);
        let path_and_query =
            format!("/volumes/from-archive?name={name}&size_gb={}{tags}", self.size);
        let file = FilePart { field: "archive", path };
        client.upload_file(&path_and_query, file, "application/gzip").await
    }

    fn body(self) -> CreateVolume {
        CreateVolume {
            name: self.name,
            size_gb: self.size,
            image: self.from_image,
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
        ("created", crate::age::shown(&volume.created_at)),
        ("tags", output::tags(&volume.tags)),
    ];
    listing::print_one(connection.json(), volume, &fields)
}
