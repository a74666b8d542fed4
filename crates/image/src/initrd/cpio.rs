//! Writes a cpio archive in the "newc" format (the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`).
//! All files belong to root and have no time, so that equal contents give equal archives.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

/// An archive that is being written.
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
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        self.member(name, DIRECTORY, (0, 0), &[])
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, permissions: u32, data: &[u8]) -> io::Result<()> {
        self.member(name, REGULAR | permissions, (0, 0), data)
    }

    /// Adds a character device.
    pub fn character_device(
        &mut self,
        name: &str,
        permissions: u32,
        number: (u32, u32),
    ) -> io::Result<()> {
        self.member(name, CHARACTER | permissions, number, &[])
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.member("TRAILER!!!", 0, (0, 0), &[])?;
        self.to.flush()
    }

    fn member(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let too_long = |_| io::Error::other("a member of the archive is 4 GiB or longer");
        let size = u32::try_from(data.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        let mut header = String::from("070701");
        let (major, minor) = device;
        // inode, mode, uid, gid, links, time, size, device (2), number of a device file (2), length of the name, checksum
        for field in [self.inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            header.push_str(&format!("{field:08X}"));
        }
        self.to.write_all(header.as_bytes())?;
        self.to.write_all(name.as_bytes())?;
        self.to.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.to.write_all(data)?;
        self.pad(data.len())
    }

    /// Everything begins at a multiple of four bytes.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = [0; 3];
        let missing = written.next_multiple_of(4) - written;
        self.to.write_all(zeros.get(..missing).unwrap_or_default())
    }
}
