//! Images that are made here: empty, over another one, or converted from another one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use model::DiskFormat;
use own_files::OwnFile;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate};
use uuid::Uuid;

use crate::copy::{Bounds, MODE, hash};
use crate::store::{Files, check_disk, digest, make_dir, read_start, remove_tree, sync_dir};
use crate::tool::{QEMU_IMG, below, words};
use crate::{Cancel, ImageError, Imported, Store, Tool, qcow2};

/// What a file of a disk image needs besides its data: tables, and clusters that are not full.
pub const MARGIN: u64 = 1 << 30;

/// How an image is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// An empty disk.
    Empty {
        /// Its size in bytes.
        size: u64,
        /// Its format.
        format: DiskFormat,
        /// Whether its whole size is taken from the disk at once; only for raw.
        allocate: bool,
    },
    /// A layer over another image, as qcow2: it has nothing but the size of its own.
    Over {
        /// The other image.
        base: Uuid,
        /// The base's format.
        base_format: DiskFormat,
        /// Its size in bytes; the base's if there is none.
        size: Option<u64>,
    },
    /// A copy of another image in a format, without any base.
    Convert {
        /// The other image.
        from: Uuid,
        /// Its format.
        from_format: DiskFormat,
        /// The size that a guest sees.
        virtual_size: u64,
        /// The new format.
        format: DiskFormat,
        /// Whether its clusters are compressed; only for qcow2.
        compress: bool,
    },
}

impl Recipe {
    /// The format of the new image.
    #[must_use]
    pub const fn format(&self) -> DiskFormat {
        match self {
            Self::Empty { format, .. } | Self::Convert { format, .. } => *format,
            Self::Over { .. } => DiskFormat::Qcow2,
        }
    }
}

impl Store {
    /// Makes an image: when this returns, it is complete and synced to disk. Ends soon after `cancel` was set.
    ///
    /// # Errors
    /// See [`ImageError`]; nothing is left then.
    pub fn make(&self, id: Uuid, recipe: &Recipe, cancel: &Cancel) -> Result<Imported, ImageError> {
        let result = self.make_into(id, recipe, cancel);
        let cleared = remove_tree(&self.unfinished(id));
        result.and_then(|made| cleared.map(|()| made))
    }

    fn make_into(
        &self,
        id: Uuid,
        recipe: &Recipe,
        cancel: &Cancel,
    ) -> Result<Imported, ImageError> {
        let unfinished = self.unfinished(id);
        remove_tree(&unfinished)?;
        make_dir(&self.dir)?;
        make_dir(&unfinished)?;
        self.budget.between_changes();
        let path = Files::below(&unfinished).disk;
        let file = OwnFile::at(&path)
            .mode(0o600)
            .open(OpenOptions::new().read(true).write(true).create_new(true))
            .map_err(|error| ImageError::io("create", &path, error))?;
        let mut allowance = self.budget.allowance(&self.dir);
        allowance.reserve(self.need(recipe, cancel)?)?;
        self.write(recipe, &path, &file, cancel)?;
        self.budget.between_changes();
        let expect_size = |length| self.budget.expect_size("disk", length);
        let copied = hash(file, &path, Bounds { expect_size: &expect_size, cancel })?;
        let virtual_size = match recipe {
            Recipe::Over { .. } => layer_size(&copied.file, &path)?,
            _ => check_disk(&copied.file, recipe.format())?,
        };
        sync_dir(&unfinished)?;
        let finished = self.image_dir(id);
        remove_tree(&finished)?;
        self.budget.between_changes();
        fs::rename(&unfinished, &finished)
            .map_err(|error| ImageError::io("rename", &unfinished, error))?;
        self.budget.between_changes();
        sync_dir(&self.dir)?;
        Ok(Imported {
            size_bytes: copied.length,
            disk_virtual_size: Some(virtual_size),
            digest: digest(&[("disk", copied)]),
        })
    }

    /// How many bytes an image will take of the disk, at most.
    fn need(&self, recipe: &Recipe, cancel: &Cancel) -> Result<u64, ImageError> {
        match recipe {
            Recipe::Empty { size, allocate: true, .. } => Ok(*size),
            Recipe::Empty { .. } | Recipe::Over { .. } => Ok(0),
            Recipe::Convert { from, from_format, .. } => {
                measured(&self.tool, &self.paths(*from).disk, *from_format, cancel)
            }
        }
    }

    fn write(
        &self,
        recipe: &Recipe,
        path: &Path,
        file: &File,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let writing = |error: std::io::Error| ImageError::io("write", path, error);
        match recipe {
            Recipe::Empty { size, format: DiskFormat::Raw, allocate } => {
                self.budget.expect_size("disk", *size)?;
                file.set_len(*size).map_err(writing)?;
                if *allocate {
                    fallocate(file, FallocateFlags::empty(), 0, *size)
                        .map_err(|error| ImageError::io("allocate", path, error))?;
                }
                Ok(())
            }
            Recipe::Empty { size, format: DiskFormat::Qcow2, .. } => {
                let size = size.to_string();
                let arguments = words([&"create", &"-q", &"-f", &"qcow2", &path, &size]);
                self.lent(path, file, &arguments, MARGIN, cancel)
            }
            Recipe::Over { base, base_format, size } => {
                // Relative to the layer's directory: the state directory may be moved.
                let base = format!("../{base}/disk");
                let format = base_format.as_str();
                let mut arguments =
                    words([&"create", &"-q", &"-f", &"qcow2", &"-F", &format, &"-b", &base, &path]);
                arguments.extend(size.map(|size| size.to_string().into()));
                self.lent(path, file, &arguments, MARGIN, cancel)
            }
            Recipe::Convert { from, from_format, virtual_size, format, compress } => {
                if *format == DiskFormat::Raw {
                    self.budget.expect_size("disk", *virtual_size)?;
                }
                let source = self.paths(*from).disk;
                let mut arguments = words([
                    &"convert",
                    &"-q",
                    &"-f",
                    &from_format.as_str(),
                    &"-O",
                    &format.as_str(),
                ]);
                arguments.extend(compress.then(|| "-c".into()));
                arguments.extend(words([&source, &path]));
                let largest = virtual_size.saturating_add(virtual_size / 64 + MARGIN);
                self.lent(path, file, &arguments, largest, cancel)
            }
        }
    }

    /// Runs the program on a file that it may write meanwhile.
    fn lent(
        &self,
        path: &Path,
        file: &File,
        arguments: &[OsString],
        largest: u64,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let lending = |error| ImageError::io("set the owner of", path, error);
        self.tool.lend(file).map_err(lending)?;
        self.budget.between_changes();
        let result = self.tool.run(QEMU_IMG, arguments, largest, cancel);
        self.budget.between_changes();
        self.tool.take_back(file).map_err(lending)?;
        result.map(drop).map_err(|error| below(error, &self.dir))
    }

    /// Changes the size of an image's disk, in place. No one may use the image. Returns its length.
    ///
    /// # Errors
    /// See [`ImageError`]. After a crash, [`settle`](Self::settle) tells which size it has.
    pub fn resize(
        &self,
        id: Uuid,
        format: DiskFormat,
        size: u64,
        shrink: bool,
    ) -> Result<u64, ImageError> {
        let path = self.paths(id).disk;
        let file = open(&path)?;
        match format {
            DiskFormat::Raw => {
                self.budget.expect_size("disk", size)?;
                file.set_len(size).map_err(|error| ImageError::io("write", &path, error))?;
            }
            DiskFormat::Qcow2 => {
                let mut arguments = words([&"resize", &"-q", &"-f", &"qcow2"]);
                arguments.extend(shrink.then(|| "--shrink".into()));
                arguments.extend(words([&path, &size.to_string()]));
                let length = length(&file, &path)?;
                let largest = length.saturating_add(MARGIN);
                self.lent(&path, &file, &arguments, largest, &Cancel::default())?;
            }
        }
        self.budget.between_changes();
        file.sync_all().map_err(|error| ImageError::io("write", &path, error))?;
        length(&file, &path)
    }

    /// Ends what a crash may have interrupted in the disk of an image, and returns its size as a guest sees it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn settle(&self, id: Uuid, format: DiskFormat, has_base: bool) -> Result<u64, ImageError> {
        let path = self.paths(id).disk;
        // A crash can leave it to the user of the program.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty())
            .map(File::from)
            .map_err(|error| ImageError::io("open", &path, error))?;
        let owner = file.metadata().map_err(|error| ImageError::io("stat", &path, error))?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            self.tool
                .take_back(&file)
                .map_err(|error| ImageError::io("set the owner of", &path, error))?;
        }
        if has_base { layer_size(&file, &path) } else { check_disk(&file, format) }
    }

    /// How many bytes the files of an image take on the disk.
    #[must_use]
    pub fn used(&self, id: Uuid) -> Option<u64> {
        let Files { disk, kernel, initrd } = self.paths(id);
        let blocks = |path| fs::symlink_metadata(path).ok().map(|file| file.blocks());
        let parts: Vec<u64> = [disk, kernel, initrd].into_iter().filter_map(blocks).collect();
        // In units of 512 bytes (stat(2)).
        (!parts.is_empty()).then(|| parts.iter().sum::<u64>().saturating_mul(512))
    }
}

/// How many bytes a copy of a disk takes, at most.
pub fn measured(
    tool: &Tool,
    disk: &Path,
    format: DiskFormat,
    cancel: &Cancel,
) -> Result<u64, ImageError> {
    let format = format.as_str();
    let arguments = words([&"measure", &"--output=json", &"-f", &format, &"-O", &"qcow2", &disk]);
    let text = tool.run(QEMU_IMG, &arguments, 0, cancel)?;
    required(&text).ok_or_else(|| ImageError::Tool {
        program: QEMU_IMG,
        said: "`measure` did not say how much space is needed".into(),
    })
}

fn open(path: &Path) -> Result<File, ImageError> {
    OwnFile::at(path)
        .mode(MODE)
        .open(OpenOptions::new().read(true).write(true))
        .map_err(|error| ImageError::io("open", path, error))
}

fn length(file: &File, path: &Path) -> Result<u64, ImageError> {
    Ok(file.metadata().map_err(|error| ImageError::io("stat", path, error))?.len())
}

/// The size of a layer of ours.
fn layer_size(file: &File, path: &Path) -> Result<u64, ImageError> {
    let mut header = [0; qcow2::HEADER_LENGTH];
    let length =
        read_start(file, &mut header).map_err(|error| ImageError::io("read", path, error))?;
    let header = header.get_mut(..length).unwrap_or_default();
    // The place of its base's name: it is in our own store.
    if let Some(base) = header.get_mut(8..20) {
        base.fill(0);
    }
    qcow2::read(header).map(|header| header.virtual_size).map_err(|error| ImageError::Rejected {
        part: "disk",
        remedy: error.remedy().into(),
        problem: error.to_string(),
    })
}

/// `required` in what `qemu-img measure` prints as JSON.
fn required(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("\"required\":")?;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_needed_space_is_read() {
        let text =
            "{\n    \"bitmaps\": 0,\n    \"required\": 327680,\n    \"fully-allocated\": 1}\n";
        assert_eq!(required(text), Some(327_680));
        assert_eq!(required("{}"), None);
        assert_eq!(required("\"required\": x"), None);
    }
}
