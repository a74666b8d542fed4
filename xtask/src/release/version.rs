//! The version in the workspace's manifest.

use anyhow::{Context, Result, ensure};

/// The version of the workspace.
///
/// # Errors
/// If the manifest has none.
pub fn of(manifest: &str) -> Result<String> {
    let (start, end) = place(manifest)?;
    Ok(manifest.get(start..end).unwrap_or_default().to_owned())
}

/// The manifest with another version.
///
/// # Errors
/// If `wanted` does not have the form 1.2.3, or is older than the version in the manifest.
pub fn set(manifest: &str, wanted: &str) -> Result<String> {
    let (start, end) = place(manifest)?;
    let now = of(manifest)?;
    ensure!(numbers(wanted)? >= numbers(&now)?, "{wanted} is older than {now}");
    let mut manifest = manifest.to_owned();
    manifest.replace_range(start..end, wanted);
    Ok(manifest)
}

/// The range of the version in the text, in bytes.
fn place(manifest: &str) -> Result<(usize, usize)> {
    const KEY: &str = "\nversion = \"";
    let section = manifest.find("[workspace.package]").context("no [workspace.package]")?;
    let rest = manifest.get(section..).unwrap_or_default();
    let key = rest.find(KEY).context("[workspace.package] has no version")?;
    let start = section + key + KEY.len();
    let length = manifest.get(start..).and_then(|rest| rest.find('"'));
    Ok((start, start + length.context("the version has no end")?))
}

fn numbers(version: &str) -> Result<[u32; 3]> {
    let parts: Vec<u32> = version
        .split('.')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{version:?} is not of the form 1.2.3"))?;
    parts.try_into().ok().with_context(|| format!("{version:?} is not of the form 1.2.3"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MANIFEST: &str = "[workspace]\nversion = \"9\"\n\n[workspace.package]\nversion = \"0.1.0\"\nedition = \"2024\"\n";

    #[test]
    fn the_workspaces_version_is_read_and_set() {
        assert_eq!(of(MANIFEST).unwrap(), "0.1.0");
        let set = set(MANIFEST, "0.2.0").unwrap();
        assert_eq!(of(&set).unwrap(), "0.2.0");
        assert_eq!(set.replace("0.2.0", "0.1.0"), MANIFEST);
    }

    #[test]
    fn older_and_malformed_versions_are_refused() {
        for wanted in ["0.0.9", "1.0", "v1.0.0", "1.0.0-rc1", ""] {
            set(MANIFEST, wanted).unwrap_err();
        }
        set(MANIFEST, "0.1.0").unwrap();
    }
}
