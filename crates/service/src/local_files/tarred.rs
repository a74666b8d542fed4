//! Tar archives on standard input and output, as `docker cp` has them.

use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;

use api::CopyHeader;
use tar::{Archive, Builder, EntryType, Header};

use super::{LocalError, Packed, Part, Receiver, Sender, Unpacked, components, next, send};
use crate::local_files::pack::send_all;

/// Writes what comes as a tar archive, until the copy ends. Its paths begin with `name`, if there is one.
///
/// # Errors
/// See [`LocalError`].
pub fn unpack_tar(
    name: &str,
    out: impl Write,
    from: &mut Receiver,
) -> Result<Unpacked, LocalError> {
    let failed = |error| LocalError::Archive { action: "write", error };
    // Dropped, it would end the archive: one that breaks off must not look complete.
    let mut archive = ManuallyDrop::new(Builder::new(out));
    let mut done = Unpacked::default();
    loop {
        let header = match next(from)? {
            Part::End => break,
            Part::Data(_) => return Err(LocalError::Guest("contents without a file".into())),
            Part::Header(header) => header,
        };
        let parts = components(&header.path)?;
        let path: Vec<&str> =
            Some(name).filter(|name| !name.is_empty()).into_iter().chain(parts).collect();
        let path = if path.is_empty() { ".".to_owned() } else { path.join("/") };
        let mut entry = tar_header(&header);
        if header.is_symlink {
            archive.append_link(&mut entry, path, &header.link_target).map_err(failed)?;
        } else {
            let size = entry.size().unwrap_or(0);
            let mut contents = Contents { from, left: size, chunk: Vec::new(), at: 0 };
            archive.append_data(&mut entry, path, &mut contents).map_err(failed)?;
            done.bytes = done.bytes.saturating_add(size);
        }
        done.entries += 1;
    }
    ManuallyDrop::into_inner(archive)
        .into_inner()
        .and_then(|mut out| out.flush())
        .map_err(failed)?;
    Ok(done)
}

fn tar_header(header: &CopyHeader) -> Header {
    let mut entry = Header::new_gnu();
    entry.set_entry_type(match (header.is_dir, header.is_symlink) {
        (true, _) => EntryType::Directory,
        (_, true) => EntryType::Symlink,
        _ => EntryType::Regular,
    });
    entry.set_size(if header.is_dir || header.is_symlink { 0 } else { header.size });
    entry.set_mode(header.mode & 0o7777);
    entry.set_mtime(u64::try_from(header.mtime).unwrap_or(0));
    entry.set_uid(header.uid.into());
    entry.set_gid(header.gid.into());
    entry
}

/// The contents of a file, of exactly its size.
struct Contents<'a> {
    from: &'a mut Receiver,
    left: u64,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Contents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            if self.left == 0 {
                return Ok(0);
            }
            let Ok(Part::Data(data)) = next(self.from) else {
                return Err(io::Error::other("a file is shorter than the guest said"));
            };
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            if length == 0 || length > self.left {
                return Err(io::Error::other("a file is longer than the guest said"));
            }
            self.left -= length;
            (self.chunk, self.at) = (data, 0);
        }
        let mut rest = self.chunk.get(self.at..).unwrap_or_default();
        let length = rest.read(buffer)?;
        self.at += length;
        Ok(length)
    }
}

/// Sends what is in a tar archive. `owners` keeps owners.
///
/// # Errors
/// See [`LocalError`]: also a hard link or a device in it.
pub fn pack_tar(from: impl Read, owners: bool, to: &Sender) -> Result<Packed, LocalError> {
    let failed = || |error| LocalError::Archive { action: "read", error };
    let mut archive = Archive::new(from);
    let mut packed = Packed::default();
    for entry in archive.entries().map_err(failed())? {
        let mut entry = entry.map_err(failed())?;
        // It is about the archive (`git archive` writes one).
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let header = copy_header(&entry, owners)?;
        // The directory that the archive was made of (`./`): that of the destination stays as it is.
        if header.is_dir && header.path.is_empty() {
            continue;
        }
        let is_file = !header.is_dir && !header.is_symlink;
        send(to, Part::Header(header))?;
        if is_file {
            send_all(&mut entry, to, failed)?;
        }
        packed.entries += 1;
    }
    send(to, Part::End)?;
    Ok(packed)
}

fn copy_header<R: Read>(entry: &tar::Entry<'_, R>, owners: bool) -> Result<CopyHeader, LocalError> {
    let failed = || |error| LocalError::Archive { action: "read", error };
    let path = String::from_utf8(entry.path_bytes().into_owned());
    let path = path.map_err(|wrong| LocalError::Name(format!("{wrong:?}")))?;
    let no_copy = |what| LocalError::Tar { what, path: path.clone() };
    let (is_dir, is_symlink) = match entry.header().entry_type() {
        EntryType::Directory => (true, false),
        EntryType::Symlink => (false, true),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => (false, false),
        EntryType::Link => return Err(no_copy("the hard link")),
        _ => return Err(no_copy("a device, pipe or unknown entry")),
    };
    let inner = path.trim_start_matches("./");
    let parts = components(inner).map_err(|_| no_copy("a path that leaves the directory"))?;
    let target = entry.link_name_bytes().filter(|_| is_symlink).unwrap_or_default().into_owned();
    let target = String::from_utf8(target);
    let number = |number: io::Result<u64>| -> Result<u32, LocalError> {
        Ok(u32::try_from(number.map_err(failed())?).unwrap_or(0))
    };
    let header = entry.header();
    Ok(CopyHeader {
        path: parts.join("/"),
        mode: header.mode().map_err(failed())? & 0o7777,
        is_dir,
        is_symlink,
        link_target: target.map_err(|wrong| LocalError::Name(format!("{wrong:?}")))?,
        size: entry.size(),
        mtime: i64::try_from(header.mtime().map_err(failed())?).unwrap_or(i64::MAX),
        uid: if owners { number(header.uid())? } else { 0 },
        gid: if owners { number(header.gid())? } else { 0 },
    })
}
