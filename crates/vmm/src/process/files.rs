//! A machine's own files: its disk layer, its console, its VMM's log. They last from create to delete.
//!
//! The directories belong to root, the files to the machine's user: a VMM can write its files and make no others.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use model::{LaunchError, MachineDisk, MachineSpec};
use uuid::Uuid;

use super::disk_layer;
use super::run_dir::remove_file;

/// How long the console and the log may get. The guest decides what is in them, and the journal is on the same disk.
const LONGEST: u64 = 64 << 20;

/// How much of the VMM's log is looked at: its end.
const LOG_END: u64 = 8 * 1024;

/// The files of one machine.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
    vmm: &'static str,
}

impl Files {
    /// Those of machine `id` below `state_dir`, which the VMM of this name runs.
    pub fn of(state_dir: &Path, id: Uuid, vmm: &'static str) -> Self {
        Self { dir: state_dir.join("machines").join(id.to_string()), vmm }
    }

    /// The disk layer.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk.qcow2")
    }

    /// What the guest wrote to its serial console.
    pub fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// What the VMM and `handover launch` said.
    fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.vmm))
    }

    /// Makes all of them, where they are not there.
    pub fn create(
        &self,
        spec: &MachineSpec,
        image_tool: impl FnOnce() -> Result<PathBuf, LaunchError>,
    ) -> Result<(), LaunchError> {
        for dir in [self.dir.parent().unwrap_or(&self.dir), &self.dir] {
            make_dir(dir).map_err(failed("make", dir))?;
        }
        let console = self.console();
        make_file(&console, spec.uid).map_err(failed("make", &console))?;
        match &spec.disk {
            Some(disk) if !self.disk().exists() => self.create_disk(disk, spec.uid, &image_tool()?),
            _ => Ok(()),
        }
    }

    /// Makes the disk layer. The tool reads the image's header and runs as the machine's user, not as root; the layer
    /// gets its name when it is complete.
    fn create_disk(
        &self,
        disk: &MachineDisk,
        uid: u32,
        image_tool: &Path,
    ) -> Result<(), LaunchError> {
        expect_reachable(&disk.base, uid)?;
        let unfinished = self.dir.join("disk.unfinished");
        expect_reachable(&unfinished, uid)?;
        remove_file(&unfinished)
            .and_then(|()| make_file(&unfinished, uid))
            .map_err(failed("make", &unfinished))?;
        let mut create = disk_layer::command(image_tool, disk, &unfinished);
        create.uid(uid).gid(uid).env_clear().current_dir(&self.dir);
        let output = create.output().map_err(failed("run", image_tool))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(file_error("make", &self.disk(), said.trim().replace('\n', "; ")));
        }
        fs::rename(&unfinished, self.disk()).map_err(failed("name", &self.disk()))
    }

    /// Removes all of them.
    pub fn remove(&self) -> Result<(), LaunchError> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.dir)(error))
            }
            _ => Ok(()),
        }
    }

    /// A new log.
    pub fn open_log(&self) -> Result<File, LaunchError> {
        let path = self.log();
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        let log = options.open(&path).map_err(failed("open", &path))?;
        log.set_len(0).map_err(failed("empty", &path))?;
        Ok(log)
    }

    /// Empties the console and the log where they have become too long; to be called again and again while the machine
    /// runs. Whoever writes to them appends, and so goes on at their new end.
    pub fn bound(&self) -> io::Result<()> {
        for path in [self.console(), self.log()] {
            match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(metadata) if metadata.len() <= LONGEST => {}
                Ok(_) => OpenOptions::new().write(true).open(&path)?.set_len(0)?,
            }
        }
        Ok(())
    }

    /// The end of the log.
    pub fn log_end(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut log = File::open(self.log())?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
            let mut end = Vec::new();
            log.take(LOG_END).read_to_end(&mut end)?;
            Ok(end)
        };
        read().map_or_else(
            |error| format!("its log cannot be read: {error}"),
            |end| String::from_utf8_lossy(&end).into_owned(),
        )
    }
}

/// Checks that the machine's user can reach a file, so that a person hears which directory is in the way; the VMM would
/// say no more than "Permission denied".
pub fn expect_reachable(path: &Path, uid: u32) -> Result<(), LaunchError> {
    for dir in path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()) {
        let metadata = fs::metadata(dir).map_err(failed("look at", dir))?;
        let mode = metadata.mode();
        let may_pass = if metadata.uid() == uid { mode & 0o100 != 0 } else { mode & 0o001 != 0 };
        if !may_pass {
            let reason = format!(
                "the machine's user {uid} may not pass through it (mode {:04o}); chmod o+x {}",
                mode & 0o7777,
                dir.display()
            );
            return Err(file_error(&format!("reach {} through", path.display()), dir, reason));
        }
    }
    Ok(())
}

/// Makes a directory that other users may pass through but not list, whatever the umask.
fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o711).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o711))
}

/// Makes an empty file of a user's, or leaves the one that is there.
fn make_file(path: &Path, uid: u32) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    chown(path, Some(uid), Some(uid))
}

fn failed(action: &str, path: &Path) -> impl FnOnce(io::Error) -> LaunchError {
    let (action, path) = (action.to_owned(), path.to_owned());
    move |error| file_error(&action, &path, error.to_string())
}

fn file_error(action: &str, path: &Path, reason: String) -> LaunchError {
    LaunchError::File { action: action.into(), path: path.display().to_string(), reason }
}
