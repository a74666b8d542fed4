//! Kernels that no machine needs any more.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use uuid::Uuid;

use super::{KernelSource, LARGEST_INIT, MAKING, SOURCE, UNFINISHED, key, read_file};
use crate::store::{remove_tree, sync_dir};
use crate::{ImageError, Store};

impl Store {
    /// Removes kernels that no machine uses, and what crashes left of them. With `init`, the current executable of the guest, those stay
    /// that would be made again as they are: only what was replaced goes, or has lost its source. `used` is called while none is made, and
    /// returns the names that machines have recorded; without an answer nothing is removed. Returns how many bytes were freed.
    ///
    /// # Errors
    /// If they cannot be read or removed.
    pub fn sweep_kernels(
        &self,
        init: Option<&Path>,
        used: impl FnOnce() -> Option<BTreeSet<String>>,
    ) -> Result<u64, ImageError> {
        let kernels = self.dir.join("kernels");
        let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(used) = used() else { return Ok(0) };
        let reading = |error| ImageError::io("read", &kernels, error);
        let entries = match fs::read_dir(&kernels) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(reading)?,
        };
        let init = init.and_then(|init| read_file(init, LARGEST_INIT).ok());
        let mut freed = 0;
        for entry in entries {
            let entry = entry.map_err(reading)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_current = || init.as_ref().is_some_and(|init| is_current(&entry.path(), init));
            if name.starts_with(UNFINISHED) || !(used.contains(name) || is_current()) {
                freed += space(&entry.path());
                remove_kernel(&kernels, entry.path(), name)?;
            }
        }
        Ok(freed)
    }
}

/// Removes a kernel, first from its name: one that is half removed after a crash must not be taken for a whole one.
fn remove_kernel(kernels: &Path, path: PathBuf, name: &str) -> Result<(), ImageError> {
    if name.starts_with(UNFINISHED) {
        return remove_tree(&path);
    }
    let aside = kernels.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
    fs::rename(&path, &aside).map_err(|error| ImageError::io("remove", &path, error))?;
    sync_dir(kernels)?;
    remove_tree(&aside)
}

/// Whether the same source with this init would give the same kernel.
fn is_current(dir: &Path, init: &[u8]) -> bool {
    let told = fs::read(dir.join(SOURCE)).ok();
    let source = told.and_then(|told| serde_json::from_slice::<KernelSource>(&told).ok());
    let now = source.and_then(|source| key(&source, init).ok());
    dir.file_name().and_then(|name| name.to_str()) == now.as_deref()
}

/// How much of the disk the files of a directory take, in bytes.
fn space(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    // In units of 512 bytes (stat(2)).
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use model::{Disk, HostError};

    use super::*;
    use crate::{Budget, Cancel, Limits, Tool};

    struct Endless;

    impl Disk for Endless {
        fn free_space(&self, _: &Path) -> Result<u64, HostError> {
            Ok(1 << 40)
        }

        fn write_out(&self, _: &Path) {}
    }

    struct Rig {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl Rig {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let budget = Budget::new(Arc::new(Endless), Limits::default());
            let store = Store::new(dir.path().join("images"), Vec::new(), budget, Tool::default());
            let rig = Self { dir, store };
            rig.write_init(0);
            rig
        }

        fn init(&self) -> PathBuf {
            self.dir.path().join("init")
        }

        /// A static executable without segments, and something that tells versions apart.
        fn write_init(&self, version: u8) {
            let mut elf = vec![0; 64];
            elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
            elf[18] = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
            elf.push(version);
            fs::write(self.init(), elf).unwrap();
        }

        fn make(&self, name: &str) -> String {
            let kernel = self.dir.path().join(name);
            if !kernel.exists() {
                fs::write(&kernel, name).unwrap();
            }
            let source = KernelSource::Files { kernel, modules: None };
            self.store.kernel(&source, &self.init(), &Cancel::default()).unwrap();
            self.store.kernel_key(&source, &self.init()).unwrap()
        }

        fn sweep(&self, init: Option<&Path>, used: &[&String]) -> u64 {
            let used = used.iter().map(|name| (*name).clone()).collect();
            self.store.sweep_kernels(init, || Some(used)).unwrap()
        }

        fn left(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path().join("images/kernels")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        }
    }

    fn sorted<const N: usize>(mut names: [String; N]) -> Vec<String> {
        names.sort();
        names.to_vec()
    }

    #[test]
    fn what_no_machine_uses_is_removed() {
        let rig = Rig::new();
        let (used, unused) = (rig.make("one"), rig.make("two"));
        let half = rig.dir.path().join("images/kernels/unfinished-1");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("kernel"), "half").unwrap();
        assert_eq!(rig.store.sweep_kernels(None, || None).unwrap(), 0);
        assert_eq!(rig.left().len(), 3, "without the machines nothing is known");
        assert!(rig.sweep(None, &[&used]) > 0);
        assert_eq!(rig.left(), [used]);
        assert_ne!(rig.left(), [unused]);
    }

    #[test]
    fn what_was_replaced_is_removed_and_what_is_current_stays() {
        let rig = Rig::new();
        let (running, other) = (rig.make("one"), rig.make("two"));
        // Another release of Handover.
        rig.write_init(1);
        let (one, two) = (rig.make("one"), rig.make("two"));
        let all = sorted([running.clone(), other, one.clone(), two.clone()]);
        assert_eq!(rig.left(), all);
        rig.sweep(Some(&rig.init()), &[&running]);
        assert_eq!(rig.left(), sorted([running.clone(), one.clone(), two]));
        // A kernel that was removed from the host.
        fs::remove_file(rig.dir.path().join("two")).unwrap();
        rig.sweep(Some(&rig.init()), &[&running]);
        assert_eq!(rig.left(), sorted([running, one]));
    }
}
