//! The installed QEMU, and the accelerator that it can use.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use model::LaunchError;

use crate::process::{Kvm, VersionText, is_executable, on_path, printed};

/// The first version that accepts `-device` as JSON.
const OLDEST: (u32, u32) = (6, 2);

/// The first version that connects a network card to a socket by `-netdev stream`.
const OLDEST_WITH_STREAMS: (u32, u32) = (7, 2);

/// The name of the emulator.
const EMULATOR: &str = "qemu-system-x86_64";

/// How QEMU executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor, through `/dev/kvm`.
    Kvm {
        /// The group that may open it, if others may not.
        group: Option<u32>,
    },
    /// By translation, which is slow.
    Tcg,
}

impl Accelerator {
    /// Its name in QEMU.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm { .. } => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// The best one for a user other than root on this host.
    pub fn here(root: &Path) -> Self {
        Kvm::here(root).map_or(Self::Tcg, |kvm| Self::Kvm { group: kvm.group })
    }
}

/// A usable QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Its path.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
}

/// Finds QEMU.
#[derive(Debug, Default)]
pub struct Finder {
    configured: Option<PathBuf>,
    text: VersionText,
    /// The properties of its device vfio-pci.
    vfio: VersionText,
    /// Whether it is known that QEMU has SPICE. Its absence is not kept: the module may be installed.
    has_spice: AtomicBool,
}

impl Finder {
    /// A finder for the configured file, or for the one on PATH.
    pub fn new(configured: Option<PathBuf>) -> Self {
        Self { configured, ..Self::default() }
    }

    /// The path of QEMU. The version is not read: that would delay the start of a machine.
    pub fn path(&self) -> Result<PathBuf, String> {
        let missing =
            |reason: String| format!("QEMU not found: {reason}; apt install qemu-system-x86");
        match &self.configured {
            Some(path) if is_executable(path) => Ok(path.clone()),
            Some(path) => Err(missing(format!("{} is not an executable", path.display()))),
            None => on_path(EMULATOR).ok_or_else(|| missing(format!("{EMULATOR} is not on PATH"))),
        }
    }

    /// Checks that a network card can be connected to a socket.
    pub fn expect_streams(&self) -> Result<(), LaunchError> {
        let remedy = super::INSTALL.to_owned();
        let binary = self.find();
        let Binary { version, .. } =
            binary.map_err(|reason| LaunchError::Unavailable { reason, remedy: remedy.clone() })?;
        if number(&version) >= Some(OLDEST_WITH_STREAMS) {
            return Ok(());
        }
        let (major, minor) = OLDEST_WITH_STREAMS;
        let reason = format!(
            "the machine cannot have a network: QEMU {version} is too old for it, {major}.{minor} or newer is required"
        );
        Err(LaunchError::Unavailable { reason, remedy })
    }

    /// Checks that QEMU has SPICE, which is a module of its own in newer distributions.
    pub fn expect_spice(&self) -> Result<(), LaunchError> {
        let remedy = super::INSTALL.to_owned();
        let path = self.path().map_err(|reason| LaunchError::Unavailable { reason, remedy })?;
        if self.has_spice.load(Ordering::Relaxed) {
            return Ok(());
        }
        // It exits with 1 also if it knows the options.
        let told = printed(&path, &["-spice", "help"]);
        if told.is_ok_and(|text| text.contains("spice options:")) {
            self.has_spice.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(LaunchError::Unavailable {
            reason:
                "the machine cannot have a screen of SPICE: QEMU's module for it is not installed"
                    .into(),
            remedy:
                "apt install qemu-system-modules-spice (Debian 13 or newer), or use `--display vnc`"
                    .into(),
        })
    }

    /// Whether QEMU takes devices as descriptors (since 9.0, if it was built with iommufd).
    pub fn takes_descriptors(&self) -> bool {
        let listed = |path: PathBuf| self.vfio.of(&path, &["-device", "vfio-pci,help"]).ok();
        let listed = self.path().ok().and_then(listed).unwrap_or_default();
        let has = |name: &str| listed.lines().any(|line| line.trim_start().starts_with(name));
        has("fd=") && has("iommufd=")
    }

    /// The QEMU to use, or an error with a remedy.
    pub fn find(&self) -> Result<Binary, String> {
        let path = self.path()?;
        let text = self.text.of(&path, &["-version"]).map_err(|reason| broken(&path, &reason))?;
        let version = parse_version(&text)
            .ok_or_else(|| broken(&path, "`-version` does not print a version of QEMU"))?;
        expect_usable(&version)?;
        Ok(Binary { path, version })
    }
}

/// The error for a file that is no usable QEMU.
fn broken(path: &Path, reason: &str) -> String {
    format!("{}: {reason}; apt install --reinstall qemu-system-x86", path.display())
}

/// Refuses a version that is too old for any machine.
fn expect_usable(version: &str) -> Result<(), String> {
    if number(version) < Some(OLDEST) {
        return Err(format!(
            "QEMU {version} is too old: {}.{} or newer is required; install a newer version, for instance from your distribution's backports",
            OLDEST.0, OLDEST.1
        ));
    }
    Ok(())
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
    fn a_qemu_without_spice_is_told_by_what_it_prints() {
        let dir = tempfile::tempdir().unwrap();
        let said = |text: &str| {
            let path = dir.path().join("qemu");
            let script =
                format!("#!/bin/sh\n[ \"$1 $2\" = '-spice help' ] && echo '{text}'\nexit 1\n");
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
            Finder::new(Some(path)).expect_spice()
        };
        said("spice options:").unwrap();
        let missing = said("There is no option group");
        let Err(LaunchError::Unavailable { remedy, .. }) = missing else { panic!("{missing:?}") };
        assert!(remedy.contains("qemu-system-modules-spice"), "{remedy}");
    }

    #[test]
    fn descriptors_are_taken_if_the_device_has_both_properties() {
        let dir = tempfile::tempdir().unwrap();
        for (number, properties, takes) in [
            (0, "  display=<OnOffAuto>\n  host=<str>", false),
            (1, "  x-fd=<str>\n  iommufd=<link<iommufd>>", false),
            (2, "  fd=<str>\n  host=<str>\n  iommufd=<link<iommufd>>", true),
        ] {
            let path = dir.path().join(format!("qemu{number}"));
            std::fs::write(&path, format!("#!/bin/sh\nprintf '{properties}\n'\n")).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
            assert_eq!(Finder::new(Some(path)).takes_descriptors(), takes, "{properties}");
        }
    }

    #[test]
    fn the_error_for_a_missing_qemu_has_a_remedy() {
        let finder = Finder::new(Some("/nowhere/qemu-system-x86_64".into()));
        let reason = finder.find().unwrap_err();
        assert!(reason.contains("/nowhere") && reason.contains("apt install"), "{reason}");
    }
}
