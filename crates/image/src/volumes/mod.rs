//! The files of volumes: disks of their own, one directory for each, named by its id.
//!
//! A volume is data that exists nowhere else, so nothing is removed because the store does not know it: a restored backup
//! does not know the volumes of later days. While a volume is made or deleted, its directory has another name
//! (`pending-ID`): what the store says after a crash decides about those only.

mod format;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::DiskFormat;
use own_files::{Existing, OwnFile, make_dir as make_own_dir};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use uuid::Uuid;

use crate::ext4::Marks;
use crate::make::{MARGIN, measured};
use crate::store::{make_dir, remove_tree, sync_dir};
use crate::tool::{QEMU_IMG, below, words};
use crate::unpack::{Bounds, unpack};
use crate::{Budget, Cancel, ImageError, Tool, qcow2};

/// The mode of a volume's file: the daemon opens it for a machine, whose user cannot.
const MODE: u32 = 0o600;

/// The name of a volume's file in its directory.
const FILE: &str = "disk";

/// The program that makes an ext4 file system.
const MKE2FS: &str = "mke2fs";

/// How many bytes of a file system have an inode, if mke2fs is not told otherwise (mke2fs.conf(5)): a small one has more. Those of
/// terabytes have fewer, and still more than an archive can have files.
const BYTES_PER_INODE: u64 = 16384;
const SMALL: u64 = 512 << 20;
const BYTES_PER_INODE_OF_SMALL: u64 = 4096;

/// How many inodes a file system needs for itself, at most.
const OWN_INODES: u64 = 1024;

/// The directory of unpacked files, in that of a pending volume.
const TREE: &str = "tree";

/// The prefix of the directory of a volume that is being made or deleted.
const PENDING: &str = "pending-";

/// The volumes of a host.
#[derive(Clone)]
pub struct Volumes {
    dir: PathBuf,
    budget: Arc<Budget>,
    tool: Tool,
}

/// The file of a new volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewVolume {
    /// Its size as a guest sees it, in bytes.
    pub size: u64,
    /// Its format.
    pub format: DiskFormat,
    /// Whether its whole size is taken from the disk at once. Otherwise it grows as it is written.
    pub allocate: bool,
}

impl Volumes {
    /// The volumes in `dir`. Nothing is created before the first one.
    #[must_use]
    pub const fn new(dir: PathBuf, budget: Arc<Budget>, tool: Tool) -> Self {
        Self { dir, budget, tool }
    }

    /// The file of a volume.
    #[must_use]
    pub fn path(&self, id: Uuid) -> PathBuf {
        self.volume_dir(id).join(FILE)
    }

    /// Creates the file of a volume, pending: [`keep`](Self::keep) or [`remove`](Self::remove) follows. When this returns, it
    /// is synced to disk.
    ///
    /// # Errors
    /// See [`ImageError`]; nothing is left then. [`ImageError::Exists`] if another request makes or deletes this volume.
    pub fn create(&self, id: Uuid, new: NewVolume) -> Result<(), ImageError> {
        self.create_with(id, new, |_, _| Ok(()))
    }

    /// The same for a volume with an ext4 file system that has the files of an archive (`.tar.gz`).
    ///
    /// # Errors
    /// As [`create`](Self::create); [`ImageError::Archive`], [`ImageError::ArchiveTooLarge`].
    pub fn create_from_archive(
        &self,
        id: Uuid,
        new: NewVolume,
        archive: File,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        self.create_with(id, new, |dir, disk| self.fill(dir, disk, new.size, archive, cancel))
    }

    /// The same for a raw volume with an empty ext4 file system.
    ///
    /// # Errors
    /// As [`create`](Self::create); [`ImageError::Tool`] if mke2fs fails.
    pub fn create_formatted(&self, id: Uuid, new: NewVolume) -> Result<(), ImageError> {
        self.create_with(id, new, |dir, disk| {
            self.make_file_system(&dir.join(FILE), disk, new.size)
        })
    }

    /// The same for a volume with the content of a disk image, which is in a format and not larger.
    ///
    /// # Errors
    /// As [`create`](Self::create); [`ImageError::Tool`] if the image cannot be read.
    pub fn create_from_image(
        &self,
        id: Uuid,
        new: NewVolume,
        (image, format): (&Path, DiskFormat),
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        self.create_with(id, new, |dir, disk| {
            let path = dir.join(FILE);
            let mut allowance = self.budget.allowance(&self.dir);
            if !new.allocate {
                allowance.reserve(measured(&self.tool, image, format, cancel)?)?;
            }
            // The file is there, and has nothing but zeros.
            let mut arguments = words([&"convert", &"-q", &"-n", &"--target-is-zero"]);
            let (from, to) = (format.as_str(), new.format.as_str());
            arguments.extend(words([&"-f", &from, &"-O", &to, &image, &path]));
            let lending = |error| ImageError::io("set the owner of", &path, error);
            self.tool.lend(disk).map_err(lending)?;
            self.budget.between_changes();
            let largest = new.size.saturating_add(new.size / 64 + MARGIN);
            let made = self.tool.run(QEMU_IMG, &arguments, largest, cancel);
            self.budget.between_changes();
            self.tool.take_back(disk).map_err(lending)?;
            made.map(drop).map_err(|error| below(error, &self.dir))
        })
    }

    /// Makes a file system with the files of an archive.
    fn fill(
        &self,
        dir: &Path,
        disk: &File,
        size: u64,
        archive: File,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        // Only mke2fs can enter the outer directory, which goes with the pending one after a crash. The inner one becomes the root
        // of the file system. mke2fs has no privileges: so all of it is readable, and the inodes get their modes afterwards.
        let (outer, tree) = (dir.join(TREE), dir.join(TREE).join("root"));
        make_own_dir(&outer, 0o700, Existing::Set)
            .and_then(|()| make_own_dir(&tree, 0o755, Existing::Set))
            .and_then(|()| self.tool.let_in(&File::open(&outer)?))
            .map_err(|error| ImageError::io("create", &outer, error))?;
        let mut allowance = self.budget.allowance(&self.dir);
        let mut marks = self.tool.is_other_user().then(Marks::default);
        let marked = marks.as_mut();
        let mut bounds = Bounds { most: size, allowance: &mut allowance, cancel, marks: marked };
        let inodes = unpack(archive, &tree, &mut bounds)?;
        self.budget.between_changes();
        // The file system has about as much.
        let mut own = self.budget.allowance(&self.dir);
        own.reserve(used_below(&outer)?.saturating_add(size / 64).min(size))?;
        let path = dir.join(FILE);
        let mut arguments = words([&"-q", &"-F", &"-t", &"ext4", &"-m", &"0"]);
        // The usual number may be too small for many small files.
        let inodes = inodes.saturating_add(OWN_INODES);
        let each = if size < SMALL { BYTES_PER_INODE_OF_SMALL } else { BYTES_PER_INODE };
        if inodes > size / each {
            arguments.extend(words([&"-N", &inodes.to_string()]));
        }
        // The file is a hole: nothing in it must be zeroed.
        arguments.extend(words([&"-E", &"assume_storage_prezeroed=1", &"-d", &tree, &path]));
        let lending = |error| ImageError::io("set the owner of", &path, error);
        self.tool.lend(disk).map_err(lending)?;
        self.budget.between_changes();
        let made = self.tool.run(MKE2FS, &arguments, size, cancel);
        self.budget.between_changes();
        self.tool.take_back(disk).map_err(lending)?;
        remove_tree(&outer)?;
        self.budget.between_changes();
        made.map_err(|error| match error {
            ImageError::Tool { said, .. } if said.contains("Could not allocate") => {
                ImageError::ArchiveTooLarge { most: size }
            }
            error => below(error, &self.dir),
        })?;
        marks.map_or(Ok(()), |marks| marks.restore(disk)).map_err(|error| ImageError::Tool {
            program: MKE2FS,
            said: format!("its file system is not readable: {error}"),
        })
    }

    /// Makes a volume larger. Nothing may have it open. After a crash, [`size`](Self::size) tells which size it has.
    ///
    /// # Errors
    /// See [`ImageError`]; the volume then has its old size.
    pub fn grow(&self, id: Uuid, new: NewVolume) -> Result<(), ImageError> {
        let path = self.path(id);
        let file = OwnFile::at(&path)
            .mode(MODE)
            .open(OpenOptions::new().read(true).write(true))
            .map_err(|error| ImageError::io("open", &path, error))?;
        let writing = |error| ImageError::io("write", &path, error);
        match new.format {
            DiskFormat::Raw => {
                let old = file.metadata().map_err(writing)?.len();
                let mut allowance = self.budget.allowance(&self.dir);
                if new.allocate {
                    allowance.reserve(new.size.saturating_sub(old))?;
                    // It extends the file too, and leaves it as it was if there is not enough space.
                    fallocate(&file, FallocateFlags::empty(), 0, new.size)
                        .map_err(|error| ImageError::io("allocate", &path, error))?;
                } else {
                    file.set_len(new.size).map_err(writing)?;
                }
            }
            DiskFormat::Qcow2 => {
                let size = new.size.to_string();
                let arguments = words([&"resize", &"-q", &"-f", &"qcow2", &path, &size]);
                let lending = |error| ImageError::io("set the owner of", &path, error);
                self.tool.lend(&file).map_err(lending)?;
                self.budget.between_changes();
                let largest = file.metadata().map_err(writing)?.len().saturating_add(1 << 30);
                let done = self.tool.run(QEMU_IMG, &arguments, largest, &Cancel::default());
                self.budget.between_changes();
                self.tool.take_back(&file).map_err(lending)?;
                done.map_err(|error| below(error, &self.dir))?;
            }
        }
        self.budget.between_changes();
        file.sync_all().map_err(writing)
    }

    /// The size that a guest sees, and takes a file back that a crash left to the user of a program.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn size(&self, id: Uuid, format: DiskFormat) -> Result<u64, String> {
        let path = self.path(id);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty()).map(File::from);
        let file = file.map_err(|error| format!("it cannot be opened: {error}"))?;
        let ours = rustix::process::geteuid().as_raw();
        if file.metadata().is_ok_and(|found| found.uid() != ours) {
            self.tool.take_back(&file).map_err(|error| format!("cannot set its owner: {error}"))?;
        }
        size_of(&file, format)
    }

    fn create_with(
        &self,
        id: Uuid,
        new: NewVolume,
        fill: impl FnOnce(&Path, &File) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let dir = self.pending(id);
        make_dir(&self.dir)?;
        match fs::DirBuilder::new().mode(0o711).create(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(ImageError::Exists { id });
            }
            made => made.map_err(|error| ImageError::io("create", &dir, error))?,
        }
        self.write(id, new, fill).inspect_err(|_| {
            // What stays is removed at the next start.
            let _ = remove_tree(&self.pending(id));
        })
    }

    fn write(
        &self,
        id: Uuid,
        new: NewVolume,
        fill: impl FnOnce(&Path, &File) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let dir = self.pending(id);
        let path = dir.join(FILE);
        self.budget.between_changes();
        make_dir(&dir)?;
        let writing = |error| ImageError::io("write", &path, error);
        let mut options = OpenOptions::new();
        let file = OwnFile::at(&path)
            .mode(MODE)
            .open(options.read(true).write(true).create_new(true))
            .map_err(|error| ImageError::io("create", &path, error))?;
        match new.format {
            DiskFormat::Raw => file.set_len(new.size).map_err(writing)?,
            DiskFormat::Qcow2 => self.write_qcow2_header(&path, new.size)?,
        }
        if new.allocate {
            let mut allowance = self.budget.allowance(&self.dir);
            allowance.reserve(new.size)?;
            fallocate(&file, FallocateFlags::empty(), 0, new.size)
                .map_err(|error| ImageError::io("allocate", &path, error))?;
        }
        self.budget.between_changes();
        fill(&dir, &file)?;
        self.budget.between_changes();
        file.sync_all().map_err(writing)?;
        sync_dir(&dir)?;
        sync_dir(&self.dir)
    }

    /// Checks the file of a volume before a machine gets it: another program may have damaged, replaced or removed it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(&self, id: Uuid, expected: NewVolume) -> Result<(), String> {
        let path = self.path(id);
        let what = |problem: String| format!("its file {} {problem}", path.display());
        let file = fs::symlink_metadata(&path)
            .map_err(|error| what(format!("cannot be read: {error}")))?;
        if !file.is_file() {
            return Err(what("is not a regular file".into()));
        }
        let size = File::open(&path).map_err(|error| format!("cannot be read: {error}"));
        let size = size.and_then(|file| size_of(&file, expected.format)).map_err(what)?;
        if size == expected.size {
            return Ok(());
        }
        Err(what(format!("has {} instead of {} bytes", size, expected.size)))
    }

    /// Whether nothing was ever written to a raw volume: it has no data, only a size. A volume that cannot be read is not
    /// called empty.
    #[must_use]
    pub fn is_empty(&self, id: Uuid) -> bool {
        let data = File::open(self.path(id)).map(|file| seek(&file, SeekFrom::Data(0)));
        matches!(data, Ok(Err(Errno::NXIO)))
    }

    /// How many bytes a volume takes on the disk.
    #[must_use]
    pub fn used(&self, id: Uuid) -> Option<u64> {
        // In units of 512 bytes (stat(2)).
        fs::symlink_metadata(self.path(id)).ok().map(|file| file.blocks().saturating_mul(512))
    }

    /// Makes an empty qcow2 image of a file of ours, which no one else can write to: it reads nothing foreign.
    fn write_qcow2_header(&self, path: &Path, size: u64) -> Result<(), ImageError> {
        let arguments = words([&"create", &"-q", &"-f", &"qcow2", &path, &size.to_string()]);
        let made = Tool::default().run(QEMU_IMG, &arguments, 1 << 30, &Cancel::default());
        made.map(drop).map_err(|error| below(error, &self.dir))
    }

    /// A pending volume is recorded: it gets its name. Idempotent.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn keep(&self, id: Uuid) -> Result<(), ImageError> {
        self.budget.between_changes();
        rename(&self.pending(id), &self.volume_dir(id)).and_then(|()| sync_dir(&self.dir))
    }

    /// A volume is about to be deleted: it is pending until it is removed, or kept. Idempotent.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn condemn(&self, id: Uuid) -> Result<(), ImageError> {
        rename(&self.volume_dir(id), &self.pending(id))?;
        self.budget.between_changes();
        Ok(())
    }

    /// Removes a volume that is no longer recorded, pending or not. A missing one is not an error.
    ///
    /// # Errors
    /// If it exists and cannot be removed.
    pub fn remove(&self, id: Uuid) -> Result<(), ImageError> {
        self.budget.between_changes();
        remove_tree(&self.pending(id))?;
        remove_tree(&self.volume_dir(id))
    }

    /// Ends what a crash interrupted: pending volumes that are `known` are kept, others are removed. Returns the directories
    /// of volumes that are not known: they stay. Call it while none is being created.
    ///
    /// # Errors
    /// If the directory cannot be read, or a pending volume cannot be renamed or removed.
    pub fn sweep(&self, known: &BTreeSet<Uuid>) -> Result<Vec<PathBuf>, ImageError> {
        let mut unknown = Vec::new();
        let reading = |error| ImageError::io("read", &self.dir, error);
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(unknown),
            entries => entries.map_err(reading)?,
        };
        for entry in entries {
            let entry = entry.map_err(reading)?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let pending = name.strip_prefix(PENDING).and_then(|id| id.parse::<Uuid>().ok());
            match (pending, name.parse::<Uuid>()) {
                (Some(id), _) if known.contains(&id) => self.keep(id)?,
                (Some(_), _) => remove_tree(&entry.path())?,
                (None, Ok(id)) if !known.contains(&id) => unknown.push(entry.path()),
                (None, Ok(id)) => self.end_format(id)?,
                _ => {}
            }
        }
        Ok(unknown)
    }

    fn pending(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{PENDING}{id}"))
    }

    fn volume_dir(&self, id: Uuid) -> PathBuf {
        self.dir.join(id.to_string())
    }
}

/// Renames a directory, if it exists.
fn rename(from: &Path, to: &Path) -> Result<(), ImageError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ImageError::io("rename", from, error))
        }
        _ => Ok(()),
    }
}

/// The size that a guest sees.
fn size_of(mut file: &File, format: DiskFormat) -> Result<u64, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    match format {
        DiskFormat::Raw => Ok(file.metadata().map_err(unreadable)?.len()),
        DiskFormat::Qcow2 => {
            let mut header = Vec::new();
            let most = qcow2::HEADER_LENGTH as u64;
            (&mut file).take(most).read_to_end(&mut header).map_err(unreadable)?;
            let header = qcow2::read(&header).map_err(|error| format!("is damaged: {error}"))?;
            Ok(header.virtual_size)
        }
    }
}

/// How many bytes the files below a directory take on the disk.
fn used_below(dir: &Path) -> Result<u64, ImageError> {
    let reading = |error| ImageError::io("read", dir, error);
    let mut used = 0u64;
    for entry in fs::read_dir(dir).map_err(reading)? {
        let entry = entry.map_err(reading)?;
        let found = entry.metadata().map_err(reading)?;
        used = used.saturating_add(found.blocks().saturating_mul(512));
        if found.is_dir() {
            used = used.saturating_add(used_below(&entry.path())?);
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use model::{Disk, HostError};

    use super::*;
    use crate::Limits;

    struct Endless;

    impl Disk for Endless {
        fn free_space(&self, _: &Path) -> Result<u64, HostError> {
            Ok(1 << 40)
        }

        fn write_out(&self, _: &Path) {}
    }

    fn volumes(dir: &Path) -> Volumes {
        let budget = Budget::new(Arc::new(Endless), Limits::default());
        Volumes::new(dir.join("volumes"), budget, Tool::of_user(1_900_001_000))
    }

    #[test]
    fn a_raw_volume_takes_its_space_at_once_or_as_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path());
        let (thin, thick) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let new = NewVolume { size: 4 << 20, format: DiskFormat::Raw, allocate: false };
        volumes.create(thin, new).unwrap();
        volumes.create(thick, NewVolume { allocate: true, ..new }).unwrap();
        for id in [thin, thick] {
            volumes.keep(id).unwrap();
            let file = fs::metadata(volumes.path(id)).unwrap();
            assert_eq!((file.len(), file.mode() & 0o7777), (4 << 20, 0o600));
            assert!(volumes.is_empty(id));
        }
        assert_eq!(volumes.used(thin), Some(0));
        assert!(volumes.used(thick).unwrap() >= 4 << 20);
        volumes.check(thin, new).unwrap();
        fs::write(volumes.path(thin), b"data").unwrap();
        assert!(volumes.check(thin, new).unwrap_err().ends_with("has 4 instead of 4194304 bytes"));
        let missing = volumes.check(Uuid::from_u128(3), new).unwrap_err();
        assert!(missing.contains("cannot be read"), "{missing}");
        assert!(!volumes.is_empty(thin) && !volumes.is_empty(Uuid::from_u128(3)));
    }

    #[test]
    fn a_crash_while_a_volume_is_made_or_deleted_is_decided_by_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path());
        let new = NewVolume { size: 1 << 20, format: DiskFormat::Raw, allocate: false };
        let ids = [1, 2, 3, 4, 5].map(Uuid::from_u128);
        let [made, never, kept, deleted, strange] = ids;
        assert!(volumes.sweep(&BTreeSet::new()).unwrap().is_empty());
        for id in ids {
            volumes.create(id, new).unwrap();
            assert!(!volumes.path(id).exists(), "it is pending");
            let second = volumes.create(id, new).unwrap_err();
            assert!(matches!(second, ImageError::Exists { .. }), "{second}");
        }
        for id in [kept, deleted, strange] {
            volumes.keep(id).unwrap();
            volumes.keep(id).unwrap();
        }
        for id in [kept, deleted] {
            volumes.condemn(id).unwrap();
            volumes.condemn(id).unwrap();
        }
        // `made` and `kept` are recorded; `never`, `deleted` and `strange` are not, as after a restored backup.
        let unknown = volumes.sweep(&BTreeSet::from([made, kept])).unwrap();
        assert_eq!(unknown, [volumes.volume_dir(strange)], "it is told, not removed");
        let there = ids.map(|id| volumes.path(id).exists());
        assert_eq!(there, [true, false, true, false, true], "{never} {deleted}");
        assert_eq!(fs::read_dir(dir.path().join("volumes")).unwrap().count(), 3);
        for _ in 0..2 {
            volumes.remove(strange).unwrap();
        }
        assert!(!volumes.path(strange).exists());
    }

    #[test]
    fn a_qcow2_volume_has_its_size_in_its_header() {
        if std::process::Command::new(QEMU_IMG).arg("--version").output().is_err() {
            eprintln!("SKIPPED: needs qemu-utils");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path());
        let id = Uuid::from_u128(1);
        let new = NewVolume { size: 3 << 30, format: DiskFormat::Qcow2, allocate: false };
        volumes.create(id, new).unwrap();
        volumes.keep(id).unwrap();
        volumes.check(id, new).unwrap();
        fs::write(volumes.path(id), b"garbage").unwrap();
        assert!(volumes.check(id, new).unwrap_err().contains("is damaged"));
        assert_eq!(fs::metadata(volumes.path(id)).unwrap().mode() & 0o7777, 0o600);
    }
}
