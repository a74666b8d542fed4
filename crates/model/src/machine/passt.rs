//! Versions of passt, which connects machines to networks.

/// The date of the oldest version that machines may use, as a number: Debian 13's. That of Debian 12 (2023-03-09) forwards
/// packets whose destination is a loopback address: with it, root in a guest reached services on the host's 127.0.0.1.
pub const OLDEST_PASST: u32 = 20_250_503;

/// The date in a version of passt: `2025_05_03.587980c` as its project writes it, `0.0~git20250503.587980c-2` as Debian
/// does, `0^20250503.g587980c` as Fedora does.
#[must_use]
pub fn passt_date(version: &str) -> Option<u32> {
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
        for (version, date) in [
            ("passt 2025_05_03.587980c", Some(20_250_503)),
            ("0.0~git20230309.7c7625d-1", Some(20_230_309)),
            ("passt 0^20250911.g6cbcccc-1.fc43", Some(20_250_911)),
            ("passt unknown version", None),
            ("", None),
        ] {
            assert_eq!(passt_date(version), date, "{version}");
        }
    }
}
