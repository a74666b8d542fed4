//! `handover completions` and `handover man`, for packagers.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;
use model::{Code, Refusal};

use crate::failure::{Done, Failure};
use crate::terminal;

/// Print shell completions
#[derive(Debug, Args)]
pub struct Completions {
    /// Shell
    shell: Shell,
}

/// Write the manual pages
#[derive(Debug, Args)]
pub struct Man {
    /// Directory to write to
    directory: PathBuf,
}

impl Completions {
    pub fn run(self) -> Done {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut crate::command(), "handover", &mut text);
        std::io::Write::write_all(&mut terminal::raw(), &text)?;
        Ok(())
    }
}

impl Man {
    pub fn run(self) -> Done {
        let written = std::fs::create_dir_all(&self.directory)
            .and_then(|()| clap_mangen::generate_to(crate::command(), &self.directory));
        written.map_err(|error| {
            Failure::to("write the manual pages")(Refusal::new(
                Code::InvalidRequest,
                format!("{}: {error}", self.directory.display()),
                "name a writable directory",
            ))
        })
    }
}
