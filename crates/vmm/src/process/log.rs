//! Makes a VMM's output safe for a terminal.

/// The number of lines that are shown.
const LAST_LINES: usize = 3;

/// The number of characters that are shown.
const MOST_CHARACTERS: usize = 1000;

/// The last lines of a log, joined to one.
#[must_use]
pub fn last_lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    printable(&last.join("; "))
}

/// A text without control characters, and truncated.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MOST_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vmms_output_cannot_control_a_terminal() {
        assert_eq!(last_lines("\u{1b}[2Jbad\u{7}\n".lines()), "[2Jbad");
        assert_eq!(last_lines(std::iter::once("x".repeat(5000).as_str())).len(), MOST_CHARACTERS);
    }

    #[test]
    fn the_last_lines_are_shown() {
        assert_eq!(last_lines("a\nb\nc\n\nd\n".lines()), "b; c; d");
        assert_eq!(last_lines("\n".lines()), "");
    }
}
