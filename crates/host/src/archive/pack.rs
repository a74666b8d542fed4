//! Writes a recording.

use std::fmt::Write as _;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::entries::{Entries, Entry, Kind};
use super::{CLAIMED, ERRORS, FACTS, Facts};

/// Writes an archive. The output is reproducible.
pub fn pack<W: Write>(entries: &Entries, facts: &Facts, into: W) -> io::Result<W> {
    let mut archive = Builder::new(GzEncoder::new(into, Compression::default()));
    own(&mut archive, FACTS, &format!("{}\n", serde_json::to_string_pretty(facts)?))?;
    own(&mut archive, ERRORS, &errors(entries))?;
    own(&mut archive, CLAIMED, &lines(entries.claimed.iter()))?;
    for (path, entry) in &entries.files {
        append(&mut archive, path, entry)?;
    }
    archive.into_inner()?.finish()
}

/// Appends a file of our own, unless it is empty.
fn own<W: Write>(archive: &mut Builder<W>, path: &str, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let kind = Kind::File(Some(text.as_bytes().to_vec()));
    append(archive, path, &Entry { kind, mode: 0o644, ..Entry::default() })
}

fn append<W: Write>(archive: &mut Builder<W>, path: &str, entry: &Entry) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(mode(entry));
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(0);
    header.set_size(0);
    match &entry.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, path, target)
        }
        Kind::File(content) => {
            let content = content.as_deref().unwrap_or_default();
            header.set_entry_type(EntryType::Regular);
            header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
            archive.append_data(&mut header, path, content)
        }
        Kind::Device { block, number } => {
            header.set_entry_type(if *block { EntryType::Block } else { EntryType::Char });
            header.set_device_major(number.0)?;
            header.set_device_minor(number.1)?;
            archive.append_data(&mut header, path, io::empty())
        }
        Kind::Other => {
            header.set_entry_type(EntryType::Fifo);
            archive.append_data(&mut header, path, io::empty())
        }
    }
}

/// The mode of an entry; 0 for a file that was not read.
fn mode(entry: &Entry) -> u32 {
    match entry.kind {
        Kind::File(None) => 0,
        // So that an unpacked tree can be removed.
        Kind::Directory => entry.mode | 0o700,
        _ => entry.mode,
    }
}

/// Lines `5 sys/devices/...`: the error number and the file that could not be read.
fn errors(entries: &Entries) -> String {
    let failed = |(path, entry): (&String, &Entry)| Some((entry.error?, path.clone()));
    entries.files.iter().filter_map(failed).fold(String::new(), |mut text, (errno, path)| {
        let _ = writeln!(text, "{} {path}", errno.raw_os_error());
        text
    })
}

fn lines<'a>(paths: impl Iterator<Item = &'a String>) -> String {
    paths.fold(String::new(), |text, path| text + path + "\n")
}
