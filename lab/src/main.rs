//! `lab`: the lab's commands. They are implemented in the library.

mod cli;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            // Like `env` and `timeout`: a failure of the lab, not of the command.
            ExitCode::from(125)
        }
    }
}
