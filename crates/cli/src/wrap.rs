//! Breaks text into lines between words.

/// A piece of a line that is not broken if it fits a line: a word, or words in backquotes.
fn pieces(text: &str, most: usize) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut open = false;
    let mut command = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        command.push(word);
        open ^= word.matches('`').count() % 2 == 1;
        if open {
            continue;
        }
        let whole = command.join(" ");
        if whole.chars().count() <= most {
            pieces.push(whole);
        } else {
            pieces.extend(command.iter().map(|&word| word.to_owned()));
        }
        command.clear();
    }
    pieces.extend(command.into_iter().map(str::to_owned));
    pieces
}

/// The text in lines of at most this many characters: less in the first line. Words in backquotes stay on one line if they
/// fit; a word that is too long for a line stays whole, so that it can be copied.
pub fn lines(text: &str, first: usize, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for piece in pieces(text, most) {
        let length = piece.chars().count();
        let room = if lines.len() == 1 { first } else { most };
        let Some(line) = lines.last_mut() else { break };
        // A word that is too long has no more room on the next line, if that is as short.
        if line.is_empty() && (length <= room || room == most) {
            *line = piece;
            used = length;
        } else if !line.is_empty() && used + 1 + length <= room {
            line.push(' ');
            line.push_str(&piece);
            used += 1 + length;
        } else {
            lines.push(piece);
            used = length;
        }
    }
    lines
}

/// As [`lines`], and a word that is too long is broken, too: no line is longer.
pub fn strict_lines(text: &str, first: usize, most: usize) -> Vec<String> {
    let most = most.max(1);
    let mut all = Vec::new();
    for (index, line) in lines(text, first, most).into_iter().enumerate() {
        let letters: Vec<char> = line.chars().collect();
        let whole = letters.len() <= if index == 0 { first } else { most };
        if whole {
            all.push(line);
        } else {
            all.extend(letters.chunks(most).map(|chunk| chunk.iter().collect::<String>()));
        }
    }
    all
}

/// Text of several lines, each in lines of at most `width` characters; the first starts after `before` characters, and what is
/// broken off is indented by `indent`. `None` for no limit.
pub fn paragraph(text: &str, before: usize, indent: usize, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let mut out: Vec<String> = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let own = line.len() - line.trim_start_matches(' ').len();
        let (start, further) = if index == 0 { (before, indent) } else { (own, indent.max(own)) };
        let room = width.saturating_sub(further).max(1);
        let broken = lines(line, width.saturating_sub(start), room);
        for (number, line) in broken.into_iter().enumerate() {
            let spaces = match (index, number) {
                (0, 0) => 0,
                (_, 0) => own,
                _ => further,
            };
            out.push(format!("{:spaces$}{line}", ""));
        }
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_end_between_words_and_commands_stay_whole() {
        let text = "run `modprobe -a vfio-pci`; if missing, install it";
        assert_eq!(
            lines(text, 12, 24),
            ["run", "`modprobe -a vfio-pci`;", "if missing, install it"]
        );
        assert_eq!(lines(text, 8, 8)[1..3], ["`modprobe", "-a"]);
        assert_eq!(lines("/a/very/long/path x", 3, 8), ["", "/a/very/long/path", "x"]);
        assert_eq!(strict_lines("abcdefgh ij", 3, 5), ["", "abcde", "fgh", "ij"]);
        assert_eq!(paragraph("a b c\n    d e f", 0, 2, Some(6)), "a b c\n    d\n    e\n    f");
        assert_eq!(paragraph("a b c", 9, 2, None), "a b c");
    }

    proptest! {
        #[test]
        fn no_word_is_lost_and_no_line_is_too_long(
            text in "[a-z` ]{0,60}",
            first in 0usize..20,
            most in 1usize..20,
        ) {
            let strict = strict_lines(&text, first, most);
            prop_assert!(strict.iter().skip(1).all(|line| line.chars().count() <= most));
            prop_assert!(strict[0].chars().count() <= first.max(most));
            let bare = |text: &str| text.replace(' ', "");
            prop_assert_eq!(bare(&strict.concat()), bare(&text));
            prop_assert_eq!(bare(&lines(&text, first, most).concat()), bare(&text));
        }
    }
}
