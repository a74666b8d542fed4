//! Reads a devices file into a [`Catalog`]: ironcore's YAML that maps PCI functions to resources (JSON is YAML too).
//!
//! Wrong values and unknown keys are reported all at once; of syntax errors, only the first.

mod keys;
mod mistake;
mod raw;
mod validate;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use model::catalog::Catalog;
use model::{Code, Refusal};
use serde_saphyr::{Options, alias_limits, budget};

use keys::Keys;
use mistake::Marks;
pub use model::{Mistake, Mistakes};

/// The largest devices file in bytes: some ten thousand devices.
const MAX_BYTES: u32 = 1 << 20;

/// An error of a devices file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It cannot be read.
    #[error("cannot read the devices file {path}")]
    File {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is too large.
    #[error("the devices file {path} is larger than {MAX_BYTES} bytes")]
    TooLarge {
        /// Its path.
        path: PathBuf,
    },
    /// It has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

impl From<&CatalogError> for Refusal {
    fn from(error: &CatalogError) -> Self {
        let (message, remedy) = match error {
            CatalogError::File { source, .. } => (
                format!("{error}: {source}"),
                "name a readable file; `handover catalog suggest` prints one for this host",
            ),
            CatalogError::TooLarge { .. } => (error.to_string(), "name a devices file"),
            CatalogError::Mistakes(mistakes) => {
                let count = mistakes.mistakes.len() + mistakes.more;
                let s = if count == 1 { "" } else { "s" };
                (
                    format!("{count} mistake{s}\n\n{}\n", indented(&mistakes.to_string())),
                    "correct the mistakes above; docs/catalog.md describes the format",
                )
            }
        };
        Self::new(Code::InvalidCatalog, message, remedy)
    }
}

fn indented(text: &str) -> String {
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("    {line}") };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Reads the devices file at `path`.
///
/// # Errors
/// See [`CatalogError`].
pub fn load(path: &Path) -> Result<Catalog, CatalogError> {
    let file = |source| CatalogError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let most = u64::from(MAX_BYTES) + 1;
    File::open(path).map_err(file)?.take(most).read_to_end(&mut bytes).map_err(file)?;
    if bytes.len() > MAX_BYTES as usize {
        return Err(CatalogError::TooLarge { path: path.to_owned() });
    }
    let name = path.display().to_string();
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(read(&name, text)?),
        Err(error) => Err(Mistakes::not_utf8(&name, &bytes, error.valid_up_to()).into()),
    }
}

/// Reads the text of a devices file; `name` is its name in messages.
///
/// # Errors
/// All wrong values, or the first syntax error.
pub fn read(name: &str, text: &str) -> Result<Catalog, Mistakes> {
    let mut mistakes = Mistakes::new(name, text);
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(file) => {
            // The same text again: what was read above has no keys that it does not know.
            if let Ok(keys) = serde_saphyr::from_str_with_options::<Keys>(text, options()) {
                keys.check(&mut mistakes);
            }
            let catalog = validate::catalog(file, &mut mistakes);
            mistakes.none_or_err().map(|()| catalog)
        }
        Err(error) => Err(mistakes.form(&error)),
    }
}

/// Limits of a devices file: no deeper than `vendors`, `devices`, `addresses`, and no alias bombs.
fn options() -> Options {
    serde_saphyr::options! {
        budget: budget! {
            max_depth: 16,
            max_nodes: 200_000,
            max_events: 400_000,
            max_anchors: 100,
            max_aliases: 1000,
            max_documents: 1,
        },
        alias_limits: alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 1000,
        },
        with_snippet: false,
    }
}
