//! Formatting for display.

use std::borrow::Cow;
use std::fmt::Write as _;

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

/// Shortens text to at most this many characters by what is in its middle.
#[must_use]
pub fn short_in_the_middle(text: &str, most: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= most {
        return text.into();
    }
    let kept = most.saturating_sub(1);
    let end = kept / 2;
    let start = text.chars().take(kept - end);
    start.chain(['…']).chain(text.chars().skip(count - end)).collect::<String>().into()
}

/// Whether a character controls a terminal (C0, DEL, C1), changes the order of text (bidi), or is invisible.
///
/// Unicode: the categories Cc, Cf, Zl and Zp, fillers that look like nothing, and selectors of variants without an emoji.
#[must_use]
pub const fn is_deceptive(letter: char) -> bool {
    matches!(letter,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}'
        | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Escapes deceptive characters as JSON does, such as `\u001b` and `\n`: text of others, for one line of a terminal.
///
/// A backslash itself is not escaped, so that names stay readable. Within a string of JSON the result is the same value.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_deceptive) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|letter| push_escaped(&mut out, letter));
    out.into()
}

/// Appends a character, escaped as by [`escaped`].
pub fn push_escaped(out: &mut String, letter: char) {
    match letter {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ if is_deceptive(letter) => {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
        _ => out.push(letter),
    }
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
    fn texts_are_cut_by_characters() {
        assert_eq!(short("größer", 6), "größer");
        assert_eq!(short("größer", 4), "grö…");
        assert_eq!(short("größer", 0), "…");
        assert_eq!(short_in_the_middle("größer", 6), "größer");
        assert_eq!(short_in_the_middle("größer", 5), "gr…er");
        assert_eq!(short_in_the_middle("größer", 4), "gr…r");
        assert_eq!(short_in_the_middle("größer", 1), "…");
        assert_eq!(short_in_the_middle("größer", 0), "…");
    }

    #[test]
    fn texts_of_others_control_no_terminal() {
        let shown = escaped("a\u{1b}[2J\u{7}\u{9b}1m\r\n\t\u{8}\u{202e}\u{200b}\u{7f}\u{e0041}z");
        let safe =
            "a\\u001b[2J\\u0007\\u009b1m\\r\\n\\t\\u0008\\u202e\\u200b\\u007f\\udb40\\udc41z";
        assert_eq!(shown, safe);
        let plain = r"dev-disk\x2did größer 日本 🚀 ├─ …";
        assert_eq!(escaped(plain), plain);
    }

    #[test]
    fn in_json_the_escapes_are_the_same_value() {
        let all: String = (char::MIN..=char::MAX).filter(|letter| is_deceptive(*letter)).collect();
        let json = serde_json::to_string(&all).unwrap();
        let shown = escaped(&json);
        assert!(!shown.chars().any(is_deceptive));
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), all);
    }
}
