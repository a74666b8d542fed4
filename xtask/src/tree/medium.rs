//! Targets for a generated host.

use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// Takes directories, files and links by their paths below the root.
pub trait Medium {
    /// A directory, with its parents.
    fn folder(&mut self, path: &str) -> io::Result<()>;
    /// A file in an existing directory.
    fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()>;
    /// A symbolic link.
    fn link(&mut self, path: &str, target: &str) -> io::Result<()>;
}

/// A directory.
pub struct Disk<'a>(pub &'a Path);

impl Medium for Disk<'_> {
    fn folder(&mut self, path: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.0.join(path))
    }

    fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        std::fs::write(self.0.join(path), content)
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        symlink(target, self.0.join(path))
    }
}

/// An archive in the format of a recording, not compressed, because that would take most of the time.
pub struct Archive<W: Write>(Builder<GzEncoder<W>>);

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub fn new(into: W) -> Self {
        Self(Builder::new(GzEncoder::new(into, Compression::none())))
    }

    /// Finishes the archive.
    pub fn finish(self) -> Result<()> {
        self.0.into_inner()?.finish()?;
        Ok(())
    }
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size as u64);
    header
}

impl<W: Write> Medium for Archive<W> {
    fn folder(&mut self, path: &str) -> io::Result<()> {
        let mut header = header(EntryType::Directory, 0o755, 0);
        self.0.append_data(&mut header, format!("{path}/"), io::empty())
    }

    fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut header = header(EntryType::Regular, 0o644, content.len());
        self.0.append_data(&mut header, path, content)
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, target)
    }
}
