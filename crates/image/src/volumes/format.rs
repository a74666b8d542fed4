//! File systems of empty volumes.
//!
//! `mke2fs` syncs four times what has a few megabytes: so it works in memory, and the result is copied and synced once. A volume that exists
//! gets it in a file beside it, which takes its place when it is complete: it is empty or has all of the file system, whenever the daemon or
//! `mke2fs` ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use own_files::OwnFile;
use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom, fallocate, memfd_create, seek};
use rustix::io::Errno;
use uuid::Uuid;

use super::{MKE2FS, MODE, Volumes};
use crate::store::sync_dir;
use crate::tool::{below, words};
use crate::{Cancel, ImageError};

/// The name of the file while the file system is made.
const FORMATTING: &str = "formatting";

/// The largest file system that is made in memory: it takes 35 MB there.
const LARGEST_IN_MEMORY: u64 = 2 << 40;

/// The standard input of a program.
const INPUT: &str = "/proc/self/fd/0";

/// How much is copied at a time.
const BUFFER: usize = 256 << 10;

impl Volumes {
    /// Makes an ext4 file system on a raw volume to which nothing was ever written, and which no one uses. Where its whole space is
    /// `allocated`, it stays so.
    ///
    /// # Errors
    /// [`ImageError::Tool`] if mke2fs fails; the volume is empty then.
    pub fn format(&self, id: Uuid, allocated: bool) -> Result<(), ImageError> {
        self.end_format(id)?;
        let made = self.format_beside(id, allocated);
        if made.is_err() {
            // What stays is removed at the next start.
            let _ = self.end_format(id);
        }
        made
    }

    fn format_beside(&self, id: Uuid, allocated: bool) -> Result<(), ImageError> {
        let (path, made) = (self.path(id), self.formatting(id));
        let writing = |error| ImageError::io("write", &made, error);
        let open = |path, options: &mut OpenOptions| {
            let opened = OwnFile::at(path).mode(MODE).open(options.read(true).write(true));
            opened.map_err(|error| ImageError::io("open", path, error))
        };
        let empty = open(&path, &mut OpenOptions::new())?;
        let size = empty.metadata().map_err(|error| ImageError::io("stat", &path, error))?.len();
        let disk = open(&made, OpenOptions::new().create_new(true))?;
        disk.set_len(size).map_err(writing)?;
        self.make_file_system(&made, &disk, size)?;
        if allocated {
            self.move_space(&empty, &disk, size).map_err(writing)?;
        }
        disk.sync_all().map_err(writing)?;
        self.budget.between_changes();
        fs::rename(&made, &path).map_err(|error| ImageError::io("rename", &made, error))?;
        sync_dir(&self.volume_dir(id))
    }

    /// Makes an empty file system on a file that is a hole.
    pub(super) fn make_file_system(
        &self,
        path: &Path,
        disk: &File,
        size: u64,
    ) -> Result<(), ImageError> {
        if size > LARGEST_IN_MEMORY {
            return self.make_directly(path, disk, size);
        }
        let making =
            |error: io::Error| ImageError::io("make a file system in memory for", path, error);
        let memory = memfd_create("file system", MemfdFlags::CLOEXEC).map(File::from);
        let memory = memory.map_err(|error| making(error.into()))?;
        memory.set_len(size).map_err(making)?;
        let input = memory.try_clone().map(Stdio::from).map_err(making)?;
        self.budget.between_changes();
        let arguments = arguments(Path::new(INPUT));
        self.tool.run_on(input, MKE2FS, &arguments, size, &Cancel::default())?;
        self.budget.between_changes();
        let mut allowance = self.budget.allowance(&self.dir);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&memory.metadata().map_err(making)?);
        allowance.reserve(blocks.saturating_mul(512))?;
        copy_data(&memory, disk).map_err(|error| ImageError::io("write", path, error))
    }

    fn make_directly(&self, path: &Path, disk: &File, size: u64) -> Result<(), ImageError> {
        let lending = |error| ImageError::io("set the owner of", path, error);
        self.tool.lend(disk).map_err(lending)?;
        self.budget.between_changes();
        let made = self.tool.run(MKE2FS, &arguments(path), size, &Cancel::default());
        self.budget.between_changes();
        self.tool.take_back(disk).map_err(lending)?;
        made.map(drop).map_err(|error| below(error, &self.dir))
    }

    /// The space of an empty file becomes that of another one. If it cannot, the empty one has its space again.
    fn move_space(&self, from: &File, to: &File, size: u64) -> std::io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(from, hole, 0, size)?;
        self.budget.between_changes();
        fallocate(to, FallocateFlags::empty(), 0, size).inspect_err(|_| {
            let _ = fallocate(from, FallocateFlags::empty(), 0, size);
        })?;
        Ok(())
    }

    /// Removes what a crash left of a file system that was being made.
    pub(super) fn end_format(&self, id: Uuid) -> Result<(), ImageError> {
        let path = self.formatting(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(ImageError::io("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    fn formatting(&self, id: Uuid) -> PathBuf {
        self.volume_dir(id).join(FORMATTING)
    }
}

/// The arguments of mke2fs for an empty file system on a hole.
fn arguments(path: &Path) -> Vec<std::ffi::OsString> {
    let mut arguments = words([&"-q", &"-F", &"-t", &"ext4", &"-m", &"0"]);
    let options = "assume_storage_prezeroed=1,lazy_itable_init=1";
    arguments.extend(words([&"-E", &options, &path]));
    arguments
}

/// Copies what is data; holes stay holes.
fn copy_data(from: &File, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    loop {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
            let chunk = buffer.get_mut(..most).unwrap_or_default();
            let count = from.read_at(chunk, at)?;
            if count == 0 {
                return Ok(());
            }
            to.write_all_at(chunk.get(..count).unwrap_or_default(), at)?;
            at += count as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::FileExt;
    use std::process::Command;
    use std::sync::Arc;

    use model::{Disk, DiskFormat, HostError};

    use super::super::NewVolume;
    use super::*;
    use crate::{Budget, Limits, Tool};

    struct Endless;

    impl Disk for Endless {
        fn free_space(&self, _: &std::path::Path) -> Result<u64, HostError> {
            Ok(1 << 40)
        }

        fn write_out(&self, _: &std::path::Path) {}
    }

    fn with_volume(allocate: bool) -> (tempfile::TempDir, Volumes, Uuid) {
        let dir = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .tempdir()
            .unwrap();
        let budget = Budget::new(Arc::new(Endless), Limits::default());
        let tool = Tool::of_user(1_900_001_000);
        let volumes = Volumes::new(dir.path().join("volumes"), budget, tool);
        let id = Uuid::from_u128(1);
        let new = NewVolume { size: 16 << 20, format: DiskFormat::Raw, allocate };
        volumes.create(id, new).unwrap();
        volumes.keep(id).unwrap();
        (dir, volumes, id)
    }

    fn is_sound(volumes: &Volumes, id: Uuid) -> bool {
        Command::new("e2fsck").arg("-fn").arg(volumes.path(id)).output().unwrap().status.success()
    }

    #[test]
    fn what_a_crash_left_half_made_is_made_again() {
        let (_dir, volumes, id) = with_volume(false);
        // As mke2fs leaves it when it is killed: some blocks, no superblock.
        let half = File::create(volumes.formatting(id)).unwrap();
        half.write_all_at(&[1; 4096], 8 << 20).unwrap();
        assert!(volumes.is_empty(id), "the volume itself is not written to meanwhile");
        volumes.sweep(&BTreeSet::from([id])).unwrap();
        assert!(!volumes.formatting(id).exists(), "the next start removes it");
        fs::write(volumes.formatting(id), "half").unwrap();
        volumes.format(id, false).unwrap();
        assert!(is_sound(&volumes, id) && !volumes.is_empty(id));
        assert!(!volumes.formatting(id).exists());
    }

    #[test]
    fn a_volume_whose_space_was_taken_keeps_it() {
        let (_dir, volumes, id) = with_volume(true);
        volumes.format(id, true).unwrap();
        assert!(is_sound(&volumes, id));
        assert!(volumes.used(id).unwrap() >= 16 << 20);
    }

    #[test]
    fn a_file_system_takes_little_of_the_disk() {
        let (_dir, volumes, _) = with_volume(false);
        for (number, size, most) in [(2, 10_u64 << 30, 6 << 20), (3, 64 << 30, 8 << 20)] {
            let id = Uuid::from_u128(number);
            let new = NewVolume { size, format: DiskFormat::Raw, allocate: false };
            volumes.create_formatted(id, new).unwrap();
            volumes.keep(id).unwrap();
            assert!(is_sound(&volumes, id));
            assert!(volumes.used(id).unwrap() < most, "{:?}", volumes.used(id));
        }
    }

    #[test]
    fn a_format_that_fails_leaves_it_empty() {
        let (_dir, volumes, id) = with_volume(false);
        // Too small for an ext4.
        File::options().write(true).open(volumes.path(id)).unwrap().set_len(4096).unwrap();
        assert!(matches!(volumes.format(id, false), Err(ImageError::Tool { .. })));
        assert!(volumes.is_empty(id) && !volumes.formatting(id).exists());
    }
}
