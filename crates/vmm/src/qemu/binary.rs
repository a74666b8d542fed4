//! Which QEMU there is, and how fast it can be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::process::{Kvm, is_executable, on_path};

/// The first version that takes `-device` as JSON.
const OLDEST: (u32, u32) = (6, 2);

/// The name of the emulator.
const EMULATOR: &str = "qemu-system-x86_64";

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
        Kvm::here(root).map_or(Self::Tcg, |kvm| Self::Kvm { group: kvm.group })
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
    fn without_kvm_instructions_are_translated() {
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
