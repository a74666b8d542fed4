//! The package mirror of this machine, read from its apt configuration. The lab has no mirror of its own.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// The sources of the distribution's packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The main archive.
    pub main: String,
    /// The security archive, if this machine uses one.
    pub security: Option<String>,
}

/// One `deb` source: an address and the suites taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
}

impl Mirror {
    /// Reads `sources.list` and `sources.list.d` below the given apt directory (`/etc/apt`).
    pub fn of_machine(apt: &Path) -> Result<Self> {
        let mut sources = Vec::new();
        if let Ok(text) = fs::read_to_string(apt.join("sources.list")) {
            sources.extend(parse_one_line(&text));
        }
        let mut files: Vec<_> = fs::read_dir(apt.join("sources.list.d"))
            .map(|dir| dir.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            match file.extension().and_then(|e| e.to_str()) {
                Some("sources") => sources.extend(parse_deb822(&text)),
                Some("list") => sources.extend(parse_one_line(&text)),
                _ => {}
            }
        }
        choose(&sources).context(
            "no Debian mirror in this machine's apt configuration: it needs a source with a suite \
             `<codename>-updates` or `<codename>` and the component `main`",
        )
    }
}

/// Finds the distribution's own archive by its suites: other vendors do not have `<codename>-updates`. Without that
/// suite, a plain codename with component `main` is used.
fn choose(sources: &[Source]) -> Option<Mirror> {
    const CODENAMES: [&str; 6] = ["bookworm", "trixie", "forky", "stable", "testing", "sid"];
    let of_debian = |suite: &str, tail: &str| {
        suite.strip_suffix(tail).is_some_and(|codename| CODENAMES.contains(&codename))
    };
    let with = |tail: &str| {
        sources
            .iter()
            .filter(|s| s.components.iter().any(|c| c == "main"))
            .find(|s| s.suites.iter().any(|suite| of_debian(suite, tail)))
            .and_then(|s| s.uris.first().cloned())
    };
    Some(Mirror { main: with("-updates").or_else(|| with(""))?, security: with("-security") })
}

/// Parses `*.sources`: paragraphs of `Field: value`, continued by indented lines.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut fields: Vec<(String, Vec<String>)> = Vec::new();
        for line in paragraph.lines().filter(|line| !line.starts_with('#')) {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            if line.starts_with([' ', '\t']) {
                if let Some((_, values)) = fields.last_mut() {
                    values.extend(words(line));
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim().to_lowercase(), words(value)));
            }
        }
        let get = |name: &str| {
            fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default()
        };
        let disabled = get("enabled").iter().any(|v| v == "no");
        if get("types").iter().any(|t| t == "deb") && !disabled {
            sources.push(Source {
                uris: get("uris"),
                suites: get("suites"),
                components: get("components"),
            });
        }
    }
    sources
}

/// Parses `*.list`: `deb [options] uri suite component...`.
fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("deb ")?.trim_start();
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => rest,
            };
            let mut words = rest.split('#').next()?.split_whitespace().map(str::to_owned);
            let (uri, suite) = (words.next()?, words.next()?);
            Some(Source { uris: vec![uri], suites: vec![suite], components: words.collect() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
        Components: main\n\nTypes: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents:\n main contrib\n";
    const VENDOR: &str =
        "deb [arch=amd64 signed-by=/x.gpg] https://vendor.example/apt bookworm main # theirs\n";

    #[test]
    fn the_archive_is_distinguished_from_a_vendors_list() {
        let mut sources = parse_one_line(VENDOR);
        sources.extend(parse_deb822(DEB822));
        let mirror = choose(&sources).unwrap();
        assert_eq!(mirror.main, "http://mirror.example/debian");
        assert_eq!(mirror.security.as_deref(), Some("http://mirror.example/debian-security"));
    }

    #[test]
    fn the_old_style_is_read() {
        let text = "deb http://m.example/debian trixie main\ndeb http://m.example/debian trixie-updates main\n\
            deb-src http://m.example/debian trixie main\n";
        assert_eq!(
            choose(&parse_one_line(text)),
            Some(Mirror { main: "http://m.example/debian".into(), security: None })
        );
    }

    #[test]
    fn a_disabled_source_is_skipped() {
        assert!(parse_deb822(&format!("Enabled: no\n{DEB822}")).len() == 1);
        assert_eq!(choose(&[]), None);
    }
}
