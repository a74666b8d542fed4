//! A guest's console file, read as lines of bytes: a guest can write anything.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The size of a read.
const CHUNK: usize = 64 << 10;

/// A longer line is split.
const LONGEST_LINE: usize = 64 << 10;

/// The maximum that is searched for the last lines.
const LONGEST_TAIL: u64 = 4 << 20;

/// A console file that is being read.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
    file: Option<File>,
    offset: u64,
    partial: Vec<u8>,
}

impl Console {
    /// The console in this file, from `tail` lines before its end. The file need not exist yet.
    ///
    /// # Errors
    /// The file is not a regular file, or cannot be read.
    pub fn open(path: PathBuf, tail: u64) -> io::Result<Self> {
        let mut console = Self { path, file: None, offset: 0, partial: Vec::new() };
        if console.is_open()? {
            console.offset = console.last_lines(tail)?;
        }
        Ok(console)
    }

    /// Some of the lines written since the last call, with their line ends; `None` if there are none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn lines(&mut self) -> io::Result<Option<Vec<Vec<u8>>>> {
        if !self.is_open()? {
            return Ok(None);
        }
        let Some(file) = &self.file else { return Ok(None) };
        if file.metadata()?.len() < self.offset {
            // Truncated because it had become too long.
            self.offset = 0;
            self.partial.clear();
        }
        let mut chunk = vec![0; CHUNK];
        let read = file.read_at(&mut chunk, self.offset)?;
        if read == 0 {
            return Ok(None);
        }
        self.offset += read as u64;
        self.partial.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let mut lines = Vec::new();
        while let Some(end) = self.line_end() {
            lines.push(self.partial.drain(..end).collect());
        }
        Ok(Some(lines))
    }

    /// The last line, if it has no line end.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then_some(rest)
    }

    fn line_end(&self) -> Option<usize> {
        let end = self.partial.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        end.or_else(|| (self.partial.len() > LONGEST_LINE).then_some(LONGEST_LINE))
    }

    /// Opens the file if it exists. The machine's user owns its directory: a link or a pipe in its place would make
    /// root read files that the user may not, or block for ever.
    fn is_open(&mut self) -> io::Result<bool> {
        if self.file.is_none() {
            self.file = open_plain(&self.path)?;
        }
        Ok(self.file.is_some())
    }

    /// The offset of the last lines.
    fn last_lines(&self, count: u64) -> io::Result<u64> {
        let Some(file) = &self.file else { return Ok(0) };
        let length = file.metadata()?.len();
        let lowest = length.saturating_sub(LONGEST_TAIL);
        let mut found = 0;
        let mut line_end = length;
        let mut end = length;
        while end > lowest {
            let begin = end.saturating_sub(CHUNK as u64).max(lowest);
            let mut chunk = vec![0; usize::try_from(end - begin).unwrap_or(CHUNK)];
            match file.read_exact_at(&mut chunk, begin) {
                // Truncated meanwhile because it had become too long.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => read?,
            }
            for (index, byte) in chunk.iter().enumerate().rev() {
                let at = begin + index as u64;
                // A line end at the very end starts no new line. A line that is too long is split.
                let start = match byte {
                    b'\n' if at + 1 < length => at + 1,
                    _ if line_end - at >= LONGEST_LINE as u64 => at,
                    _ => continue,
                };
                (found, line_end) = (found + 1, start);
                if found == count {
                    return Ok(start);
                }
            }
            end = begin;
        }
        Ok(if count == 0 { length } else { lowest })
    }
}

fn open_plain(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::other("not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A line as text, without its line end. What is not UTF-8 is replaced.
#[must_use]
pub fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(console: &mut Console) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(lines) = console.lines().unwrap() {
            all.extend(lines.iter().map(|line| text(line)));
        }
        all
    }

    #[test]
    fn a_console_without_line_ends_is_split() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        std::fs::write(&path, vec![b'x'; 5 * LONGEST_LINE]).unwrap();
        for tail in [1, 2] {
            let mut console = Console::open(path.clone(), tail).unwrap();
            let mut read = 0;
            while let Some(lines) = console.lines().unwrap() {
                read += lines.concat().len();
            }
            read += console.rest().map_or(0, |rest| rest.len());
            assert_eq!(read as u64, tail * LONGEST_LINE as u64);
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        std::fs::write(&path, b"50 %\r100 %\r\n\xff\xfe\n").unwrap();
        let mut console = Console::open(path, 10).unwrap();
        let lines = console.lines().unwrap().unwrap();
        assert_eq!(lines, [&b"50 %\r100 %\r\n"[..], b"\xff\xfe\n"]);
        assert_eq!(text(&lines[0]), "50 %\r100 %");
    }

    #[test]
    fn the_last_lines_then_what_follows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        let mut early = Console::open(path.clone(), 10).unwrap();
        assert_eq!(early.lines().unwrap(), None);
        std::fs::write(&path, "one\r\ntwo\nthree\nfo").unwrap();
        let mut console = Console::open(path.clone(), 2).unwrap();
        assert_eq!(all(&mut console), ["three"]);
        assert_eq!(all(&mut early), ["one", "two", "three"]);
        std::fs::write(&path, "one\r\ntwo\nthree\nfour\n").unwrap();
        assert_eq!(all(&mut console), ["four"]);
        assert_eq!(console.rest(), None);
        // Truncated.
        std::fs::write(&path, "again").unwrap();
        assert_eq!(all(&mut console), [""; 0]);
        assert_eq!(console.rest().as_deref(), Some(&b"again"[..]));
        assert_eq!(all(&mut Console::open(path, 0).unwrap()), [""; 0]);
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(Console::open(path, 10).is_err());
    }
}
