//! `handover record`: everything that is read of a host, in one file.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use host::record::{Contents, RecordError, Recording};
use model::{Code, Refusal};
use tempfile::NamedTempFile;

use crate::failure::{Done, Failure};
use crate::source::Source;

/// Write all that Handover reads of this host into one file, to look at elsewhere
///
/// Serial numbers, MAC addresses, UUIDs, the host's name and users' names are replaced, the same by the same. Made by
/// root it has everything; by others, what they may read. Every reading command reads it: handover ls --root FILE
#[derive(Debug, Args)]
pub struct Record {
    /// The file; - is standard output [default: handover-DATE.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace a file that is there
    #[arg(long)]
    force: bool,

    /// Keep serial numbers, MAC addresses, UUIDs and names as they are
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
            recording.write(io::BufWriter::new(io::stdout().lock()))?;
            // Standard output has the recording.
            let text = self.summary(&recording.contents);
            anstream::eprint!("{text}");
            return Ok(());
        }
        let file = self.output.clone();
        let file = file.unwrap_or_else(|| format!("handover-{}.tar.gz", recording.day()).into());
        let size = save(&recording, &file, self.force)
            .map_err(|error| Failure::to("record")(unwritten(&file, &error)))?;
        let mut text = format!("{} ({})\n", file.display(), model::shown::bytes(size));
        text += &self.summary(&recording.contents);
        let file = file.display();
        let _ = write!(text, "to look into it: tar tzf {file}; handover ls --root {file}");
        crate::output::line(&text)
    }

    fn refusal(&self, error: &RecordError) -> Refusal {
        match error {
            RecordError::Root { source, .. } => self.source.unreadable(source),
            other => self.source.unreadable(other),
        }
    }

    /// What a recording contains, for a person.
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
                writeln!(text, "replaced: nothing; it has serial numbers, addresses and names")
            }
            (false, true) => writeln!(text, "replaced: nothing, for nothing private was read"),
            (false, false) => writeln!(text, "replaced: {}", replaced.join(", ")),
        };
        let forbidden = contents.forbidden.iter().map(|(name, number)| match number {
            1 => name.clone(),
            number => format!("{name} ({number} times)"),
        });
        let mut unseen: Vec<String> = forbidden.collect();
        // Another host's tree lacks what it lacks.
        if self.source.root == Path::new("/") && !rustix::process::geteuid().is_root() {
            unseen.push("configuration space beyond 64 bytes".into());
            unseen.push("open files of other users' processes".into());
            let _ = writeln!(text, "not seen without root: {}", unseen.join(", "));
        } else if !unseen.is_empty() {
            let _ = writeln!(text, "could not be read: {}", unseen.join(", "));
        }
        if !contents.silent.is_empty() {
            let silent: Vec<String> = contents.silent.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "did not answer, so only listed: {}", silent.join(", "));
        }
        text
    }
}

/// Writes the file as a whole or not at all; only its owner can read it.
fn save(recording: &Recording, file: &Path, force: bool) -> io::Result<u64> {
    // Before it is packed for nothing; whoever makes the file meanwhile is found below.
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
        let message = format!("{path} is there already");
        return Refusal::new(Code::InvalidRequest, message, "give another name by -o, or --force");
    }
    let message = format!("{path} cannot be written: {error}");
    Refusal::new(Code::InvalidRequest, message, "give a file that you can write by -o")
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
