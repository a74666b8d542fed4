//! The cache of built images: one directory per entry, named by a hash of all its inputs.
//!
//! An entry is built in a temporary directory and renamed, so that it is complete or absent. Two labs that start at the
//! same time build it once: the second waits for the lock of the first.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

/// An entry that was unused for this time is removed when another of its kind is built.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The lab's directory in the user's cache directory.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache in `$XDG_CACHE_HOME`, or else `~/.cache`, and creates what is missing.
    pub fn open() -> Result<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => PathBuf::from(
                std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?,
            )
            .join(".cache"),
        };
        let root = base.join("handover-lab");
        for dir in ["locks", "tmp"] {
            fs::create_dir_all(root.join(dir))
                .with_context(|| format!("cannot create the cache in {}", root.display()))?;
        }
        Ok(Self { root })
    }

    /// The cache's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of an entry, whether it exists or not.
    pub fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.kind).join(key.hash())
    }

    /// The entry, if it is built.
    pub fn find(&self, key: &Key) -> Option<PathBuf> {
        let path = self.path(key);
        // Its modification time is the time of its last use.
        File::open(&path).and_then(|dir| dir.set_modified(SystemTime::now())).ok()?;
        Some(path)
    }

    /// The entry, built by `build` in an empty directory if it is missing.
    pub fn entry(&self, key: &Key, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        if let Some(path) = self.find(key) {
            return Ok(path);
        }
        let _lock = self.lock(key.kind)?;
        let path = self.path(key);
        if path.is_dir() {
            return Ok(path);
        }
        self.sweep(key.kind);
        let work = tempfile::Builder::new()
            .prefix(&format!("{}-", key.kind))
            .tempdir_in(self.root.join("tmp"))?;
        build(work.path()).with_context(|| format!("while building the lab's {}", key.kind))?;
        fs::create_dir_all(self.root.join(key.kind))?;
        fs::rename(work.keep(), &path)?;
        // Unpacking a package can change the directory's modification time; `find` sets it to now.
        let path = self.find(key).context("the new entry is gone")?;
        self.expire(key.kind);
        Ok(path)
    }

    /// Removes unused entries of this kind. A running lab has its files open.
    fn expire(&self, kind: &str) {
        for entry in fs::read_dir(self.root.join(kind)).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|m| m.modified()).map(|time| time.elapsed());
            if age.is_ok_and(|age| age.is_ok_and(|age| age > LIFETIME)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Removes the remains of an interrupted build; call it with the kind's lock held.
    fn sweep(&self, kind: &str) {
        let prefix = format!("{kind}-");
        for entry in fs::read_dir(self.root.join("tmp")).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Takes the lock with this name, until the returned file is dropped.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.root.join("locks").join(name);
        let file =
            File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("lab: waiting for another lab that is building {name}");
            flock(&file, FlockOperation::LockExclusive)?;
        }
        Ok(file)
    }
}

/// The key of an entry: its kind, and a hash of all its inputs.
///
/// The code that builds it is not part of the hash: when it changes, change the version text in the key, or the cached
/// entry stays in use.
#[derive(Debug, Clone)]
pub struct Key {
    kind: &'static str,
    hasher: Sha256,
}

impl Key {
    /// A key for an entry of this kind, with no inputs yet.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, hasher: Sha256::new() }
    }

    /// Adds a text, with its length, so that two inputs never read as one.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.hasher.update((text.len() as u64).to_le_bytes());
        self.hasher.update(text.as_bytes());
        self
    }

    /// Adds another entry, by the name of its directory, which is a hash of its inputs.
    #[must_use]
    pub fn part(self, entry: &Path) -> Self {
        let name = entry.file_name().map(|n| n.to_string_lossy().into_owned());
        self.text(&name.unwrap_or_default())
    }

    /// Adds the contents of a file, or the names and contents of all files below a directory.
    pub fn source(self, path: &Path) -> Result<Self> {
        let mut files = Vec::new();
        list_files(path, &mut files)?;
        files.sort();
        files.into_iter().try_fold(self, |key, file| {
            let data =
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
            let mut key = key.text(&name);
            key.hasher.update((data.len() as u64).to_le_bytes());
            key.hasher.update(&data);
            Ok(key)
        })
    }

    fn hash(&self) -> String {
        let digest = self.hasher.clone().finalize();
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn list_files(path: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        let entry = entry?;
        // Hidden files, such as editors' backups, are not sources.
        if !entry.file_name().to_string_lossy().starts_with('.') {
            list_files(&entry.path(), into)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_do_not_run_together() {
        assert_ne!(
            Key::new("k").text("ab").text("c").hash(),
            Key::new("k").text("a").text("bc").hash()
        );
    }

    #[test]
    fn a_changed_source_changes_the_key() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "1").unwrap();
        let before = Key::new("k").source(dir.path()).unwrap().hash();
        fs::write(dir.path().join("a"), "2").unwrap();
        assert_ne!(before, Key::new("k").source(dir.path()).unwrap().hash());
    }

    fn empty(dir: &Path) -> Cache {
        for sub in ["locks", "tmp"] {
            fs::create_dir(dir.join(sub)).unwrap();
        }
        Cache { root: dir.to_owned() }
    }

    #[test]
    fn an_unused_entry_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = empty(dir.path());
        let old = Key::new("thing").text("old");
        let long_ago = SystemTime::now() - 2 * LIFETIME;
        let age = |dir: &Path| File::open(dir).unwrap().set_modified(long_ago).unwrap();
        let path = cache
            .entry(&old, |work| {
                age(work);
                Ok(())
            })
            .unwrap();
        assert!(path.exists(), "a build's old modification time is not its age");
        age(&path);
        cache.entry(&Key::new("thing").text("new"), |_| Ok(())).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn an_entry_whose_build_fails_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let cache = empty(dir.path());
        let key = Key::new("thing").text("x");
        assert!(cache.entry(&key, |_| anyhow::bail!("no")).is_err());
        assert!(cache.find(&key).is_none());
        let made = cache.entry(&key, |work| Ok(fs::write(work.join("f"), "y")?)).unwrap();
        assert_eq!(fs::read_to_string(made.join("f")).unwrap(), "y");
    }
}
