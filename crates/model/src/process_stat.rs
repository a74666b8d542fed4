//! `/proc/PID/stat`: a process's state and start time, which identifies it.

/// Fields of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// Its state: `R`, `S`, `D`, `Z`, ...
    pub state: char,
    /// Its start time in clock ticks since boot. A later process with the same pid has another start time.
    pub start_time: u64,
}

impl ProcessStat {
    /// Parses fields 3 and 22 of the file; `None` if they are missing. Field 2 is the program's name in parentheses. A
    /// process can choose it freely, so it may contain parentheses, blanks, newlines and invalid UTF-8; no later field
    /// has a parenthesis.
    #[must_use]
    pub fn parse(stat: &[u8]) -> Option<Self> {
        let mut fields = fields(stat)?;
        let state = fields.next()?.chars().next()?;
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(Self { state, start_time })
    }

    /// The processor time of the process, in clock ticks: fields 14 and 15 of the file (utime, stime); `None` if they are
    /// missing.
    #[must_use]
    pub fn cpu_ticks(stat: &[u8]) -> Option<u64> {
        let mut fields = fields(stat)?.skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(user.saturating_add(system))
    }

    /// Whether the process has exited. A zombie has no open files; it only waits to be reaped.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The fields after the program's name, from field 3 on.
fn fields(stat: &[u8]) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    Some(fields.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REST: &str = "1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 99 1";

    fn with_name(name: &[u8]) -> Vec<u8> {
        [b"4711 (", name, b") S ", REST.as_bytes(), b"\n"].concat()
    }

    #[test]
    fn no_name_shifts_the_fields() {
        let expected = Some(ProcessStat { state: 'S', start_time: 123_456 });
        let names: [&[u8]; 11] = [
            b"qemu-system-x86",
            b"a) b",
            b"a) R 1 (b",
            b"a) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
            b") ) )",
            b"((((",
            b"",
            b"two words",
            b"two\nlines",
            b"\xff) \xfe",
            b"4711 (x) S",
        ];
        for name in names {
            let shown = String::from_utf8_lossy(name);
            assert_eq!(ProcessStat::parse(&with_name(name)), expected, "{shown:?}");
            assert_eq!(ProcessStat::cpu_ticks(&with_name(name)), Some(5 + 6), "{shown:?}");
        }
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "4711 (a) R 1 (b)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20";
        let expected = ProcessStat { state: 'S', start_time: 987_654 };
        assert_eq!(ProcessStat::parse(text.as_bytes()), Some(expected));
    }

    #[test]
    fn truncated_or_malformed_text_is_none() {
        let whole = with_name(b"x");
        let cut = whole.iter().rposition(|byte| *byte == b' ').unwrap() - "123456 99".len();
        let malformed: [&[u8]; 7] = [
            b"",
            b"4711",
            b"4711 (x)",
            b"4711 (x) ",
            b"4711 (x) S 1 2 3",
            b"4711 (a) Z 1",
            b"4711 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 -1 20",
        ];
        for stat in malformed.into_iter().chain([&whole[..cut]]) {
            assert_eq!(ProcessStat::parse(stat), None, "{}", String::from_utf8_lossy(stat));
        }
    }

    #[test]
    fn a_zombie_and_a_dead_process_have_ended() {
        for (state, ended) in [('Z', true), ('X', true), ('R', false), ('S', false), ('D', false)] {
            assert_eq!(ProcessStat { state, start_time: 1 }.has_ended(), ended, "{state}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([0-9]{0,25}|\\)|\\(| |[A-Z]|.){0,60}") {
            let _ = ProcessStat::parse(text.as_bytes());
            let _ = ProcessStat::cpu_ticks(text.as_bytes());
        }

        #[test]
        fn no_bytes_panic_and_no_name_hides_the_fields(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = ProcessStat::parse(&bytes);
            let stat = ProcessStat::parse(&with_name(&bytes));
            prop_assert_eq!(stat, Some(ProcessStat { state: 'S', start_time: 123_456 }));
        }
    }
}
