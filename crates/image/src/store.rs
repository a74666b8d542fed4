//! The store: one directory for each image, named by its id.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use model::DiskFormat;
use own_files::{Existing, STATE_DIR, make_dir as make_own_dir};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::copy::{Bounds, Copied, MODE, copy, hash};
use crate::target::Target;
use crate::{Budget, Cancel, ImageError, Source, Tool, kernel, qcow2};

/// The prefix of the directory of an incomplete image.
const UNFINISHED: &str = "unfinished-";

/// The images of a host.
#[derive(Clone)]
pub struct Store {
    pub(crate) dir: PathBuf,
    pub(crate) import_dirs: Vec<PathBuf>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) tool: Tool,
    /// How many pulls are running: nothing is swept meanwhile.
    pub(crate) pulls: Arc<Mutex<u64>>,
}

/// The parts of an image: a disk, a kernel with an optional initial ramdisk, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// A disk and its format.
    pub disk: Option<(Source, DiskFormat)>,
    /// A kernel.
    pub kernel: Option<Source>,
    /// An initial ramdisk for the kernel.
    pub initrd: Option<Source>,
}

/// The result of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// `sha256:` and 64 hex digits. For an image with one part, the SHA-256 of that file; for several parts, that of
    /// the lines `disk HEX`, `kernel HEX`, `initrd HEX`.
    pub digest: String,
    /// The total size of all parts, in bytes.
    pub size_bytes: u64,
    /// The size of the disk that a guest sees, in bytes.
    pub disk_virtual_size: Option<u64>,
}

/// The paths of the parts of an image, if it has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The disk.
    pub disk: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial ramdisk.
    pub initrd: PathBuf,
}

impl Store {
    /// The store in `dir`, which imports files from below `import_dirs`, within the budget. Nothing is created before the first import.
    #[must_use]
    pub fn new(dir: PathBuf, import_dirs: Vec<PathBuf>, budget: Arc<Budget>, tool: Tool) -> Self {
        Self { dir, import_dirs, budget, tool, pulls: Arc::default() }
    }

    /// Imports an image: when this returns, it is copied, checked and synced to disk. Replaces an image with the same
    /// id, so that an interrupted import can be retried. Ends soon after `cancel` was set.
    ///
    /// # Errors
    /// See [`ImageError`]; all copies are removed then.
    pub fn import(&self, id: Uuid, parts: Parts, cancel: &Cancel) -> Result<Imported, ImageError> {
        let result = parts.expect_bootable().and_then(|()| self.import_into(id, &parts, cancel));
        discard_staged(&parts);
        let cleared = remove_tree(&self.unfinished(id));
        result.and_then(|imported| cleared.map(|()| imported))
    }

    /// The paths of the parts of an image.
    #[must_use]
    pub fn paths(&self, id: Uuid) -> Files {
        Files::below(&self.image_dir(id))
    }

    /// Removes an image. A missing image is not an error.
    ///
    /// # Errors
    /// If it exists and cannot be removed.
    pub fn remove(&self, id: Uuid) -> Result<(), ImageError> {
        remove_tree(&self.image_dir(id))
    }

    /// Removes the remains of a crash: unfinished imports, and images that are not in `known`. Call it while no import
    /// is running.
    ///
    /// # Errors
    /// If the store cannot be read, or an entry cannot be removed.
    pub fn sweep(&self, known: &BTreeSet<Uuid>) -> Result<(), ImageError> {
        let reading = |error| ImageError::io("read", &self.dir, error);
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(reading)?,
        };
        for entry in entries {
            let entry = entry.map_err(reading)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let unknown = || name.parse::<Uuid>().is_ok_and(|id| !known.contains(&id));
            if name.starts_with(UNFINISHED) || unknown() {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    pub(crate) fn image_dir(&self, id: Uuid) -> PathBuf {
        self.dir.join(id.to_string())
    }

    pub(crate) fn unfinished(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{UNFINISHED}{id}"))
    }

    /// Copies and checks all parts, then renames the directory.
    fn import_into(
        &self,
        id: Uuid,
        parts: &Parts,
        cancel: &Cancel,
    ) -> Result<Imported, ImageError> {
        let unfinished = self.unfinished(id);
        remove_tree(&unfinished)?;
        make_dir(&self.dir)?;
        make_dir(&unfinished)?;
        let files = Files::below(&unfinished);
        let mut taken = Vec::new();
        let mut disk_virtual_size = None;
        if let Some((source, format)) = &parts.disk {
            let check = |file: &File| check_disk(file, *format);
            let (copied, size) = self.take("disk", source, &files.disk, cancel, check)?;
            disk_virtual_size = Some(size);
            taken.push(("disk", copied));
        }
        if let Some(source) = &parts.kernel {
            let (copied, ()) = self.take("kernel", source, &files.kernel, cancel, check_kernel)?;
            taken.push(("kernel", copied));
        }
        if let Some(source) = &parts.initrd {
            let (copied, ()) = self.take("initrd", source, &files.initrd, cancel, check_initrd)?;
            taken.push(("initrd", copied));
        }
        sync_dir(&unfinished)?;
        let finished = self.image_dir(id);
        remove_tree(&finished)?;
        self.budget.between_changes();
        fs::rename(&unfinished, &finished)
            .map_err(|error| ImageError::io("rename", &unfinished, error))?;
        sync_dir(&self.dir)?;
        Ok(Imported {
            digest: digest(&taken),
            size_bytes: taken.iter().map(|(_, copied)| copied.length).sum(),
            disk_virtual_size,
        })
    }

    /// Imports one part. A wrong file is refused before it is copied; the check of the copy, which no one else can
    /// change, decides.
    fn take<T>(
        &self,
        part: &'static str,
        source: &Source,
        to: &Path,
        cancel: &Cancel,
        check: impl Fn(&File) -> Result<T, ImageError>,
    ) -> Result<(Copied, T), ImageError> {
        let file = source.open(&self.import_dirs)?;
        expect_content(&file, part, source.path())?;
        check(&file)?;
        // A staged file on the store's file system needs no copy.
        let moved = matches!(source, Source::Staged(_)) && fs::rename(source.path(), to).is_ok();
        let expect_size = |length| self.budget.expect_size(part, length);
        let bounds = Bounds { expect_size: &expect_size, cancel };
        let copied = if moved {
            hash(file, to, bounds)?
        } else {
            let target = Target::create(to, MODE, self.budget.allowance(&self.dir))?;
            copy(file, source.path(), target, to, bounds)?
        };
        let found = check(&copied.file)?;
        Ok((copied, found))
    }
}

impl Parts {
    fn expect_bootable(&self) -> Result<(), ImageError> {
        match (&self.disk, &self.kernel, &self.initrd) {
            (None, None, None) => Err(ImageError::Empty),
            (_, None, Some(_)) => Err(ImageError::InitrdAlone),
            _ => Ok(()),
        }
    }
}

impl Files {
    pub(crate) fn below(dir: &Path) -> Self {
        Self { disk: dir.join("disk"), kernel: dir.join("kernel"), initrd: dir.join("initrd") }
    }
}

/// Checks a disk and returns its virtual size.
pub(crate) fn check_disk(file: &File, format: DiskFormat) -> Result<u64, ImageError> {
    match format {
        DiskFormat::Raw => {
            let length =
                file.metadata().map_err(|error| ImageError::io("stat", "the disk", error))?.len();
            // QEMU shows a raw image in whole sectors.
            length.checked_next_multiple_of(512).ok_or_else(|| ImageError::Rejected {
                part: "disk",
                problem: "its size is too large".into(),
                remedy: "check the file".into(),
            })
        }
        DiskFormat::Qcow2 => {
            let mut header = [0; qcow2::HEADER_LENGTH];
            let length = read_start(file, &mut header)
                .map_err(|error| ImageError::io("read", "the disk", error))?;
            let header = header.get(..length).unwrap_or_default();
            qcow2::read(header).map(|header| header.virtual_size).map_err(|error| {
                ImageError::Rejected {
                    part: "disk",
                    remedy: error.remedy().into(),
                    problem: error.to_string(),
                }
            })
        }
    }
}

/// Checks that a VMM can start a kernel.
fn check_kernel(file: &File) -> Result<(), ImageError> {
    kernel::check(file).map_err(|error| ImageError::Rejected {
        part: "kernel",
        remedy: error.remedy().into(),
        problem: error.to_string(),
    })
}

/// Accepts any initial ramdisk: only its kernel knows the format.
#[expect(clippy::unnecessary_wraps, reason = "one of several checks")]
const fn check_initrd(_: &File) -> Result<(), ImageError> {
    Ok(())
}

/// Refuses an empty file.
fn expect_content(file: &File, part: &'static str, path: &Path) -> Result<(), ImageError> {
    let length = file.metadata().map_err(|error| ImageError::io("stat", path, error))?.len();
    if length > 0 {
        return Ok(());
    }
    Err(ImageError::Rejected {
        part,
        problem: "the file is empty".into(),
        remedy: "check whether its download or upload was interrupted".into(),
    })
}

/// Reads the beginning of a file, up to the size of the buffer.
pub(crate) fn read_start(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// The digest over the parts.
pub(crate) fn digest(parts: &[(&'static str, Copied)]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if let [(_, only)] = parts {
        return format!("sha256:{}", hex(&only.sha256));
    }
    let mut digest = Sha256::new();
    for (part, copied) in parts {
        digest.update(format!("{part} {}\n", hex(&copied.sha256)));
    }
    format!("sha256:{}", hex(&digest.finalize()))
}

/// Creates a directory that other users, such as those of VMMs, can pass through but not list: images are found only by
/// their id.
pub(crate) fn make_dir(path: &Path) -> Result<(), ImageError> {
    make_own_dir(path, STATE_DIR, Existing::Set)
        .map_err(|error| ImageError::io("create", path, error))
}

pub(crate) fn sync_dir(path: &Path) -> Result<(), ImageError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| ImageError::io("write", path, error))
}

/// Removes a directory and its contents. A missing directory is not an error.
pub(crate) fn remove_tree(path: &Path) -> Result<(), ImageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ImageError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Removes staged files that were not moved, because they were copied or refused. Errors are ignored: the uploading
/// side removes its remaining files when it starts.
fn discard_staged(parts: &Parts) {
    let sources =
        parts.disk.iter().map(|(source, _)| source).chain(&parts.kernel).chain(&parts.initrd);
    for source in sources {
        if let Source::Staged(path) = source {
            let _ = fs::remove_file(path);
        }
    }
}
