//! Images received as `multipart/form-data`, streamed to the engine's staging directory, within the budget of the disk
//! that all uploads and imports share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use engine::{Admission, Allowance, ImageSource, ImportImage, Received};
use futures_util::StreamExt as _;
use model::{Code, DiskFormat, Refusal};
use multer::{Field, Multipart};
use own_files::{Existing, make_dir};
use service::images::disk_format;
use service::render;
use tracing::warn;
use uuid::Uuid;

use super::{Face, Problem};

/// The longest text field.
const LONGEST_TEXT: u64 = 64 << 10;

/// How long to read the rest of a refused form.
const PATIENCE: Duration = Duration::from_secs(10);

/// The prefix of file names of uploads.
const PREFIX: &str = "upload-";

/// How many bytes are written at a time.
const BLOCK: usize = 1 << 20;

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

/// Receives the form and imports its files. `length` is that of the whole form, if the client has sent it: its space is
/// then reserved, so that an upload that cannot finish does not begin.
pub async fn receive(
    face: &Face,
    body: Body,
    boundary: String,
    length: Option<u64>,
) -> Result<api::Image, Problem> {
    let mut parts = Multipart::new(body.into_data_stream(), boundary);
    let received = async {
        let staging = face.engine.images().staging_dir();
        make_private(&staging)?;
        let admission = face.engine.images().admit()?;
        let mut allowance = admission.allowance(&staging);
        if let Some(length) = length {
            allowance = blocking(move || allowance.reserve(length).map(|()| allowance)).await?;
        }
        let form = Form::receive(&mut parts, &staging, allowance).await?;
        Ok((form, admission))
    };
    match received.await {
        Ok((form, admission)) => form.import(face, admission).await,
        Err(problem) => {
            // A client that is still sending would not see the refusal.
            let _ = tokio::time::timeout(PATIENCE, discard(&mut parts)).await;
            Err(problem)
        }
    }
}

/// Receives an archive as the whole body. Its file is removed when it is dropped.
pub async fn archive(face: &Face, body: Body, length: Option<u64>) -> Result<Archive, Problem> {
    let staging = face.engine.images().staging_dir();
    make_private(&staging)?;
    let admission = face.engine.images().admit()?;
    let mut allowance = admission.allowance(&staging);
    if let Some(length) = length {
        allowance = blocking(move || allowance.reserve(length).map(|()| allowance)).await?;
    }
    let mut chunks = body.into_data_stream();
    match stage_body(&staging, &mut chunks, allowance).await {
        Ok(staged) => Ok(Archive { staged, _admission: admission }),
        Err(problem) => {
            // A client that is still sending would not see the refusal.
            let rest = async { while let Some(Ok(_)) = chunks.next().await {} };
            let _ = tokio::time::timeout(PATIENCE, rest).await;
            Err(problem)
        }
    }
}

/// Writes a body to a file while it is received.
async fn stage_body(
    staging: &Path,
    chunks: &mut BodyDataStream,
    allowance: Allowance,
) -> Result<Staged, Problem> {
    let path = staging.join(format!("{PREFIX}{}", Uuid::new_v4()));
    let mut file = Received::create(&path, "archive", allowance).map_err(Refusal::from)?;
    let staged = Staged(Some(path));
    let mut block = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::invalid(format!("cannot read the archive: {error}"), "send it again")
        })?;
        block.extend_from_slice(&chunk);
        if block.len() >= BLOCK {
            file = append(file, std::mem::take(&mut block)).await?;
        }
    }
    append(file, block).await?;
    Ok(staged)
}

/// An archive that was received. It counts as an upload until it is dropped.
pub struct Archive {
    staged: Staged,
    _admission: Admission,
}

impl Archive {
    /// Opens it for reading.
    pub fn open(&self) -> Result<std::fs::File, Refusal> {
        let path = self.staged.0.as_deref().unwrap_or(Path::new(""));
        std::fs::File::open(path).map_err(|error| {
            let message = format!("cannot open {}: {error}", path.display());
            Refusal::new(Code::Internal, message, "see the daemon's log")
        })
    }
}

/// Does work that can block while the disk is busy.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Send + 'static,
    Refusal: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| Refusal::from(error).into()),
        Err(error) => Err(Problem::unforeseen(&error)),
    }
}

/// Reads and discards the rest of a form.
async fn discard(parts: &mut Multipart<'_>) {
    while let Ok(Some(mut field)) = parts.next_field().await {
        while let Ok(Some(_)) = field.chunk().await {}
    }
}

impl Form {
    async fn receive(
        parts: &mut Multipart<'_>,
        staging: &Path,
        mut allowance: Allowance,
    ) -> Result<Self, Problem> {
        let mut form = Self::default();
        while let Some(field) = parts.next_field().await.map_err(|error| unreadable(&error))? {
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "name" => form.name = Some(text(field).await?),
                "format" => form.format = Some(disk_format(Some(&text(field).await?))?),
                "cmdline" => form.cmdline = Some(text(field).await?),
                "disk" => {
                    let staged;
                    (staged, allowance) = stage(staging, "disk", field, allowance).await?;
                    form.disk = Some(staged);
                }
                "kernel" => {
                    let staged;
                    (staged, allowance) = stage(staging, "kernel", field, allowance).await?;
                    form.kernel = Some(staged);
                }
                "initrd" => {
                    let staged;
                    (staged, allowance) = stage(staging, "initrd", field, allowance).await?;
                    form.initrd = Some(staged);
                }
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

    async fn import(self, face: &Face, admission: Admission) -> Result<api::Image, Problem> {
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
        let image =
            face.ask(move |engine| engine.images().import_admitted(request, admission)).await?;
        for file in [self.disk, self.kernel, self.initrd].into_iter().flatten() {
            file.hand_over();
        }
        Ok(render::image(image, engine::ImageDisk::default()))
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

/// Writes a file while it is received; returns it and what is left of the allowance.
async fn stage(
    staging: &Path,
    part: &'static str,
    mut field: Field<'_>,
    allowance: Allowance,
) -> Result<(Staged, Allowance), Problem> {
    let path = staging.join(format!("{PREFIX}{}", Uuid::new_v4()));
    let mut file = Received::create(&path, part, allowance).map_err(Refusal::from)?;
    let staged = Staged(Some(path));
    let mut block = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| unreadable(&error))? {
        block.extend_from_slice(&chunk);
        if block.len() >= BLOCK {
            file = append(file, std::mem::take(&mut block)).await?;
        }
    }
    let file = append(file, block).await?;
    Ok((staged, file.into_allowance()))
}

/// Appends bytes to a file, without blocking other requests.
async fn append(mut file: Received, bytes: Vec<u8>) -> Result<Received, Problem> {
    blocking(move || file.append(&bytes).map(|()| file)).await
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
