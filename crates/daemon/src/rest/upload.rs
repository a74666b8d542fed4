//! Images received as `multipart/form-data`, streamed to the engine's staging directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use engine::{ImageSource, ImportImage};
use model::{Code, DiskFormat};
use multer::{Field, Multipart};
use own_files::{Existing, make_dir};
use service::images::disk_format;
use service::render;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tracing::warn;
use uuid::Uuid;

use super::{Face, Problem};

/// The longest text field.
const LONGEST_TEXT: u64 = 64 << 10;

/// How long to read the rest of a refused form.
const PATIENCE: Duration = Duration::from_secs(10);

/// The prefix of file names of uploads.
const PREFIX: &str = "upload-";

/// Disk space that is kept free for the journal, in bytes.
const RESERVE: u64 = 64 << 20;

/// A received file; removed on drop unless an import has taken it over.
struct Staged(Option<PathBuf>);

impl Staged {
    /// The file for the import.
    fn source(&self) -> Option<ImageSource> {
        self.0.clone().map(ImageSource::Staged)
    }

    /// Leaves the file to the engine.
    fn hand_over(mut self) {
        self.0 = None;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Absent if the import has taken it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The fields of the form.
#[derive(Default)]
struct Form {
    name: Option<String>,
    format: Option<DiskFormat>,
    cmdline: Option<String>,
    disk: Option<Staged>,
    kernel: Option<Staged>,
    initrd: Option<Staged>,
}

/// Receives the form and imports its files.
pub async fn receive(face: &Face, body: Body, boundary: String) -> Result<api::Image, Problem> {
    let staging = face.engine.images().staging_dir();
    make_private(&staging)?;
    let mut parts = Multipart::new(body.into_data_stream(), boundary);
    match Form::receive(&mut parts, &staging).await {
        Ok(form) => form.import(face).await,
        Err(problem) => {
            // A client that is still sending would not see the refusal.
            let _ = tokio::time::timeout(PATIENCE, discard(&mut parts)).await;
            Err(problem)
        }
    }
}

/// Reads and discards the rest of a form.
async fn discard(parts: &mut Multipart<'_>) {
    while let Ok(Some(mut field)) = parts.next_field().await {
        while let Ok(Some(_)) = field.chunk().await {}
    }
}

impl Form {
    async fn receive(parts: &mut Multipart<'_>, staging: &Path) -> Result<Self, Problem> {
        let mut form = Self::default();
        while let Some(field) = parts.next_field().await.map_err(|error| unreadable(&error))? {
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "name" => form.name = Some(text(field).await?),
                "format" => form.format = Some(disk_format(Some(&text(field).await?))?),
                "cmdline" => form.cmdline = Some(text(field).await?),
                "disk" => form.disk = Some(stage(staging, field).await?),
                "kernel" => form.kernel = Some(stage(staging, field).await?),
                "initrd" => form.initrd = Some(stage(staging, field).await?),
                other => {
                    return Err(Problem::invalid(
                        format!("unknown form field {other:?}"),
                        "use the fields name, format, cmdline, and the files disk, kernel, initrd",
                    ));
                }
            }
        }
        Ok(form)
    }

    async fn import(self, face: &Face) -> Result<api::Image, Problem> {
        let name = self.name.ok_or_else(|| {
            Problem::invalid("the form has no image name", "add a text field `name`")
        })?;
        let disk = match &self.disk {
            Some(disk) => {
                let format = self.format.map_or_else(|| disk_format(None), Ok)?;
                disk.source().map(|source| (source, format))
            }
            None => None,
        };
        let source = |file: &Option<Staged>| file.as_ref().and_then(Staged::source);
        let request = ImportImage {
            name,
            disk,
            kernel: source(&self.kernel),
            initrd: source(&self.initrd),
            cmdline: self.cmdline,
            tags: api::Tags::new(),
        };
        let image = face.ask(move |engine| engine.images().import(request)).await?;
        for file in [self.disk, self.kernel, self.initrd].into_iter().flatten() {
            file.hand_over();
        }
        Ok(render::image(image))
    }
}

fn unreadable(error: &multer::Error) -> Problem {
    Problem::invalid(
        format!("cannot read the form: {error}"),
        "send it as multipart/form-data; `handover image import` does",
    )
}

async fn text(mut field: Field<'_>) -> Result<String, Problem> {
    let mut value = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| unreadable(&error))? {
        value.extend_from_slice(&chunk);
        if value.len() as u64 > LONGEST_TEXT {
            return Err(Problem::invalid("a text field is longer than 64 KiB", "shorten it"));
        }
    }
    String::from_utf8(value)
        .map_err(|_| Problem::invalid("a text field is not UTF-8", "send it as UTF-8"))
}

/// Writes a file while it is received.
async fn stage(staging: &Path, mut field: Field<'_>) -> Result<Staged, Problem> {
    let limit = free(staging)?.saturating_sub(RESERVE);
    let path = staging.join(format!("{PREFIX}{}", Uuid::new_v4()));
    let failed = |error: std::io::Error| {
        Problem::unforeseen(&format!("cannot write to {}: {error}", staging.display()))
    };
    let mut options = OpenOptions::new();
    // Exclusive creation follows no link (open(2)).
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(&path).await.map_err(failed)?;
    let staged = Staged(Some(path));
    let mut written = 0u64;
    while let Some(chunk) = field.chunk().await.map_err(|error| unreadable(&error))? {
        written += chunk.len() as u64;
        if written > limit {
            return Err(full(staging, limit));
        }
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(staged)
}

/// Creates the directory for uploads, accessible to the daemon only.
fn make_private(staging: &Path) -> Result<(), Problem> {
    make_dir(staging, 0o700, Existing::Set).map_err(|error| {
        Problem::unforeseen(&format!("cannot create {}: {error}", staging.display()))
    })
}

/// Removes partial uploads of a daemon that was killed. Call it while no upload is being received.
pub fn discard_leftovers(staging: &Path) {
    let Ok(entries) = std::fs::read_dir(staging) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            warn!(%error, "cannot remove {}", entry.path().display());
        }
    }
}

/// Free bytes on the disk of uploads.
fn free(staging: &Path) -> Result<u64, Problem> {
    let stat = rustix::fs::statvfs(staging).map_err(|error| {
        Problem::unforeseen(&format!(
            "cannot read the free space of {}: {error}",
            staging.display()
        ))
    })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn full(staging: &Path, limit: u64) -> Problem {
    Problem::new(
        Code::InsufficientResources,
        format!("the file is larger than the free space in {}: {limit} bytes", staging.display()),
        "remove unused images (`handover image list`), or move the state directory to a larger disk",
    )
}
