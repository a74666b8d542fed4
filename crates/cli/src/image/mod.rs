//! `handover image`: the disk images and kernels that machines boot.

mod container;
mod pull;

use std::path::PathBuf;

use api::client::{Client, FilePart, Upload, segment};
use api::{Image as Imported, MakeImage, ResizeImage};
use clap::{Args, Subcommand, ValueEnum};
use model::{Code, Refusal};

use crate::connection::{Connection, tag};
use crate::failure::{Done, Failure};
use crate::progress::waiting;
use crate::{listing, output, values};

pub use pull::Pull;

/// Import disk images and kernels, pull container images
#[derive(Debug, Args)]
pub struct Image {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create an image: an empty disk, or a layer over another image
    ///
    /// A layer (--base) has nothing but a size of its own: it takes no space, and machines that use it see the other image,
    /// which cannot be removed meanwhile.
    Create(Create),
    /// Convert an image into another format: the copy is a new image
    ///
    /// The copy has no base, and the original stays.
    Convert(Convert),
    /// Change the size of an image's disk, if no instance and no other image uses it
    ///
    /// Only the disk changes: partitions and file systems in it stay as they are. The image has no digest afterwards.
    Resize {
        /// Name of the image, as `handover image list` shows it
        name: String,
        /// New size, such as 40GB
        #[arg(value_parser = values::size_text)]
        size: String,
        /// Allow a smaller size: what is behind the new end is lost
        #[arg(long)]
        shrink: bool,
    },
    /// Import an image: a disk, a kernel, or both
    ///
    /// Uploads the files to the daemon, which checks and copies them, and waits until the image can be used. The files are
    /// not needed afterwards. A failed import keeps its name until `handover image rm NAME`.
    Import(Import),
    /// Pull a container image: from a registry, or from a layout or archive on the daemon's host
    ///
    /// Its layers are merged to one file system, which all machines with these layers share. Waits until the image can be
    /// used; what is there already is not fetched again.
    Pull(pull::Pull),
    /// Remove the container images that no instance uses, and layers that no image needs
    Prune,
    /// List the images
    #[command(visible_alias = "ls")]
    List,
    /// Show an image: its format, its sizes, its base, what boots
    #[command(visible_alias = "info")]
    Show {
        /// Name of the image, as `handover image list` shows it
        name: String,
    },
    /// Remove an image, or cancel its import or pull
    #[command(visible_alias = "delete")]
    Rm {
        /// Name of the image, as `handover image list` shows it
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(
    override_usage = "handover image import [OPTIONS] --disk <FILE> --format <FORMAT> <NAME>\n       \
                      handover image import [OPTIONS] --kernel <FILE> <NAME>"
)]
struct Import {
    /// Name of the new image, for `handover instance create --image NAME`
    name: String,
    /// Disk image
    #[arg(long, value_name = "FILE", requires = "format", required_unless_present = "kernel")]
    disk: Option<PathBuf>,
    /// Format of the disk, which `qemu-img info FILE` shows; it is never guessed
    #[arg(long, requires = "disk")]
    format: Option<Format>,
    /// Kernel, which the machine boots directly
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial ramdisk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Kernel command line
    #[arg(long, value_name = "WORDS", requires = "kernel", allow_hyphen_values = true)]
    cmdline: Option<String>,
}

#[derive(Debug, Args)]
#[command(override_usage = "handover image create [OPTIONS] --size <SIZE> <NAME>\n       \
                      handover image create [OPTIONS] --base <IMAGE> [--size <SIZE>] <NAME>")]
struct Create {
    /// Name of the new image
    name: String,
    /// Size of the disk, such as 20GB; of a layer the size of its base by default
    #[arg(long, required_unless_present = "base", value_parser = values::size_text)]
    size: Option<String>,
    /// Image to make a layer over, as qcow2
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["format", "allocate"])]
    base: Option<String>,
    /// Format of an empty disk; qcow2 by default, and raw with --allocate
    #[arg(long)]
    format: Option<Format>,
    /// Take the whole size from this host's disk at once; only raw
    #[arg(long)]
    allocate: bool,
    /// Tag (repeatable)
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct Convert {
    /// Name of the image, as `handover image list` shows it
    name: String,
    /// Name of the new image
    new: String,
    /// Format of the new image
    #[arg(long)]
    format: Format,
    /// Compress it; only qcow2
    #[arg(long)]
    compress: bool,
    /// Tag of the new image (repeatable)
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Raw,
    Qcow2,
}

impl Format {
    fn word(self) -> String {
        match self {
            Self::Raw => "raw".to_owned(),
            Self::Qcow2 => "qcow2".to_owned(),
        }
    }
}

impl Create {
    fn body(self) -> (String, MakeImage) {
        let body = MakeImage {
            size: self.size,
            base: self.base,
            format: self.format.map(Format::word),
            allocate: self.allocate.then_some(true),
            tags: tags(self.tags),
            ..MakeImage::default()
        };
        (self.name, body)
    }
}

impl Convert {
    fn body(self) -> (String, MakeImage) {
        let body = MakeImage {
            from: Some(self.name),
            format: Some(self.format.word()),
            compress: self.compress.then_some(true),
            tags: tags(self.tags),
            ..MakeImage::default()
        };
        (self.new, body)
    }
}

fn tags(tags: Vec<(String, String)>) -> Option<api::Tags> {
    (!tags.is_empty()).then(|| tags.into_iter().collect())
}

/// Makes an image, and waits until it can be used.
async fn make(client: &Client, name: &str, body: &MakeImage) -> Result<Imported, Refusal> {
    let path = format!("/images/{}", segment(name));
    let what = format!("the image {name} is made");
    waiting(&what, async {
        let image = client.post(&path, Some(body)).await?;
        until_ready(client, image, name, "mend that").await
    })
    .await
}

/// Waits until an image can be used.
async fn until_ready(
    client: &Client,
    mut image: Imported,
    name: &str,
    fix: &str,
) -> Result<Imported, Refusal> {
    let path = format!("/images/{}", segment(name));
    while !matches!(image.status.as_str(), "ready" | "failed") {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        image = client.get(&path).await?;
    }
    if image.status == "failed" {
        let code = image.error_code.as_deref();
        let code = Code::ALL.iter().find(|known| code == Some(known.as_str())).copied();
        return Err(Refusal::new(
            code.unwrap_or(Code::InvalidImage),
            image.error.unwrap_or_else(|| "it failed without a reason".to_owned()),
            format!("run `handover image rm {name}`, {fix}, and try again"),
        ));
    }
    Ok(image)
}

impl Image {
    pub fn run(self) -> Done {
        let Self { connection, command } = self;
        match command {
            Command::Import(import) => {
                let what = Failure::to(format!("import the image {}", import.name));
                let image = connection.talk(async |client| import.send(&client).await);
                show(&connection, &image.map_err(what)?)
            }
            Command::Create(create) => {
                let (name, body) = create.body();
                let what = Failure::to(format!("create the image {name}"));
                let image = connection.talk(async |client| make(&client, &name, &body).await);
                show(&connection, &image.map_err(what)?)
            }
            Command::Convert(convert) => {
                let what = Failure::to(format!("convert the image {}", convert.name));
                let (name, body) = convert.body();
                let image = connection.talk(async |client| make(&client, &name, &body).await);
                show(&connection, &image.map_err(what)?)
            }
            Command::Resize { name, size, shrink } => {
                let path = format!("/images/{}", segment(&name));
                let body = ResizeImage { size, shrink: shrink.then_some(true) };
                let image = connection
                    .talk(async |client| client.patch(&path, &body).await)
                    .map_err(Failure::to(format!("change the size of the image {name}")))?;
                show(&connection, &image)
            }
            Command::Pull(pull) => {
                let what = Failure::to(format!("pull the image {}", pull.name()));
                let image = connection.talk(async |client| pull.send(&client).await);
                show(&connection, &image.map_err(what)?)
            }
            Command::Prune => container::prune(&connection),
            Command::List => list(&connection),
            Command::Show { name } => {
                let path = format!("/images/{}", segment(&name));
                let image = connection
                    .talk(async |client| client.get(&path).await)
                    .map_err(Failure::to(format!("show the image {name}")))?;
                show(&connection, &image)
            }
            Command::Rm { name } => {
                let path = format!("/images/{}", segment(&name));
                connection
                    .talk(async |client| client.delete(&path).await)
                    .map_err(Failure::to(format!("remove the image {name}")))?;
                output::changed(&connection, &format!("Removed the image {name}."))
            }
        }
    }
}

impl Import {
    /// Uploads the files and waits until the image is ready.
    async fn send(self, client: &Client) -> Result<Imported, Refusal> {
        let mut upload = Upload::default();
        upload.fields.push(("name", self.name.clone()));
        let format = self.format.map(Format::word);
        upload.fields.extend(format.map(|format| ("format", format)));
        upload.fields.extend(self.cmdline.map(|words| ("cmdline", words)));
        let files = [("disk", self.disk), ("kernel", self.kernel), ("initrd", self.initrd)];
        let parts =
            files.into_iter().filter_map(|(field, path)| Some(FilePart { field, path: path? }));
        upload.files.extend(parts);
        let sizes = upload.files.iter().filter_map(|part| std::fs::metadata(&part.path).ok());
        let size = model::shown::bytes(sizes.map(|file| file.len()).sum());
        let what = format!("{size} are sent to the daemon");
        let image: Imported = waiting(&what, client.upload("/images", upload)).await?;
        let checked = until_ready(client, image, &self.name, "mend that");
        waiting("the daemon checks and copies the image", checked).await
    }
}

fn list(connection: &Connection) -> Done {
    let images: Vec<Imported> = connection
        .talk(async |client| client.get("/images").await)
        .map_err(Failure::to("list the images"))?;
    let headings = ["NAME", "DISK", "KERNEL", "SIZE", "STATUS"];
    let none = "no images; `handover image import` imports one";
    listing::print(connection.json(), &images, none, headings, |image| {
        let container = image.container.as_ref().map(|_| "container".to_owned());
        let disk = image.disk_format.clone().or(container).unwrap_or_default();
        let kernel = if image.has_kernel { "yes" } else { "" }.to_owned();
        let size = image.size_bytes.map(model::shown::bytes).unwrap_or_default();
        let status = status(&image.status, image.error.as_deref());
        [image.name.clone(), disk, kernel, size, status]
    })
}

/// The status, with the reason of a failed import.
fn status(status: &str, error: Option<&str>) -> String {
    match error {
        Some(error) => format!("{status}: {error}"),
        None => status.to_owned(),
    }
}

/// What a machine with this image starts.
const fn boots(image: &Imported) -> &'static str {
    match (image.has_kernel, image.disk_format.is_some()) {
        (true, _) => "the kernel, directly",
        (false, true) => "the boot loader on the disk, by UEFI or the BIOS",
        (false, false) => "",
    }
}

fn show(connection: &Connection, image: &Imported) -> Done {
    if let Some(info) = &image.container {
        return container::show(connection, image, info);
    }
    let fields = [
        ("name", image.name.clone()),
        ("status", image.status.clone()),
        ("error", image.error.clone().unwrap_or_default()),
        ("digest", image.digest.clone()),
        ("disk", image.disk_format.clone().unwrap_or_default()),
        ("virtual size", image.virtual_size.map(model::shown::bytes).unwrap_or_default()),
        ("base", image.base.clone().unwrap_or_default()),
        ("kernel", if image.has_kernel { "yes" } else { "" }.to_owned()),
        ("command line", image.cmdline.clone().unwrap_or_default()),
        ("boots", boots(image).to_owned()),
        ("size", image.size_bytes.map(model::shown::bytes).unwrap_or_default()),
        ("on disk", image.used_bytes.map(model::shown::bytes).unwrap_or_default()),
        ("imported", crate::age::shown(&image.created_at)),
        ("tags", output::tags(&image.tags)),
    ];
    listing::print_one(connection.json(), image, &fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_image_says_why() {
        assert_eq!(status("ready", None), "ready");
        assert_eq!(status("failed", Some("the disk is full")), "failed: the disk is full");
    }
}
