//! Signals by name.

/// No signal has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no signal: use a name like `SIGTERM` or `SIGRTMIN+3`, or a number from 1 to 64")]
pub struct UnknownSignal(pub String);

/// What ends a command: a signal's number. The default is `SIGTERM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal(u8);

/// The signals of x86 and arm with names, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// `SIGRTMIN` and `SIGRTMAX` of glibc, as images mean them.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

impl StopSignal {
    /// `SIGTERM`.
    pub const TERM: Self = Self(15);

    /// The signal's number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Reads an image's `StopSignal`: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`. Empty is `SIGTERM`.
    ///
    /// # Errors
    /// There is no such signal.
    pub fn parse(text: &str) -> Result<Self, UnknownSignal> {
        if text.is_empty() {
            return Ok(Self::TERM);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = if let Ok(number) = name.parse::<u8>() {
            Some(number).filter(|n| (1..=RTMAX).contains(n))
        } else if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+').and_then(|by| RTMIN.checked_add(by))
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-').and_then(|by| RTMAX.checked_sub(by))
        } else {
            let at = NAMES.iter().position(|known| *known == name);
            at.and_then(|at| u8::try_from(at + 1).ok())
        };
        let real_time = name.starts_with("RT");
        number
            .filter(|n| !real_time || (RTMIN..=RTMAX).contains(n))
            .map(Self)
            .ok_or_else(|| UnknownSignal(text.to_owned()))
    }
}

fn offset(rest: &str, sign: char) -> Option<u8> {
    if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_every_usual_spelling() {
        for (text, number) in [
            ("", 15),
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigint", 2),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("SIGRTMAX-1", 63),
            ("SIGQUIT", 3),
            ("SIGWINCH", 28),
            ("64", 64),
        ] {
            assert_eq!(StopSignal::parse(text).map(StopSignal::number), Ok(number), "{text}");
        }
        for text in
            ["0", "65", "SIGNOTHING", "RTMIN+31", "RTMAX-31", "RTMIN-1", "-1", "SIG", "RTMIN+"]
        {
            assert_eq!(StopSignal::parse(text), Err(UnknownSignal(text.to_owned())), "{text}");
        }
    }
}
