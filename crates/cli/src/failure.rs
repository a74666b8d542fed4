//! Failures of commands: what failed, why, what to do, and an exit status.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use model::shown::escaped;
use model::{Code, Refusal};

use crate::terminal::{self, several_lines};

/// A command that failed.
#[derive(Debug)]
pub enum Failure {
    /// An operation was refused.
    Refused {
        /// The action that failed, such as `register 0000:01:00.0`.
        action: String,
        /// Why, and what to do.
        refusal: Refusal,
    },
    /// The reader of standard output has closed it.
    Closed,
    /// The command succeeded, and its printed answer has an exit status of its own.
    Answered(u8),
}

/// The exit status of an answer with warnings in it.
pub const WARNINGS: u8 = 10;

/// The exit status of an answer that a hand-over is not possible.
pub const IMPOSSIBLE: u8 = 11;

/// The result of a command.
pub type Done = Result<(), Failure>;

impl Failure {
    /// Turns a refusal into the failure of an action.
    pub fn to(action: impl Into<String>) -> impl FnOnce(Refusal) -> Self {
        let action = action.into();
        move |refusal| Self::Refused { action, refusal }
    }

    /// Prints the failure and returns its exit status.
    pub fn report(self) -> ExitCode {
        let (action, refusal) = match self {
            Self::Refused { action, refusal } => (action, refusal),
            Self::Closed => return ExitCode::SUCCESS,
            Self::Answered(status) => return ExitCode::from(status),
        };
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let bold = Style::new().bold();
        let Refusal { code, message, remedy } = &refusal;
        let mut text = format!("{red}error:{red:#} cannot {} ({code})\n", escaped(&action));
        let _ = writeln!(text, "  {bold}why:{bold:#} {}", several_lines(message));
        if !remedy.is_empty() {
            let _ = writeln!(text, "  {bold}what to do:{bold:#} {}", several_lines(remedy));
        }
        // If standard error is closed, the exit status remains.
        terminal::report(&text);
        ExitCode::from(refusal.code.exit_status())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        Self::Refused {
            action: "print".to_owned(),
            refusal: Refusal::new(
                Code::Internal,
                error.to_string(),
                "check where standard output goes",
            ),
        }
    }
}

/// The table of exit statuses, for help and the manual.
pub fn exit_statuses() -> String {
    let mut codes: BTreeMap<u8, Vec<&str>> = BTreeMap::new();
    codes.entry(WARNINGS).or_default().push("done, with warnings");
    codes.entry(IMPOSSIBLE).or_default().push("done: handing over is not possible");
    for code in Code::ALL {
        codes.entry(code.exit_status()).or_default().push(code.as_str());
    }
    let mut text = "Exit status and error codes:\n    0  done".to_owned();
    for (status, codes) in codes {
        let _ = write!(text, "\n{status:>5}  {}", codes.join(", "));
    }
    text
}
