//! `handover record`: writes everything that Handover reads of a host to one file.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use host::record::{Contents, RecordError, Recording};
use model::shown::escaped;
use model::{Code, Refusal};
use tempfile::NamedTempFile;

use crate::failure::{Done, Failure};
use crate::source::Source;
use crate::{output, terminal};

/// Record everything that Handover reads of this host in one file, to inspect elsewhere
///
/// Serial numbers, MAC addresses, UUIDs, the host name and user names are replaced, consistently. A recording by root is
/// complete; one by another user has what that user may read. All reading commands accept it: handover ls --root FILE
#[derive(Debug, Args)]
pub struct Record {
    /// File to write; - for standard output [default: handover-DATE.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Overwrite an existing file
    #[arg(long)]
    force: bool,

    /// Do not replace serial numbers, MAC addresses, UUIDs and names
    #[arg(long)]
    keep_serials: bool,

    #[command(flatten)]
    source: Source,
}

impl Record {
    pub fn run(self) -> Done {
        let recording = Recording::make(&self.source.root, self.keep_serials);
        let recording = recording.map_err(|e| Failure::to("record")(self.refusal(&e)))?;
        if self.output.as_deref() == Some(Path::new("-")) {
            recording.write(io::BufWriter::new(terminal::raw()))?;
            // The recording is on standard output.
            terminal::report(&self.summary(&recording.contents));
            return Ok(());
        }
        let file = self.output.clone();
        let file = file.unwrap_or_else(|| format!("handover-{}.tar.gz", recording.day()).into());
        let size = save(&recording, &file, self.force)
            .map_err(|error| Failure::to("record")(unwritten(&file, &error)))?;
        let file = file.display();
        output::line(&format!("{file} ({})", model::shown::bytes(size)))?;
        output::text(&self.summary(&recording.contents))?;
        output::line(&format!("to inspect it: tar tzf {file}; handover ls --root {file}"))
    }

    fn refusal(&self, error: &RecordError) -> Refusal {
        match error {
            RecordError::Root { source, .. } => self.source.unreadable(source),
            other => self.source.unreadable(other),
        }
    }

    /// Describes what a recording contains.
    fn summary(&self, contents: &Contents) -> String {
        let mut text = format!(
            "contains: {}, {}, {}\n",
            count(contents.functions, "function", "functions"),
            count(contents.groups, "IOMMU group", "IOMMU groups"),
            count(contents.processes, "process", "processes"),
        );
        let replaced = contents.replaced.iter().map(|(private, number)| {
            let (one, many) = private.words();
            count(*number, one, many)
        });
        let replaced: Vec<String> = replaced.collect();
        let _ = match (self.keep_serials, replaced.is_empty()) {
            (true, _) => {
                writeln!(text, "replaced: nothing; contains serial numbers, addresses and names")
            }
            (false, true) => writeln!(text, "replaced: nothing; nothing private was read"),
            (false, false) => writeln!(text, "replaced: {}", replaced.join(", ")),
        };
        let forbidden = contents.forbidden.iter().map(|(name, number)| match number {
            1 => escaped(name).into_owned(),
            number => format!("{} ({number} times)", escaped(name)),
        });
        let mut unseen: Vec<String> = forbidden.collect();
        // A missing file in another host's tree says nothing about rights.
        if self.source.hides_users() {
            unseen.push("configuration space beyond 64 bytes".into());
            unseen.push("open files of other users' processes".into());
            let _ = writeln!(text, "not recorded without root: {}", unseen.join(", "));
        } else if !unseen.is_empty() {
            let _ = writeln!(text, "unreadable: {}", unseen.join(", "));
        }
        if !contents.silent.is_empty() {
            let silent: Vec<String> = contents.silent.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "did not respond, listed only: {}", silent.join(", "));
        }
        text
    }
}

/// Writes the file atomically; only its owner can read it.
fn save(recording: &Recording, file: &Path, force: bool) -> io::Result<u64> {
    // Avoids packing in vain; a file created meanwhile is detected below.
    if !force && file.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut written = NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    recording.write(io::BufWriter::new(written.as_file_mut()))?;
    written.as_file().sync_all()?;
    let size = written.as_file().metadata()?.len();
    if force { written.persist(file) } else { written.persist_noclobber(file) }
        .map_err(|error| error.error)?;
    Ok(size)
}

fn unwritten(file: &Path, error: &io::Error) -> Refusal {
    let path = file.display();
    if error.kind() == io::ErrorKind::AlreadyExists {
        let message = format!("{path} already exists");
        return Refusal::new(
            Code::AlreadyExists,
            message,
            "name another file with -o, or use --force",
        );
    }
    let message = format!("cannot write {path}: {error}");
    Refusal::new(Code::InvalidRequest, message, "name a writable file with -o")
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
