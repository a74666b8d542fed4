//! The files of volumes: disks of their own, one directory for each, named by its id.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use model::DiskFormat;
use own_files::OwnFile;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use uuid::Uuid;

use crate::store::{make_dir, remove_tree, sync_dir};
use crate::{Budget, ImageError};

/// The mode of a volume's file: the daemon opens it for a machine, whose user cannot.
const MODE: u32 = 0o600;

/// The program that writes the header of a qcow2 file.
const TOOL: &str = "qemu-img";

/// The volumes of a host.
#[derive(Clone)]
pub struct Volumes {
    dir: PathBuf,
    budget: Arc<Budget>,
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
    pub const fn new(dir: PathBuf, budget: Arc<Budget>) -> Self {
        Self { dir, budget }
    }

    /// The file of a volume.
    #[must_use]
    pub fn path(&self, id: Uuid) -> PathBuf {
        self.volume_dir(id).join("disk")
    }

    /// Creates the file of a volume. When this returns, it is synced to disk.
    ///
    /// # Errors
    /// See [`ImageError`]; nothing is left then.
    pub fn create(&self, id: Uuid, new: NewVolume) -> Result<(), ImageError> {
        self.write(id, new).inspect_err(|_| {
            // What stays is removed at the next start.
            let _ = self.remove(id);
        })
    }

    fn write(&self, id: Uuid, new: NewVolume) -> Result<(), ImageError> {
        let (dir, path) = (self.volume_dir(id), self.path(id));
        make_dir(&self.dir)?;
        make_dir(&dir)?;
        let writing = |error| ImageError::io("write", &path, error);
        let mut options = OpenOptions::new();
        let file = OwnFile::at(&path)
            .mode(MODE)
            .open(options.read(true).write(true).create_new(true))
            .map_err(|error| ImageError::io("create", &path, error))?;
        match new.format {
            DiskFormat::Raw => file.set_len(new.size).map_err(writing)?,
            DiskFormat::Qcow2 => write_qcow2_header(&path, new.size)?,
        }
        if new.allocate {
            let mut allowance = self.budget.allowance(&self.dir);
            allowance.reserve(new.size)?;
            fallocate(&file, FallocateFlags::empty(), 0, new.size)
                .map_err(|error| ImageError::io("allocate", &path, error))?;
        }
        file.sync_all().map_err(writing)?;
        sync_dir(&dir)?;
        sync_dir(&self.dir)
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
        use std::os::unix::fs::MetadataExt;
        // In units of 512 bytes (stat(2)).
        fs::symlink_metadata(self.path(id)).ok().map(|file| file.blocks().saturating_mul(512))
    }

    /// Removes a volume. A missing one is not an error.
    ///
    /// # Errors
    /// If it exists and cannot be removed.
    pub fn remove(&self, id: Uuid) -> Result<(), ImageError> {
        remove_tree(&self.volume_dir(id))
    }

    /// Removes the volumes that are not in `known`: the remains of a crash. Call it while none is being created.
    ///
    /// # Errors
    /// If the directory cannot be read, or a volume cannot be removed.
    pub fn sweep(&self, known: &BTreeSet<Uuid>) -> Result<(), ImageError> {
        let reading = |error| ImageError::io("read", &self.dir, error);
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(reading)?,
        };
        for entry in entries {
            let id =
                entry.map_err(reading)?.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(id) = id.filter(|id| !known.contains(id)) {
                self.remove(id)?;
            }
        }
        Ok(())
    }

    fn volume_dir(&self, id: Uuid) -> PathBuf {
        self.dir.join(id.to_string())
    }
}

/// Makes an empty qcow2 image of a file of ours, which no one else can write to.
fn write_qcow2_header(path: &Path, size: u64) -> Result<(), ImageError> {
    let mut create = Command::new(TOOL);
    create.args(["create", "-q", "-f", "qcow2"]).arg(path).arg(size.to_string());
    let output = create.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ImageError::NoTool { program: TOOL },
        _ => ImageError::io("run", TOOL, error),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(ImageError::io("create", path, std::io::Error::other(said)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

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
        Volumes::new(dir.join("volumes"), budget)
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
            let file = fs::metadata(volumes.path(id)).unwrap();
            assert_eq!((file.len(), file.mode() & 0o7777), (4 << 20, 0o600));
            assert!(volumes.is_empty(id));
        }
        assert_eq!(volumes.used(thin), Some(0));
        assert!(volumes.used(thick).unwrap() >= 4 << 20);
        fs::write(volumes.path(thin), b"data").unwrap();
        assert!(!volumes.is_empty(thin) && !volumes.is_empty(Uuid::from_u128(3)));
    }

    #[test]
    fn a_volume_without_an_owner_is_swept_and_a_second_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path());
        let new = NewVolume { size: 1 << 20, format: DiskFormat::Raw, allocate: false };
        let [known, unknown] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        volumes.sweep(&BTreeSet::new()).unwrap();
        volumes.create(known, new).unwrap();
        volumes.create(unknown, new).unwrap();
        volumes.sweep(&BTreeSet::from([known])).unwrap();
        assert!(volumes.path(known).exists() && !volumes.path(unknown).exists());
        volumes.remove(known).unwrap();
        volumes.remove(known).unwrap();
    }

    #[test]
    fn a_qcow2_volume_has_its_size_in_its_header() {
        if Command::new(TOOL).arg("--version").output().is_err() {
            eprintln!("SKIPPED: needs qemu-utils");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path());
        let id = Uuid::from_u128(1);
        let new = NewVolume { size: 3 << 30, format: DiskFormat::Qcow2, allocate: false };
        volumes.create(id, new).unwrap();
        let bytes = fs::read(volumes.path(id)).unwrap();
        assert_eq!(crate::qcow2::read(&bytes).unwrap().virtual_size, 3 << 30);
        assert_eq!(fs::metadata(volumes.path(id)).unwrap().mode() & 0o7777, 0o600);
    }
}
