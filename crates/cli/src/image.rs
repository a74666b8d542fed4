//! `handover image`: the disk images and kernels that machines boot.

use std::path::PathBuf;

use api::Image as Imported;
use api::client::{FilePart, Upload, segment};
use clap::{Args, Subcommand, ValueEnum};
use model::{Code, Refusal};

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::{listing, output};

/// Import disk images and kernels
#[derive(Debug, Args)]
pub struct Image {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Import an image: a disk, a kernel, or both
    ///
    /// Uploads the files to the daemon, which checks and copies them, and waits until the image can be used. The files are
    /// not needed afterwards. A failed import keeps its name until `handover image rm NAME`.
    Import(Import),
    /// List the images
    #[command(visible_alias = "ls")]
    List,
    /// Show an image
    Show {
        /// Name of the image, as `handover image list` shows it
        name: String,
    },
    /// Remove an image, or cancel its import
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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Raw,
    Qcow2,
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
    async fn send(self, client: &api::client::Client) -> Result<Imported, Refusal> {
        let mut upload = Upload::default();
        upload.fields.push(("name", self.name.clone()));
        let format = self.format.map(|format| match format {
            Format::Raw => "raw".to_owned(),
            Format::Qcow2 => "qcow2".to_owned(),
        });
        upload.fields.extend(format.map(|format| ("format", format)));
        upload.fields.extend(self.cmdline.map(|words| ("cmdline", words)));
        let files = [("disk", self.disk), ("kernel", self.kernel), ("initrd", self.initrd)];
        let parts =
            files.into_iter().filter_map(|(field, path)| Some(FilePart { field, path: path? }));
        upload.files.extend(parts);
        let mut image: Imported = client.upload("/images", upload).await?;
        let path = format!("/images/{}", segment(&self.name));
        while !matches!(image.status.as_str(), "ready" | "failed") {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            image = client.get(&path).await?;
        }
        if image.status == "failed" {
            return Err(Refusal::new(
                Code::InvalidImage,
                image.error.unwrap_or_else(|| "the import failed without a reason".to_owned()),
                format!("run `handover image rm {}`, fix the file, and import it again", self.name),
            ));
        }
        Ok(image)
    }
}

fn list(connection: &Connection) -> Done {
    let images: Vec<Imported> = connection
        .talk(async |client| client.get("/images").await)
        .map_err(Failure::to("list the images"))?;
    let headings = ["NAME", "DISK", "KERNEL", "SIZE", "STATUS"];
    let none = "no images; `handover image import` imports one";
    listing::print(connection.json(), &images, none, headings, |image| {
        let disk = image.disk_format.clone().unwrap_or_default();
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

fn show(connection: &Connection, image: &Imported) -> Done {
    let fields = [
        ("name", image.name.clone()),
        ("status", image.status.clone()),
        ("error", image.error.clone().unwrap_or_default()),
        ("digest", image.digest.clone()),
        ("disk", image.disk_format.clone().unwrap_or_default()),
        ("kernel", if image.has_kernel { "yes" } else { "" }.to_owned()),
        ("command line", image.cmdline.clone().unwrap_or_default()),
        ("size", image.size_bytes.map(model::shown::bytes).unwrap_or_default()),
        ("imported", image.created_at.clone()),
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
