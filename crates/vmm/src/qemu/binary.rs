//! Which QEMU there is, and how fast it can be.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The first version that takes `-device` as JSON.
const OLDEST: (u32, u32) = (6, 2);

/// The name of the emulator.
const EMULATOR: &str = "qemu-system-x86_64";

/// The name of the tool that makes disk layers.
const IMAGE_TOOL: &str = "qemu-img";

/// How the guest's instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor, through `/dev/kvm`, which the machine's user opens, by way of a group where it must.
    Kvm {
        /// The group that may open it, where others may not.
        group: Option<u32>,
    },
    /// By translation, slowly.
    Tcg,
}

impl Accelerator {
    /// The word that QEMU uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm { .. } => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// The best that a user other than root has here.
    pub fn here(root: &Path) -> Self {
        let path = root.join("dev/kvm");
        // A static node can be there without the module; only opening it tells (kmod-static-nodes).
        let works = fs::OpenOptions::new().read(true).write(true).open(&path).is_ok();
        let Ok(metadata) = fs::metadata(&path) else { return Self::Tcg };
        if works {
            Self::for_node(metadata.permissions().mode(), metadata.gid())
        } else {
            Self::Tcg
        }
    }

    /// What mode and group of `/dev/kvm` allow. A machine is never given the group of root.
    const fn for_node(mode: u32, gid: u32) -> Self {
        if mode & 0o006 == 0o006 {
            Self::Kvm { group: None }
        } else if mode & 0o060 == 0o060 && gid != 0 {
            Self::Kvm { group: Some(gid) }
        } else {
            Self::Tcg
        }
    }
}

/// A QEMU that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Where it is.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
}

/// Finds QEMU, and remembers its version for as long as the file is the same.
#[derive(Debug, Default)]
pub struct Finder {
    configured: Option<PathBuf>,
    known: Mutex<Option<(SystemTime, Binary)>>,
}

impl Finder {
    /// A finder for the configured file, or for the one on PATH.
    pub const fn new(configured: Option<PathBuf>) -> Self {
        Self { configured, known: Mutex::new(None) }
    }

    /// Where QEMU is. Asking it for its version takes time that a start does not have.
    pub fn path(&self) -> Result<PathBuf, String> {
        let missing = |what: String| format!("{what}; apt install qemu-system-x86");
        match &self.configured {
            Some(path) if is_executable(path) => Ok(path.clone()),
            Some(path) => {
                Err(missing(format!("QEMU is missing: {} is no program", path.display())))
            }
            None => on_path(EMULATOR)
                .ok_or_else(|| missing(format!("QEMU is missing: {EMULATOR} is not on PATH"))),
        }
    }

    /// The QEMU to be used, or why there is none, and what to do.
    pub fn find(&self) -> Result<Binary, String> {
        let path = self.path()?;
        let modified =
            fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(|error| {
                format!(
                    "QEMU cannot be used: {}: {error}; apt install qemu-system-x86",
                    path.display()
                )
            })?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, binary)) = &*known
            && *then == modified
            && binary.path == path
        {
            return Ok(binary.clone());
        }
        let binary = Binary { version: version(&path)?, path };
        *known = Some((modified, binary.clone()));
        Ok(binary)
    }

    /// The tool that makes disk layers: beside QEMU, else on PATH.
    pub fn image_tool(&self) -> Result<PathBuf, String> {
        let beside =
            self.configured.as_deref().and_then(Path::parent).map(|dir| dir.join(IMAGE_TOOL));
        beside.filter(|path| is_executable(path)).or_else(|| on_path(IMAGE_TOOL)).ok_or_else(|| {
            format!("{IMAGE_TOOL} is missing, so no disk can be made; apt install qemu-utils")
        })
    }
}

/// Asks the binary for its version.
fn version(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let output = Command::new(path).arg("-version").env_clear().output().map_err(|error| {
        format!("QEMU cannot be used: {shown}: {error}; apt install qemu-system-x86")
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse_version(&text).filter(|_| output.status.success()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().last().unwrap_or("it says nothing");
        format!("QEMU cannot be used: {shown} does not tell its version: {said}; reinstall it: apt install --reinstall qemu-system-x86")
    })?;
    if number(&version) < Some(OLDEST) {
        return Err(format!(
            "QEMU {version} is too old: {}.{} or newer is needed; install a newer one, for instance from the distribution's backports",
            OLDEST.0, OLDEST.1
        ));
    }
    Ok(version)
}

/// `7.2.22` from `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)`.
fn parse_version(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("version ")?;
    let version = rest.split([' ', '\n']).next()?.to_owned();
    number(&version).map(|_| version)
}

/// Major and minor number.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|path| path.is_absolute() && is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_and_orders_them() {
        let text = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(parse_version(text).as_deref(), Some("7.2.22"));
        assert_eq!(parse_version("QEMU emulator version 11.1.3\n").as_deref(), Some("11.1.3"));
        assert_eq!(parse_version("sh: not found"), None);
        assert!(number("10.0.2") > Some(OLDEST) && number("5.2.0") < Some(OLDEST));
    }

    #[test]
    fn kvm_is_used_only_where_the_machines_user_may_open_it() {
        assert_eq!(Accelerator::for_node(0o20_666, 0), Accelerator::Kvm { group: None });
        assert_eq!(Accelerator::for_node(0o20_660, 108), Accelerator::Kvm { group: Some(108) });
        assert_eq!(Accelerator::for_node(0o20_660, 0), Accelerator::Tcg);
        assert_eq!(Accelerator::for_node(0o20_600, 0), Accelerator::Tcg);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(Accelerator::here(empty.path()), Accelerator::Tcg);
    }

    #[test]
    fn a_missing_qemu_says_what_to_install() {
        let finder = Finder::new(Some("/nowhere/qemu-system-x86_64".into()));
        let reason = finder.find().unwrap_err();
        assert!(reason.contains("/nowhere") && reason.contains("apt install"), "{reason}");
    }
}
