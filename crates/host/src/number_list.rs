//! Lists of numbers in sysfs, such as `0-3,8`.

use std::collections::BTreeSet;

/// A limit for malformed lists: more processors than any kernel supports (`CONFIG_NR_CPUS` is 8192 at most).
const MOST_CPUS: u32 = 1 << 16;

/// Parses a list such as `0-3,8`; malformed parts are skipped.
pub fn list(text: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let last: u32 = last.trim().parse().ok()?;
        Some(first.trim().parse::<u32>().ok()?..=last.min(MOST_CPUS))
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read_and_garbage_ends() {
        assert_eq!(list("0-2,8, 10\n"), BTreeSet::from([0, 1, 2, 8, 10]));
        assert_eq!(list("5-1,x,-,3"), BTreeSet::from([3]));
        assert_eq!(list(""), BTreeSet::new());
        assert!(list("0-4294967295").len() <= 1 + MOST_CPUS as usize);
    }
}
