//! Reads a devices file, ironcore's YAML that says which PCI functions are which resource (JSON is YAML too), into a
//! [`Catalog`].
//!
//! All that is wrong with the values is told at once; where the form itself is broken, the first place where it is.

mod check;
mod mistake;
mod raw;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use model::catalog::Catalog;
use serde_saphyr::{Options, alias_limits, budget};

use mistake::Marks;
pub use model::{Mistake, Mistakes};

/// The most bytes of a devices file: some ten thousand devices.
const MOST_BYTES: u32 = 1 << 20;

/// Why a devices file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It cannot be read at all.
    #[error("cannot read the devices file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than any devices file.
    #[error("the devices file {path} has more than {MOST_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// What it says is wrong.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

/// Reads the devices file at `path`.
///
/// # Errors
/// As [`CatalogError`] tells.
pub fn load(path: &Path) -> Result<Catalog, CatalogError> {
    let file = |source| CatalogError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let most = u64::from(MOST_BYTES) + 1;
    File::open(path).map_err(file)?.take(most).read_to_end(&mut bytes).map_err(file)?;
    if bytes.len() > MOST_BYTES as usize {
        return Err(CatalogError::TooLarge { path: path.to_owned() });
    }
    let name = path.display().to_string();
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(read(&name, text)?),
        Err(error) => Err(Mistakes::not_utf8(&name, &bytes, error.valid_up_to()).into()),
    }
}

/// Reads the text of a devices file; `name` is the file's, for messages.
///
/// # Errors
/// All that is wrong with it, as far as it can be told at once.
pub fn read(name: &str, text: &str) -> Result<Catalog, Mistakes> {
    let mut mistakes = Mistakes::new(name, text);
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(file) => {
            let catalog = check::catalog(file, &mut mistakes);
            mistakes.none_or_err().map(|()| catalog)
        }
        Err(error) => Err(mistakes.form(&error)),
    }
}

/// Limits for what a devices file is made of: nothing nests deeper than `vendors`, `devices`, `addresses`, and aliases
/// are there for people, not for bombs.
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
