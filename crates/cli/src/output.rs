//! Printing answers and warnings.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use model::shown::escaped;
use serde::Serialize;

use crate::connection::Connection;
use crate::failure::Done;
use crate::terminal;

/// Prints a value as JSON: indented on a terminal, on one line otherwise.
pub fn json(value: &impl Serialize) -> Done {
    let mut out = terminal::file();
    let written = if terminal::shows_output() {
        serde_json::to_writer_pretty(&mut out, value)
    } else {
        serde_json::to_writer(&mut out, value)
    };
    Ok(end_line(written, out)?)
}

/// Prints a value as JSON on one line.
pub fn json_line(value: &impl Serialize) -> Done {
    let mut out = terminal::file();
    let written = serde_json::to_writer(&mut out, value);
    Ok(end_line(written, out)?)
}

fn end_line(written: serde_json::Result<()>, mut out: impl io::Write) -> io::Result<()> {
    written?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints the text of a file.
pub fn file(text: &str) -> Done {
    Ok(terminal::print_file(&format!("{}\n", text.trim_end()))?)
}

/// Prints one line; a line end within it is escaped.
pub fn line(text: &str) -> Done {
    Ok(terminal::print(&format!("{}\n", escaped(text)))?)
}

/// Prints bytes as they are, with any control characters: only on request.
pub fn raw(bytes: &[u8]) -> Done {
    let mut out = terminal::raw();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints lines with styles. Values in them are already escaped.
pub fn text(text: &str) -> Done {
    Ok(terminal::print(&format!("{}\n", text.trim_end()))?)
}

/// Prints named values, one per line; empty ones are omitted.
pub fn fields(fields: &[(&str, String)]) -> Done {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .try_for_each(|(name, value)| line(&format!("{name:width$}  {value}")))
}

/// Prints in one line what was changed; nothing with `--json`, because the answer has no body.
pub fn changed(connection: &Connection, text: &str) -> Done {
    if connection.json() { Ok(()) } else { line(text) }
}

/// Prints one line to standard error; a line end within it is escaped.
pub fn note(text: &str) {
    terminal::note(text);
}

/// Prints a warning to standard error.
pub fn warning(text: &str) {
    let yellow = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
    let text = terminal::several_lines(text);
    terminal::report(&format!("{yellow}warning:{yellow:#} {text}\n"));
}

/// Formats tags for a table.
pub fn tags(tags: &api::Tags) -> String {
    let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}
