//! Files of an image that are on this host: in a directory, or in a tar archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::ContainerError;
use super::manifest::MOST_BYTES;
use crate::layers::{Archive, EntryKind};
use crate::{ImageError, Source};

/// The most files of an archive of an image.
const MOST_FILES: usize = 10_000;

/// Named files.
pub enum Folder {
    /// A directory below one of the import directories.
    Dir {
        /// The directory.
        dir: PathBuf,
        /// The import directories.
        import_dirs: Vec<PathBuf>,
    },
    /// A tar archive.
    Archive {
        /// The archive.
        file: File,
        /// Its files.
        index: HashMap<Vec<u8>, Place>,
        /// Its path.
        path: PathBuf,
    },
}

/// Where a file is in an archive.
#[derive(Clone, Debug)]
pub enum Place {
    /// Its data.
    At(u64, u64),
    /// A symbolic link to it.
    Link(Vec<u8>),
}

impl Folder {
    /// Reads the index of an archive.
    pub fn archive(
        source: &Source,
        import_dirs: &[PathBuf],
        kind: &'static str,
    ) -> Result<Self, ImageError> {
        let file = source.open(import_dirs)?;
        let path = source.path().to_owned();
        let bad = |problem: String| ContainerError::BadPlace {
            place: path.display().to_string(),
            kind,
            problem,
        };
        let reader = file.try_clone().map_err(|error| ImageError::io("read", &path, error))?;
        let mut archive = Archive::new(reader);
        let mut index = HashMap::new();
        while let Some(entry) = archive.next().map_err(|problem| bad(compressed(&file, problem)))? {
            let (inner, rest) = archive.leave();
            let at = inner.stream_position();
            let at = at.map_err(|error| ImageError::io("read", &path, error))?;
            let place = match entry.kind {
                EntryKind::File => Some(Place::At(at, entry.size)),
                EntryKind::Symlink => Some(Place::Link(entry.link)),
                _ => None,
            };
            if let Some(place) = place {
                index.insert(plain(&entry.path, b""), place);
            }
            if index.len() > MOST_FILES {
                return Err(bad(format!("it has more than {MOST_FILES} files")).into());
            }
            let rest = i64::try_from(rest).unwrap_or(i64::MAX);
            let skipped = inner.seek(SeekFrom::Current(rest));
            skipped.map_err(|error| ImageError::io("read", &path, error))?;
        }
        Ok(Self::Archive { file, index, path })
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        match self {
            Self::Dir { dir, .. } => dir.display().to_string(),
            Self::Archive { path, .. } => path.display().to_string(),
        }
    }

    /// Opens a file, if it is there.
    pub fn open(&self, name: &str) -> Result<Option<Box<dyn Read>>, ImageError> {
        match self {
            Self::Dir { dir, import_dirs } => {
                match Source::Below(dir.join(name)).open(import_dirs) {
                    Ok(file) => Ok(Some(Box::new(file))),
                    Err(ImageError::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Self::Archive { file, index, path } => {
                let mut name = plain(name.as_bytes(), b"");
                // A link of docker's old archives leads to the same layer of another image.
                for _ in 0..4 {
                    match index.get(&name) {
                        Some(Place::At(at, length)) => {
                            let file = file.try_clone();
                            let file = file.map_err(|error| ImageError::io("read", path, error))?;
                            return Ok(Some(Box::new(Part { file, at: *at, left: *length })));
                        }
                        Some(Place::Link(target)) => name = plain(target, &name),
                        None => return Ok(None),
                    }
                }
                Ok(None)
            }
        }
    }

    /// Reads a small file.
    pub fn small(&self, name: &str, what: &'static str) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| ImageError::io("read", Path::new(&self.name()).join(name), error))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(super::manifest::refused(what, "it is larger than 4 MB".to_owned()).into());
        }
        Ok(Some(bytes))
    }
}

/// A part of a file.
struct Part {
    file: File,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(buffer.get_mut(..most).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// A path without `.` and `..`; beside `from`.
fn plain(path: &[u8], from: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = from.split(|byte| *byte == b'/').collect();
    parts.pop();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// What is wrong with an archive; a compressed one is named.
fn compressed(file: &File, problem: crate::LayerProblem) -> String {
    let mut start = [0; 6];
    let _ = file.read_at(&mut start, 0);
    match start {
        [0x1f, 0x8b, ..] => "it is compressed with gzip; decompress it first: `gunzip FILE`".into(),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "it is compressed with zstd; decompress it first: `zstd -d FILE`".into()
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            "it is compressed with xz; decompress it first: `unxz FILE`".into()
        }
        _ => problem.to_string(),
    }
}
