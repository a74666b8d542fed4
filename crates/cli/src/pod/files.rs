//! Reads the files to convert.

use std::io::{self, Read as _};
use std::path::PathBuf;

use convert::input::{self, Document, MOST_BYTES};
use model::{Code, Mistakes, Refusal};

use super::warn;
use crate::failure::Failure;

/// A file's name for messages.
pub fn name(file: Option<&PathBuf>) -> String {
    match file {
        Some(file) if file.as_os_str() != "-" => file.display().to_string(),
        _ => "standard input".to_owned(),
    }
}

/// Reads a file's documents, and warns of ignored fields.
pub fn read(file: Option<&PathBuf>, strict: bool) -> Result<Vec<Document>, Failure> {
    let name = name(file);
    let refuse = Failure::to(format!("read {name}"));
    let bytes = match bytes(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            let remedy = "name a readable file, or - for standard input";
            return Err(refuse(Refusal::new(Code::InvalidRequest, error.to_string(), remedy)));
        }
    };
    let read = match str::from_utf8(&bytes) {
        Ok(text) => input::read(&name, text, strict),
        Err(error) => Err(Mistakes::not_utf8(&name, &bytes, error.valid_up_to())),
    };
    match read {
        Ok(input) => {
            input.notes.iter().for_each(|note| warn(note));
            Ok(input.documents)
        }
        Err(mistakes) => Err(refuse(mistakes_refused(&mistakes))),
    }
}

fn bytes(file: Option<&PathBuf>) -> io::Result<Vec<u8>> {
    // One byte more than allowed, to detect a file that is too large.
    let most = MOST_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    match file {
        Some(file) if file.as_os_str() != "-" => {
            std::fs::File::open(file)?.take(most).read_to_end(&mut bytes)?
        }
        _ => io::stdin().lock().take(most).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

fn mistakes_refused(mistakes: &Mistakes) -> Refusal {
    let count = mistakes.mistakes.len() + mistakes.more;
    let s = if count == 1 { "" } else { "s" };
    let indented: Vec<String> = mistakes
        .to_string()
        .lines()
        .map(|line| if line.is_empty() { String::new() } else { format!("    {line}") })
        .collect();
    Refusal::new(
        Code::InvalidRequest,
        format!("{count} mistake{s}\n\n{}\n", indented.join("\n")),
        "correct the mistakes above; docs/kubevirt.md describes the input",
    )
}
