//! Directories in which container tools look for CDI specs.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use convert::cdi::{FILES, Spec};
use model::{Code, Refusal};
use own_files::{Existing, OwnFile, Unfit, make_dir, read_open};

/// The default directory of specs that last until reboot (`DefaultDynamicDir` in `pkg/cdi/spec-dirs.go`).
pub const USUAL: &str = "/var/run/cdi";

/// The default directory of persistent specs (`DefaultStaticDir`).
pub const STATIC: &str = "/etc/cdi";

/// The suffix of a file that is being written: container tools read `.json` and `.yaml` only.
const UNFINISHED: &str = ".tmp";

/// The mode of specs: container tools of all users read them.
const MODE: u32 = 0o644;

/// The mode of a directory that is created.
const DIR_MODE: u32 = 0o755;

/// The largest size of a spec.
const LONGEST: u64 = 4 << 20;

/// A directory with CDI specs of Handover and of other tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// A spec file of Handover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path.
    pub path: PathBuf,
    /// Its spec, or why it cannot be read.
    pub spec: Result<Spec, String>,
}

impl Folder {
    /// A directory, which need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory of an option's value; `None` for `none`.
    #[must_use]
    pub fn from_option(path: &Path) -> Option<Self> {
        (path.as_os_str() != "none").then(|| Self::new(path))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a spec atomically; an identical one is left alone. The file is world-readable, for rootless tools. It takes the
    /// place of a link, whose target is not changed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, spec: &Spec) -> Result<PathBuf, Refusal> {
        let path = self.0.join(spec.file_name());
        let text = spec.render();
        if is_there(&path, &text) {
            return Ok(path);
        }
        self.replace(&path, &text).map_err(|error| cannot("write", &path, &error))?;
        Ok(path)
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        // Other tools have their specs there too.
        make_dir(&self.0, DIR_MODE, Existing::Keep)?;
        let mut file = tempfile::Builder::new()
            .prefix(&format!(".{FILES}"))
            .suffix(UNFINISHED)
            .tempfile_in(&self.0)?;
        file.as_file().set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    }

    /// Handover's spec files, by name; empty if the directory does not exist.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn ours(&self) -> Result<Vec<File>, Refusal> {
        let is_ours = |name: &str| name.starts_with(FILES) && name.ends_with(".json");
        let files = self.named(is_ours)?.into_iter().map(|path| {
            let text =
                OwnFile::at(&path).or_of_anyone().read(LONGEST).map_err(|error| error.to_string());
            let spec = text.and_then(|text| {
                serde_json::from_slice(&text)
                    .map_err(|error| format!("not a spec of Handover: {error}"))
            });
            File { path, spec }
        });
        Ok(files.collect())
    }

    /// Partial files of processes that died while writing.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn unfinished(&self) -> Result<Vec<PathBuf>, Refusal> {
        self.named(|name| name.starts_with(&format!(".{FILES}")) && name.ends_with(UNFINISHED))
    }

    fn named(&self, is: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Refusal> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cannot("read", &self.0, &error)),
        };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_str().is_some_and(&is))
            .map(|entry| entry.path())
            .collect();
        paths.sort_unstable();
        Ok(paths)
    }

    /// Removes a spec file; an absent file is not an error.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(path: &Path) -> Result<(), Refusal> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(cannot("remove", path, &error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a file has this text, and all users can read it.
fn is_there(path: &Path, text: &str) -> bool {
    let mut options = fs::OpenOptions::new();
    let opened = OwnFile::at(path).open(options.read(true));
    let there = opened.and_then(|file| {
        let metadata = file.metadata()?;
        let there = read_open(&file, LONGEST)?;
        Ok(metadata.mode() & 0o777 == MODE && there == text.as_bytes())
    });
    there.unwrap_or(false)
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> Refusal {
    if let Some(unfit) = Unfit::of(error) {
        let message = format!("cannot {verb} {}: {unfit}", path.display());
        let dir = path.parent().unwrap_or(path);
        let remedy = format!(
            "{}; or choose another directory for CDI specs with --cdi-dir",
            unfit.remedy(dir)
        );
        return Refusal::new(Code::Internal, message, remedy);
    }
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => Code::Forbidden,
        _ => Code::Internal,
    };
    Refusal::new(
        code,
        format!("cannot {verb} {}: {error}", path.display()),
        "run as root, or choose another directory for CDI specs with --cdi-dir",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn spec(path: &str) -> Spec {
        Spec::of(convert::cdi::DEVICE, "0000:01:00.0", Vec::new(), vec![path.to_owned()])
    }

    #[test]
    fn a_file_is_there_whole_and_only_ours_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("not/there"));
        assert_eq!(folder.ours().unwrap(), []);
        let path = folder.write(&spec("/dev/nvidia0")).unwrap();
        assert_eq!(folder.write(&spec("/dev/nvidia1")).unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        fs::write(folder.path().join("nvidia.yaml"), "").unwrap();
        fs::write(folder.path().join("handover.dev-x.json"), "{").unwrap();
        let found = folder.ours().unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].spec, Ok(spec("/dev/nvidia1")));
        assert!(found[1].spec.as_ref().unwrap_err().contains("not a spec of Handover"));
        Folder::remove(&path).unwrap();
        Folder::remove(&path).unwrap();
        assert_eq!(folder.ours().unwrap().len(), 1);
        assert_eq!(folder.unfinished().unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_spec_takes_the_place_of_a_link_or_a_fifo_and_all_users_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, victim) = (Folder::new(dir.path()), dir.path().join("victim"));
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
        let text = spec("/dev/nvidia0").render();
        fs::write(&victim, &text).unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
        let path = dir.path().join(spec("/dev/nvidia0").file_name());
        let is_written = || {
            assert_eq!(folder.write(&spec("/dev/nvidia0")).unwrap(), path);
            assert!(fs::symlink_metadata(&path).unwrap().is_file());
            assert_eq!((mode(&path), mode(&victim)), (0o644, 0o600));
            fs::remove_file(&path).unwrap();
        };
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert!(folder.ours().unwrap()[0].spec.is_err(), "a link is not read");
        is_written();
        let (cwd, fifo) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(cwd, &path, fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(folder.ours().unwrap()[0].spec.is_err(), "reading a FIFO would wait");
        is_written();
        // An earlier version wrote it with a umask that hides it.
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        is_written();
    }

    #[test]
    fn a_folder_that_cannot_be_written_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refusal = Folder::new(&file).write(&spec("/dev/nvidia0")).unwrap_err();
        assert!(refusal.message.contains("cannot write"), "{refusal:?}");
        assert!(refusal.remedy.contains("--cdi-dir"));
    }
}
