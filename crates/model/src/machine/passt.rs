//! Versions of passt, which connects machines to networks.

/// The date of the oldest version that machines may use, as a number: Debian 12's.
const OLDEST: u32 = 20_230_309;

/// The date of the oldest version that by itself keeps a guest from the host's loopback: Debian 13's.
const CONFINED: u32 = 20_250_503;

/// What a version of passt lets a guest reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasstKind {
    /// It is older than what machines may use.
    TooOld,
    /// It connects to whatever destination a packet has, also to the host's loopback addresses. The kernel must refuse
    /// these. Versions without a date count as such: Debian 12's prints "unknown version".
    Open,
    /// It forwards no packet to a loopback address.
    Confined,
}

impl PasstKind {
    /// The kind of a version, as `passt --version` or a package manager prints it.
    #[must_use]
    pub fn of(version: &str) -> Self {
        match date(version) {
            Some(date) if date < OLDEST => Self::TooOld,
            Some(date) if date >= CONFINED => Self::Confined,
            _ => Self::Open,
        }
    }
}

/// The date in a version of passt: `2025_05_03.587980c` as its project writes it, `0.0~git20250503.587980c-2` as Debian
/// does, `0^20250503.g587980c` as Fedora does.
fn date(version: &str) -> Option<u32> {
    let plain = version.replace('_', "");
    let numbers = plain.split(|c: char| !c.is_ascii_digit());
    numbers
        .filter(|digits| digits.len() == 8 && digits.starts_with("20"))
        .find_map(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_their_date_in_each_distribution() {
        for (version, right) in [
            ("passt 2025_05_03.587980c", Some(20_250_503)),
            ("0.0~git20230309.7c7625d-1", Some(20_230_309)),
            ("passt 0^20250911.g6cbcccc-1.fc43", Some(20_250_911)),
            ("passt unknown version", None),
            ("", None),
        ] {
            assert_eq!(date(version), right, "{version}");
        }
    }

    #[test]
    fn a_version_that_does_not_say_its_date_needs_the_kernels_help() {
        for (version, kind) in [
            ("passt 2022_11_16.ace074c", PasstKind::TooOld),
            ("0.0~git20230309.7c7625d-1", PasstKind::Open),
            ("passt unknown version", PasstKind::Open),
            ("passt 0.0~git20240220.1e6f92b-1", PasstKind::Open),
            ("passt 0.0~git20250503.587980c-2+deb13u1", PasstKind::Confined),
        ] {
            assert_eq!(PasstKind::of(version), kind, "{version}");
        }
    }
}
