//! A host's files as one text, which is made to a recording and read.
//!
//! A line `@file PATH` begins a file, and its contents are all bytes up to the next such line; `@link PATH TARGET` is a link,
//! `@dir PATH` a directory, `@node PATH MAJOR MINOR` a character device and `@disk PATH MAJOR MINOR` a block device.

use std::collections::BTreeSet;

use host::LinuxHost;
use tar::{Builder, EntryType, Header};

use super::archive::zipped;

/// Words of such texts.
pub const WORDS: &[&str] = &[
    "\n@file ",
    "\n@link ",
    "\n@dir ",
    "\n@node ",
    "\n@disk ",
    "sys/bus/pci/devices/0000:01:00.0",
    "sys/",
    "proc/",
    "0000:01:00.0",
    "10000:e1:00.0",
    "../",
    "../../../",
    "0x10de\n",
    "0x030000\n",
    "0xffffffffffffffff",
    "none\n",
    "4294967295",
    "\n",
    " ",
    "\t",
    ",",
    ":",
    "-",
];

/// The host with these files; `None` if their archive is refused.
pub fn host(text: &[u8]) -> Option<LinuxHost> {
    let mut archive = Builder::new(Vec::new());
    let mut seen = BTreeSet::new();
    for part in entries(text) {
        let (line, content) = split(part);
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        let (Some(kind), Some(path)) = (words.next(), words.next()) else { continue };
        if !seen.insert(path.to_owned()) {
            continue;
        }
        // What cannot be in an archive is left out.
        let _ = append(&mut archive, kind, path, words, content);
    }
    LinuxHost::recording(zipped(&archive.into_inner().ok()?).as_slice()).ok()
}

fn append<'a>(
    archive: &mut Builder<Vec<u8>>,
    kind: &str,
    path: &str,
    mut words: impl Iterator<Item = &'a str>,
    content: &[u8],
) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
    match kind {
        "file" => {
            header.set_size(u64::try_from(content.len()).unwrap_or_default());
            archive.append_data(&mut header, path, content)
        }
        "link" => {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, path, words.next().unwrap_or_default())
        }
        "dir" => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, path, std::io::empty())
        }
        "node" | "disk" => {
            header.set_entry_type(if kind == "disk" { EntryType::Block } else { EntryType::Char });
            header.set_device_major(number())?;
            header.set_device_minor(number())?;
            archive.append_data(&mut header, path, std::io::empty())
        }
        _ => Ok(()),
    }
}

/// The parts that begin with `@` at the beginning of a line.
fn entries(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text.strip_prefix(b"@").unwrap_or(text);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.windows(2).position(|two| two == b"\n@");
        // The newline belongs to the contents.
        let (part, after) = end.map_or((rest, &b""[..]), |end| {
            (rest.get(..=end).unwrap_or_default(), rest.get(end + 2..).unwrap_or_default())
        });
        rest = after;
        Some(part)
    })
}

fn split(part: &[u8]) -> (&[u8], &[u8]) {
    let end = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
    (part.get(..end).unwrap_or_default(), part.get(end + 1..).unwrap_or_default())
}
