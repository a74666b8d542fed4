//! Mistakes in a file that a user wrote: the position, the source line with a marker, and the fix.

use std::fmt;

use serde::Serialize;

use crate::shown;

/// The most characters of a source line that are shown.
const WIDEST: usize = 120;

/// The most mistakes that are reported per file.
const MAX_SHOWN: usize = 50;

/// All mistakes of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistakes {
    /// The file's name.
    pub file: String,
    /// The mistakes, in the order of the file.
    pub mistakes: Vec<Mistake>,
    /// The number of mistakes left out.
    pub more: usize,
    #[serde(skip)]
    lines: Vec<String>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The line, from 1; 0 means the whole file.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// The length of the marked text in characters.
    pub width: u32,
    /// The source line.
    pub source: String,
    /// The problem.
    pub problem: String,
    /// The fix.
    pub remedy: String,
}

/// A span of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextSpan {
    /// The line, from 1; 0 means the whole text.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// The length in characters.
    pub width: u32,
}

impl Mistakes {
    /// An empty list for this text.
    #[must_use]
    pub fn new(file: &str, text: &str) -> Self {
        // A lone `\r` also ends a line (YAML 1.2.2, 5.4); the parser counts the same way.
        let text = text.replace("\r\n", "\n");
        let lines = text.split(['\n', '\r']).map(ToOwned::to_owned).collect();
        Self { file: file.to_owned(), mistakes: Vec::new(), more: 0, lines }
    }

    /// Adds a mistake.
    pub fn add(&mut self, at: TextSpan, problem: impl Into<String>, remedy: impl Into<String>) {
        if self.mistakes.len() == MAX_SHOWN {
            self.more += 1;
            return;
        }
        let TextSpan { line, .. } = at;
        let source = self.lines.get((line as usize).wrapping_sub(1)).cloned().unwrap_or_default();
        let column = at.column.max(1);
        let rest = source.chars().count().saturating_sub(column as usize - 1);
        // A span of several lines is marked to the end of its first line.
        let width = u32::try_from((at.width as usize).min(rest).max(1)).unwrap_or(1);
        // They quote the file.
        let (problem, remedy) = (shown::plain(problem.into()), shown::plain(remedy.into()));
        self.mistakes.push(Mistake { line, column, width, source, problem, remedy });
    }

    /// Returns the mistakes, if any, sorted by position.
    ///
    /// # Errors
    /// If there are mistakes.
    pub fn none_or_err(mut self) -> Result<(), Self> {
        self.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        if self.mistakes.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The mistake of a file that is not UTF-8 after its first `valid` bytes.
    #[must_use]
    pub fn not_utf8(file: &str, bytes: &[u8], valid: usize) -> Self {
        let before = bytes.get(..valid).unwrap_or_default();
        let text = String::from_utf8_lossy(before);
        let line = text.matches('\n').count() + 1;
        let source = text.rsplit('\n').next().unwrap_or_default().to_owned();
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let mistake = Mistake {
            line: narrow(line),
            column: narrow(source.chars().count() + 1),
            width: 1,
            source,
            problem: "the file is not valid UTF-8 from here on".to_owned(),
            remedy: "save it as UTF-8".to_owned(),
        };
        Self { file: file.to_owned(), mistakes: vec![mistake], more: 0, lines: Vec::new() }
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    /// Each mistake in the style of compilers, separated by empty lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            mistake.show(&self.file, f)?;
        }
        if self.more > 0 {
            write!(f, "\n\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl Mistake {
    fn show(&self, file: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, problem, remedy, .. } = self;
        if *line == 0 {
            return write!(f, "{file}: {problem}; {remedy}");
        }
        let (shown, before, width) = self.excerpt();
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{file}:{line}:{column}: {problem}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {shown}")?;
        write!(f, "{margin} | {}{} {remedy}", " ".repeat(before), "^".repeat(width))
    }

    /// The visible part of the source line, the characters before the marker, and the marker's length.
    fn excerpt(&self) -> (String, usize, usize) {
        let before = self.column as usize - 1;
        let start = if before > WIDEST - 20 { before - 20 } else { 0 };
        // Tabs and control characters would move the marker, or control the terminal.
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        let shown: String = self.source.chars().skip(start).take(WIDEST).map(plain).collect();
        let before = before - start;
        let width = (self.width as usize).min(WIDEST.saturating_sub(before)).max(1);
        (shown.trim_end().to_owned(), before, width)
    }
}
