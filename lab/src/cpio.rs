//! Writes an initramfs: a cpio archive in the "newc" format (the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`). All files belong to root, regardless of who builds
//! it.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const SYMLINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;

/// An archive that is being written.
#[derive(Debug)]
pub struct Archive<W> {
    to: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(to: W) -> Self {
        Self { to, inode: 0 }
    }

    /// Adds a directory; its parents must have been added before.
    pub fn folder(&mut self, name: &str) -> Result<()> {
        Ok(self.member(name, DIRECTORY, &[])?)
    }

    /// Adds a file with these contents and permissions.
    pub fn data(&mut self, name: &str, permissions: u32, data: &[u8]) -> Result<()> {
        Ok(self.member(name, REGULAR | permissions, data)?)
    }

    /// Adds a copy of a file, executable if the original is.
    pub fn file(&mut self, name: &str, path: &Path) -> Result<()> {
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let executable = fs::metadata(path)?.permissions().mode() & 0o100 != 0;
        self.data(name, if executable { 0o755 } else { 0o644 }, &data)
    }

    /// Adds a directory as `name`, with everything below it.
    pub fn tree(&mut self, name: &str, path: &Path) -> Result<()> {
        self.folder(name)?;
        let listing =
            fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
        let mut entries = listing.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let inner = format!("{name}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&inner, &entry.path())?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path())?;
                self.member(&inner, SYMLINK, target.as_os_str().as_encoded_bytes())?;
            } else {
                self.file(&inner, &entry.path())?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<W> {
        self.inode = 0;
        self.member("TRAILER!!!", 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn member(&mut self, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let (ino, links, size) = (self.inode, 1, data.len());
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        write!(
            self.to,
            "070701{ino:08x}{mode:08x}{z:08x}{z:08x}{links:08x}{z:08x}{size:08x}{z:08x}{z:08x}{z:08x}{z:08x}{:08x}{z:08x}",
            name.len() + 1,
            z = 0
        )?;
        self.to.write_all(name.as_bytes())?;
        // The header (110 bytes) and the name with its final zero end on a multiple of four, and so do the data.
        let pad = |length: usize| (4 - length % 4) % 4;
        let zeros = [0_u8; 4];
        self.to.write_all(zeros.get(..1 + pad(110 + name.len() + 1)).unwrap_or(&zeros))?;
        self.to.write_all(data)?;
        self.to.write_all(zeros.get(..pad(size)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_aligned() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("a").unwrap();
        archive.data("a/b", 0o644, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        // 110 + "a\0" = 112, then the file's header and name "a/b\0" = 114, padded to 116.
        assert_eq!(&bytes[112..118], b"070701");
        assert_eq!(&bytes[112 + 116..112 + 116 + 5], b"hello");
    }
}
