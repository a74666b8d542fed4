//! Printing to standard output and standard error.

use std::io::{self, BufWriter, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use model::shown;
use serde::Serialize;

use crate::failure::Done;

/// Prints a value as JSON: indented on a terminal, on one line otherwise.
pub fn json(value: &impl Serialize) -> Done {
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let written = if terminal {
        serde_json::to_writer_pretty(&mut out, value)
    } else {
        serde_json::to_writer(&mut out, value)
    };
    written.map_err(io::Error::from)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// The width of the terminal in characters; `None` if standard output is not a terminal.
pub fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Prints a line.
pub fn line(text: &str) -> Done {
    writeln!(anstream::stdout(), "{text}")?;
    Ok(())
}

/// Prints a line that a guest wrote. On a terminal its control characters are removed: they could control it.
pub fn guest_line(text: &str) -> Done {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        let plain: String = text.chars().filter(|c| *c == '\t' || !c.is_control()).collect();
        writeln!(out, "{plain}")?;
    } else {
        writeln!(out, "{text}")?;
    }
    out.flush()?;
    Ok(())
}

/// Prints named values, one per line; empty ones are omitted.
pub fn fields(fields: &[(&str, String)]) -> Done {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = anstream::stdout().lock();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "{name:width$}  {value}")?;
    }
    Ok(())
}

/// Prints a warning to standard error.
pub fn warning(text: &str) {
    let yellow = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
    // Warnings quote names in files of others.
    let text = shown::lines(text.to_owned());
    let text = format!("{yellow}warning:{yellow:#} {text}\n");
    // A closed standard error has no reader.
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// Formats tags for a table.
pub fn tags(tags: &api::Tags) -> String {
    let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}
