//! Formatting for display.

use std::borrow::Cow;

/// Formats a number of bytes.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut tenths = count.saturating_mul(10);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if tenths.is_multiple_of(10) || tenths >= 1000 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// Shortens text to at most this many characters.
#[must_use]
pub fn short(text: &str, most: usize) -> Cow<'_, str> {
    // A text has at most as many characters as bytes.
    if text.len() <= most || text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect::<String>().into()
}

/// Removes terminal control characters from text.
#[must_use]
pub fn plain(text: String) -> String {
    if text.chars().any(char::is_control) {
        return text.chars().filter(|c| !c.is_control()).collect();
    }
    text
}

/// Removes terminal control characters from text of several lines: line breaks and tabs stay.
#[must_use]
pub fn lines(text: String) -> String {
    let controls = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
    if text.contains(controls) {
        return text.chars().filter(|letter| !controls(*letter)).collect();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_a_person() {
        let shown = [0, 1023, 1024, 1536, 5 << 30, 300 << 30, u64::MAX].map(bytes);
        assert_eq!(shown[..6], ["0 B", "1023 B", "1 KB", "1.5 KB", "5 GB", "300 GB"]);
    }

    #[test]
    fn texts_are_cut_by_characters_and_steer_no_terminal() {
        assert_eq!(short("größer", 6), "größer");
        assert_eq!(short("größer", 4), "grö…");
        assert_eq!(short("größer", 0), "…");
        assert_eq!(plain("\u{1b}[2J".into()), "[2J");
        assert_eq!(lines("a:\n\t\u{1b}[2J\u{9b}b\r".into()), "a:\n\t[2Jb");
    }
}
