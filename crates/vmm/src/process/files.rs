//! A machine's files: its disk layer, its console, its TPM's state, its screen's certificate, its VMM's log. They exist from create to delete.
//!
//! The directories belong to root, the files to the machine's user: a VMM can write its files but cannot create others. Only
//! the directory of the TPM's state is the user's own, because swtpm replaces its files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use model::{ContainerBoot, LaunchError, MachineDisk, MachineSpec, Rom};
use own_files::{Existing, OwnFile, STATE_DIR, make_dir};
use rustix::fs::OFlags;
use uuid::Uuid;

use super::disk_layer;
use super::run_dir::remove_file;
use super::screen;
use crate::seed;

/// The largest size of the console and of the log. The guest controls their contents, and the journal is on the same
/// disk.
const LONGEST: u64 = 64 << 20;

/// How much of the end of the VMM's log is read.
const LOG_END: u64 = 8 * 1024;

/// The files of one machine.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
    vmm: &'static str,
}

impl Files {
    /// The files of machine `id` below `state_dir`, for the VMM with this name.
    pub fn of(state_dir: &Path, id: Uuid, vmm: &'static str) -> Self {
        Self { dir: state_dir.join("machines").join(id.to_string()), vmm }
    }

    /// The disk layer.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk.qcow2")
    }

    /// The output of the guest's serial console.
    pub fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// The firmware's variables.
    pub fn nvram(&self) -> PathBuf {
        self.dir.join("nvram.fd")
    }

    /// The disk that configures the guest at its first boot.
    pub fn seed(&self) -> PathBuf {
        self.dir.join("seed.iso")
    }

    /// The configuration disk of the init in the guest.
    pub fn guest_config(&self) -> PathBuf {
        self.dir.join("guest-config.img")
    }

    /// The directory of the TPM's state.
    pub fn tpm(&self) -> PathBuf {
        self.dir.join("tpm")
    }

    /// The directory with the key and the certificate of its screen.
    pub fn screen(&self) -> PathBuf {
        self.dir.join("screen")
    }

    /// The directory with the ROMs of its devices.
    pub fn roms(&self) -> PathBuf {
        self.dir.join("roms")
    }

    /// The content of a device's ROM, if the machine has a file for it.
    pub fn rom(&self, rom: &Rom) -> Result<Option<Vec<u8>>, LaunchError> {
        let path = self.roms().join(rom.file_name());
        let most = u64::try_from(*Rom::SIZE.end()).unwrap_or(u64::MAX);
        match OwnFile::at(&path).or_of_anyone().read(most) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// The end of the configuration disk of the init in the guest, if the machine has it.
    pub fn guest_result(&self) -> Result<Option<Vec<u8>>, LaunchError> {
        let path = self.guest_config();
        let read = || -> io::Result<Vec<u8>> {
            // It is the machine's user's, who cannot put another file there.
            let mut options = OpenOptions::new();
            let mut file = OwnFile::at(&path).or_of_anyone().open(options.read(true))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(ContainerBoot::RESULT)))?;
            let mut end = Vec::new();
            file.take(ContainerBoot::RESULT).read_to_end(&mut end)?;
            Ok(end)
        };
        match read() {
            Ok(end) => Ok(Some(end)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// The machine's user, if it has files.
    pub fn user(&self) -> Option<u32> {
        fs::symlink_metadata(self.console()).ok().map(|file| file.uid())
    }

    /// The output of `handover launch` and of the VMM.
    fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.vmm))
    }

    /// Creates the missing files.
    pub fn create(
        &self,
        spec: &MachineSpec,
        image_tool: impl FnOnce() -> Result<PathBuf, LaunchError>,
        nvram_template: impl FnOnce() -> Result<Option<PathBuf>, LaunchError>,
    ) -> Result<(), LaunchError> {
        for dir in [self.dir.parent().unwrap_or(&self.dir), &self.dir] {
            // Other users can pass through it, but not list it.
            make_dir(dir, STATE_DIR, Existing::Set).map_err(failed("create", dir))?;
        }
        let console = self.console();
        make_file(&console, spec.uid).map_err(failed("create", &console))?;
        if !self.nvram().exists()
            && let Some(template) = nvram_template()?
        {
            self.create_nvram(&template, spec)?;
        }
        if spec.options.tpm {
            self.create_tpm(spec)?;
        }
        if screen::is_encrypted(&spec.options) && !screen::has_certificate(&self.screen()) {
            self.create_certificate(spec)?;
        }
        self.create_roms(spec)?;
        if let Some(seed) = &spec.options.seed {
            let image = seed::image(seed);
            // A change of the instance can have changed it.
            if !has_content(&self.seed(), &image) {
                self.write(&self.seed(), &image, 0o400, spec.uid)?;
            }
        }
        if let Some(container) = &spec.container {
            // Anew for each run: the guest wrote into it how the last one ended.
            self.write(&self.guest_config(), &container.config, 0o600, spec.uid)?;
        }
        match &spec.disk {
            Some(disk) if !self.disk().exists() => self.create_disk(disk, spec.uid, &image_tool()?),
            _ => Ok(()),
        }
    }

    /// Creates the disk layer. The tool parses the image's header, so it runs as the machine's user, not as root; the
    /// layer is renamed when it is complete.
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
            .map_err(failed("create", &unfinished))?;
        let mut create = disk_layer::command(image_tool, disk, &unfinished);
        create.uid(uid).gid(uid).env_clear().current_dir(&self.dir);
        let output = create.output().map_err(failed("run", image_tool))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(file_error("create", &self.disk(), said.trim().replace('\n', "; ")));
        }
        fs::rename(&unfinished, self.disk()).map_err(failed("rename", &unfinished))
    }

    /// Copies the firmware's variables. A machine that ran before has lost its own: boot entries that the guest made are
    /// gone, and firmware looks for a boot loader at its usual place.
    fn create_nvram(&self, template: &Path, spec: &MachineSpec) -> Result<(), LaunchError> {
        if self.log().exists() {
            tracing::warn!(machine = %spec.id, "the machine's NVRAM was lost; it starts with an empty one");
        }
        let variables = fs::read(template).map_err(failed("read", template))?;
        self.write(&self.nvram(), &variables, 0o600, spec.uid)
    }

    /// Creates the directory of the TPM's state, empty, or keeps the existing one. Without the old state, a guest cannot
    /// decrypt what it sealed.
    fn create_tpm(&self, spec: &MachineSpec) -> Result<(), LaunchError> {
        let dir = self.tpm();
        if self.log().exists() && !dir.exists() {
            tracing::warn!(machine = %spec.id, "the state of the machine's TPM was lost; it starts with an empty one");
        }
        let create = || -> io::Result<()> {
            match fs::DirBuilder::new().mode(0o700).create(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            // Also of an existing one: the process may have died before it gave it away.
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
            let own = OpenOptions::new().read(true).custom_flags(flags).open(&dir)?;
            fchown(&own, Some(spec.uid), Some(spec.uid))
        };
        create().map_err(failed("create", &dir))
    }

    /// Writes the ROMs of devices. At a later start they are there.
    fn create_roms(&self, spec: &MachineSpec) -> Result<(), LaunchError> {
        let dir = self.roms();
        for rom in spec.options.roms.iter().filter(|rom| rom.has_file) {
            let path = dir.join(rom.file_name());
            if path.exists() {
                continue;
            }
            if rom.content.is_empty() {
                let reason = "the ROM of the device was lost; create the instance again".into();
                return Err(file_error("find", &path, reason));
            }
            make_dir(&dir, STATE_DIR, Existing::Set).map_err(failed("create", &dir))?;
            self.write(&path, &rom.content, 0o400, spec.uid)?;
        }
        Ok(())
    }

    /// Makes the key and the certificate of the screen. The certificate is written last: it shows that all are there.
    fn create_certificate(&self, spec: &MachineSpec) -> Result<(), LaunchError> {
        let dir = self.screen();
        make_dir(&dir, STATE_DIR, Existing::Set).map_err(failed("create", &dir))?;
        for (name, text) in screen::files(&spec.name).map_err(failed("make", &dir))? {
            self.write(&dir.join(name), text.as_bytes(), 0o400, spec.uid)?;
        }
        Ok(())
    }

    /// Writes a file for the machine's user, and renames it when it is complete.
    fn write(&self, path: &Path, bytes: &[u8], mode: u32, uid: u32) -> Result<(), LaunchError> {
        let unfinished = path.with_extension("unfinished");
        let write = || -> io::Result<()> {
            remove_file(&unfinished)?;
            let mut options = OpenOptions::new();
            let options = options.create_new(true).write(true);
            let mut file = OwnFile::at(&unfinished).mode(mode).open(options)?;
            // Zeros at the end stay a hole: the configuration disk of a container's machine has a megabyte of them.
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            file.write_all(bytes.get(..end).unwrap_or_default())?;
            file.set_len(bytes.len() as u64)?;
            fchown(&file, Some(uid), Some(uid))?;
            fs::rename(&unfinished, path)
        };
        write().map_err(failed("write", path))
    }

    /// Removes the firmware's variables.
    pub fn remove_nvram(&self) -> Result<(), LaunchError> {
        let path = self.nvram();
        remove_file(&path).map_err(failed("remove", &path))
    }

    /// Removes all files.
    pub fn remove(&self) -> Result<(), LaunchError> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.dir)(error))
            }
            _ => Ok(()),
        }
    }

    /// Opens the log, empty.
    pub fn open_log(&self) -> Result<File, LaunchError> {
        let path = self.log();
        let mut options = OpenOptions::new();
        let log = OwnFile::at(&path)
            .mode(0o600)
            .open(options.create(true).append(true))
            .map_err(failed("open", &path))?;
        log.set_len(0).map_err(failed("truncate", &path))?;
        Ok(log)
    }

    /// Truncates the console and the log to nothing if they are too long, and returns their size, in bytes. Call it regularly
    /// while the machine runs. Their writers append, and so continue at the new end.
    pub fn limit(&self) -> io::Result<u64> {
        let mut size = 0;
        for path in [self.console(), self.log()] {
            match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(metadata) if metadata.len() <= LONGEST => size += metadata.len(),
                // The console belongs to the machine's user, who cannot put another file there.
                Ok(_) => OwnFile::at(&path)
                    .or_of_anyone()
                    .open(OpenOptions::new().write(true))?
                    .set_len(0)?,
            }
        }
        Ok(size)
    }

    /// The end of the log.
    pub fn log_end(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut log = OwnFile::at(&self.log()).open(OpenOptions::new().read(true))?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
            let mut end = Vec::new();
            log.take(LOG_END).read_to_end(&mut end)?;
            Ok(end)
        };
        read().map_or_else(
            |error| format!("cannot read the VMM's log: {error}"),
            |end| String::from_utf8_lossy(&end).into_owned(),
        )
    }
}

/// Checks that the machine's user can reach a file. The error names the directory without permission; the VMM would
/// only report "Permission denied".
pub fn expect_reachable(path: &Path, uid: u32) -> Result<(), LaunchError> {
    let Some(blocked) = own_files::blocked(path, uid).map_err(failed("stat", path))? else {
        return Ok(());
    };
    let reason = format!("the machine's user {uid} has {blocked}");
    Err(file_error(&format!("reach {} through", path.display()), &blocked.dir, reason))
}

/// Creates an empty file for a user, or keeps the existing one.
fn make_file(path: &Path, uid: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = OwnFile::at(path).mode(0o600).or_of(uid).open(options.create(true).append(true))?;
    fchown(file, Some(uid), Some(uid))
}

fn failed(action: &str, path: &Path) -> impl FnOnce(io::Error) -> LaunchError {
    let (action, path) = (action.to_owned(), path.to_owned());
    move |error| file_error(&action, &path, error.to_string())
}

fn file_error(action: &str, path: &Path, reason: String) -> LaunchError {
    LaunchError::File { action: action.into(), path: path.display().to_string(), reason }
}
/// Whether a file has this content.
fn has_content(path: &Path, content: &[u8]) -> bool {
    let has_length =
        fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == content.len() as u64);
    has_length && fs::read(path).is_ok_and(|bytes| bytes == content)
}
