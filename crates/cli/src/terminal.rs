//! The only way to standard output and standard error.
//!
//! Paths, names, console lines, error texts of a daemon and log lines can contain anything, but must not control the
//! terminal that shows them. Whatever is printed goes through [`print()`], [`print_file`], [`report`] or [`LogLines`]:
//! they pass line ends and our own styles, and escape the rest. A value is escaped with [`model::shown::escaped`] where
//! it becomes part of a line, so that it cannot fake lines or styles either. Clippy refuses other ways to print
//! (`clippy.toml`).
#![allow(clippy::disallowed_methods, reason = "the only place that prints")]

use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};

use model::shown::{escaped, is_deceptive, push_escaped};

/// Prints text to standard output.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(guarded(text).as_bytes())?;
    out.flush()
}

/// Prints a file's text (YAML, a script) to standard output as [`FileText`].
pub fn print_file(text: &str) -> io::Result<()> {
    let mut out = file();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Standard output for a file's text.
pub fn file() -> FileText<impl Write> {
    FileText { out: io::BufWriter::with_capacity(1 << 16, raw()) }
}

/// A file's text (JSON, YAML, a script), of which only line ends pass.
///
/// Within a quoted string of JSON or YAML an escaped character is the same value. Each write must be whole characters.
#[derive(Debug)]
pub struct FileText<W> {
    out: W,
}

impl<W: Write> Write for FileText<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        // Nearly every piece: a fraction of the cost of reading characters.
        if piece.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
            self.out.write_all(piece)?;
            return Ok(piece.len());
        }
        let text = std::str::from_utf8(piece).map_err(|_| io::ErrorKind::InvalidData)?;
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.out.write_all(b"\n")?;
            }
            self.out.write_all(escaped(line).as_bytes())?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Prints text to standard error.
pub fn report(text: &str) {
    // A closed standard error has no reader.
    let _ = anstream::stderr().write_all(guarded(text).as_bytes());
}

/// Prints one line to standard error; a line end within it is escaped.
pub fn note(text: &str) {
    report(&format!("{}\n", escaped(text)));
}

/// Standard output for what is no text for people, or is requested as it is.
pub fn raw() -> io::StdoutLock<'static> {
    io::stdout().lock()
}

/// Prints bytes to standard error as they are: only on request.
pub fn raw_error(bytes: &[u8]) {
    // A closed standard error has no reader.
    let _ = io::stderr().lock().write_all(bytes);
}

/// Makes a panic's message go through [`report`], too.
pub fn guard_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        report(&format!("thread '{}' {panic}\n", thread.name().unwrap_or("unnamed")));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            report(&format!("{trace}\n"));
        }
    }));
}

/// Whether standard output is a terminal.
pub fn shows_output() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub fn shows_errors() -> bool {
    io::stderr().is_terminal()
}

/// The width of the terminal in characters; `None` if standard output is not a terminal.
pub fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Clears the terminal.
pub fn clear() -> io::Result<()> {
    // To the top left, and erase all (ECMA-48: CUP, ED).
    raw().write_all(b"\x1b[H\x1b[2J")
}

/// Standard error for the output of another program.
pub fn child_output() -> io::Stderr {
    io::stderr()
}

/// Standard error for the log. Each write is one event, and becomes one line.
#[derive(Debug)]
pub struct LogLines<W> {
    out: W,
    styled: bool,
}

impl LogLines<io::Stderr> {
    /// The log's lines on standard error, with or without styles.
    pub fn new(styled: bool) -> Self {
        Self { out: io::stderr(), styled }
    }
}

impl<W: Write> Write for LogLines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text).replace('\n', "\\n");
        let line = if self.styled { guarded(&line) } else { escaped(&line) };
        self.out.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The text without what could control a terminal, apart from line ends and our styles.
fn guarded(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|letter| letter != '\n' && is_deceptive(letter)) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let taken = match letter {
            '\u{1b}' => style(rest).unwrap_or(0),
            '\n' => 1,
            _ => 0,
        };
        if taken > 0 {
            let (own, after) = rest.split_at(taken);
            out.push_str(own);
            rest = after;
        } else {
            push_escaped(&mut out, letter);
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        }
    }
    out.into()
}

/// The length of the style that the text starts with: one number of ECMA-48's SGR for weight or a dark colour, as
/// `anstyle`, clap and the log write it. None of these hides text.
fn style(text: &str) -> Option<usize> {
    let (number, _) = text.strip_prefix("\u{1b}[")?.split_once('m')?;
    matches!(number, "0" | "1" | "2" | "3" | "4" | "31" | "32" | "33" | "34" | "35" | "36")
        .then_some("\u{1b}[m".len() + number.len())
}

/// A text of several lines for below a heading: escaped, and no line after the first starts at the left.
pub fn several_lines(text: &str) -> String {
    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if index > 0 && !line.is_empty() && !line.starts_with(BELOW) {
            out.push_str(BELOW);
        }
        out.push_str(&escaped(line));
    }
    out
}

/// The least indent of further lines: more than that of the labels of an error.
const BELOW: &str = "    ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_line_ends_and_our_styles_pass() {
        let own = "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m text\n";
        assert_eq!(guarded(own), own);
        for (hostile, shown) in [
            ("\u{1b}]0;title\u{7}", "\\u001b]0;title\\u0007"),
            ("\u{1b}[2J", "\\u001b[2J"),
            ("\u{1b}[8m", "\\u001b[8m"),
            ("\u{1b}[1;31m", "\\u001b[1;31m"),
            ("\u{1b}[", "\\u001b["),
            ("\u{9b}2J", "\\u009b2J"),
            ("a\r\u{8}\tb", "a\\r\\u0008\\tb"),
            ("\u{202e}txt\u{2069}", "\\u202etxt\\u2069"),
        ] {
            assert_eq!(guarded(hostile), shown);
        }
    }

    #[test]
    fn only_line_ends_pass_in_a_file() {
        let mut file = FileText { out: Vec::new() };
        for piece in ["{\"a\": ", "\"\u{1b}[2Jä\u{9b}\u{202e}\n\r\"", "}\n"] {
            file.write_all(piece.as_bytes()).unwrap();
        }
        let text = String::from_utf8(file.out).unwrap();
        assert_eq!(text, "{\"a\": \"\\u001b[2Jä\\u009b\\u202e\n\\r\"}\n");
    }

    #[test]
    fn an_event_of_the_log_is_one_line() {
        let written = |styled, event: &[u8]| {
            let mut log = LogLines { out: Vec::new(), styled };
            log.write_all(event).unwrap();
            String::from_utf8(log.out).unwrap()
        };
        let event = b"\x1b[32m INFO\x1b[0m a\nerror: fake\x1b[2J\n";
        let styled = "\u{1b}[32m INFO\u{1b}[0m a\\nerror: fake\\u001b[2J\n";
        assert_eq!(written(true, event), styled);
        assert_eq!(written(false, event), styled.replace('\u{1b}', "\\u001b"));
        assert_eq!(written(true, b"raw \x9b\n"), "raw \u{fffd}\n");
    }

    #[test]
    fn further_lines_are_indented() {
        let text = "2 mistakes\n\n    a:1\nerror: fake\n  why: fake\r";
        let shown = "2 mistakes\n\n    a:1\n    error: fake\n      why: fake\\r";
        assert_eq!(several_lines(text), shown);
    }
}
