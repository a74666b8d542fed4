//! Patterns of aliases, as the shell has them: `*`, `?` and `[...]`.

/// Whether a text matches. Each `*` is tried once at each place, so the time is bounded by the product of the lengths.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let one = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => class(pattern, p, text.get(t).copied()),
            Some(byte) => (text.get(t) == Some(byte)).then_some(p + 1),
            None => None,
        };
        match (one, star) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Where the pattern continues after a class that has this byte.
fn class(pattern: &[u8], at: usize, byte: Option<u8>) -> Option<usize> {
    let byte = byte?;
    let length = pattern.get(at..)?.iter().position(|byte| *byte == b']')?;
    let mut members = pattern.get(at + 1..at + length)?;
    let mut found = false;
    while let Some((first, rest)) = members.split_first() {
        (found, members) = match rest {
            [b'-', last, rest @ ..] => (found || (*first..=*last).contains(&byte), rest),
            _ => (found || *first == byte, rest),
        };
    }
    found.then_some(at + length + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_those_of_modules_alias() {
        let device = "pci:v000010DEd00002330sv000010DEsd000016C1bc03sc02i00";
        for (pattern, matching) in [
            ("pci:v000010DEd*sv*sd*bc03sc02i00*", true),
            ("pci:v000010DEd*sv*sd*bc03sc00i00*", false),
            ("pci:v*d*sv*sd*bc03sc*i*", true),
            ("pci:v000010DE", false),
            ("*", true),
            ("pci:v000010D[A-F]d*", true),
            ("pci:v000010D[0-9]d*", false),
            ("pci:v000010D?d*i00", true),
            ("pci:v000010D[d*", false),
        ] {
            assert_eq!(matches(pattern, device), matching, "{pattern}");
        }
        assert!(matches("", "") && matches("**", "") && !matches("?", "") && !matches("", "a"));
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[a*?\\[\\]-]{0,20}", text in "[a-c-]{0,20}") {
            matches(&pattern, &text);
        }
    }
}
