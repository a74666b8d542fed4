//! The changelog's sections: `## Unreleased` on top, then `## VERSION - DATE` for each release, the latest first.

use anyhow::{Context, Result, ensure};

const OPEN: &str = "## Unreleased\n";

/// Turns the section `Unreleased` into that of a version, and begins an empty one.
///
/// # Errors
/// If there is no such section, it is empty, or the changelog already has the version.
pub fn close(changelog: &str, version: &str, date: &str) -> Result<String> {
    ensure!(section(changelog, version).is_none(), "{version} is in the changelog already");
    let (before, rest) = changelog.split_once(OPEN).context("no section `## Unreleased`")?;
    let end = rest.find("\n## ").map_or(rest.len(), |end| end + 1);
    let changes = rest.get(..end).unwrap_or_default();
    ensure!(!changes.trim().is_empty(), "nothing is listed under `## Unreleased`");
    Ok(format!("{before}{OPEN}\n## {version} - {date}\n{rest}"))
}

/// The section of a version, without its heading.
pub fn section(changelog: &str, version: &str) -> Option<String> {
    let headline = format!("\n## {version} - ");
    let (_, rest) = changelog.split_once(&headline)?;
    let (_, rest) = rest.split_once('\n')?;
    let end = rest.find("\n## ").unwrap_or(rest.len());
    Some(format!("{}\n", rest.get(..end)?.trim()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LOG: &str =
        "# Changelog\n\n## Unreleased\n\n### Added\n- b\n\n## 0.1.0 - 2026-01-01\n\n- a\n";

    #[test]
    fn the_unreleased_section_becomes_a_version() {
        let closed = close(LOG, "0.2.0", "2026-02-01").unwrap();
        assert_eq!(
            closed,
            "# Changelog\n\n## Unreleased\n\n## 0.2.0 - 2026-02-01\n\n### Added\n- b\n\n## 0.1.0 - 2026-01-01\n\n- a\n"
        );
        assert_eq!(section(&closed, "0.2.0").unwrap(), "### Added\n- b\n");
        assert_eq!(section(&closed, "0.1.0").unwrap(), "- a\n");
        assert_eq!(section(&closed, "0.3.0"), None);
    }

    #[test]
    fn a_version_is_released_once_and_not_without_changes() {
        close(LOG, "0.1.0", "2026-02-01").unwrap_err();
        let closed = close(LOG, "0.2.0", "2026-02-01").unwrap();
        close(&closed, "0.3.0", "2026-03-01").unwrap_err();
        close("# Changelog\n", "0.3.0", "2026-03-01").unwrap_err();
    }
}
