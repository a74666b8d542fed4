//! `lab`: the lab's commands. All that they do is in the library.

mod cli;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            // As `env` and `timeout` do it: a failure of ours, not of the command.
            ExitCode::from(125)
        }
    }
}
