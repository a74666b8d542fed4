//! One process, as `/proc/PID` tells it: its program, and when it started, by which it is known again.

use crate::root::Dir;

/// What `/proc/PID/stat` tells of a process (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its state: `R`, `S`, `D`, ...
    pub state: char,
    /// When it started, in the kernel's ticks since the boot.
    pub started: u64,
}

impl Stat {
    /// Reads it; `None` where the process is gone.
    pub fn read(process: &Dir) -> Option<Self> {
        // A program can name itself in bytes that are no text.
        let bytes = process.bytes("stat", 4096).ok()?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Fields 3 and 22. The second is the program's name in parentheses, which may itself have some, and spaces.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { state, started })
    }

    /// Whether it has ended: a zombie has nothing open any more, and waits for its parent to look.
    pub const fn has_ended(self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The program's name.
pub fn program(process: &Dir) -> Option<String> {
    process.text("comm").ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REST: &str = "1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 99 1";

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        let stat = |name: &str| Stat::parse(&format!("4711 ({name}) S {REST}\n"));
        let right = Some(Stat { state: 'S', started: 123_456 });
        for name in ["qemu-system-x86", "a) R 1 (b", ") ) )", "", "two words"] {
            assert_eq!(stat(name), right, "{name}");
        }
        assert_eq!(Stat::parse("4711 (x) S 1 2 3"), None);
        assert!(Stat { state: 'Z', started: 1 }.has_ended());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([0-9]{0,25}|\\)|\\(| |[A-Z]|.){0,60}") {
            let _ = Stat::parse(&text);
        }
    }
}
