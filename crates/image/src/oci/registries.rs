//! Where the images of a registry are pulled from: mirrors, other places, and registries whose certificate is not checked, as
//! registries.conf(5) says it, which podman reads too.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use oci_spec::distribution::Reference;
use serde::Deserialize;

use super::{ContainerError, PullOptions};

/// The largest file that is read.
const MOST: u64 = 1 << 20;

/// The file of the host, and the directory whose files (`*.conf`, by their names) add to it.
const FILE: &str = "/etc/containers/registries.conf";
const DIR: &str = "/etc/containers/registries.conf.d";

/// How a place is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// With TLS.
    Tls,
    /// With TLS, without checking the certificate.
    Unverified,
    /// Without TLS.
    Plain,
}

/// A place that has an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The host, with its port.
    pub registry: String,
    /// The name of the image there.
    pub repository: String,
    /// How it is spoken to.
    pub transport: Transport,
    /// Whether it is a mirror: it gets no password that was given for the registry.
    pub is_mirror: bool,
}

/// The rules of the host's files.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Registries {
    registry: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    prefix: Option<String>,
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    #[serde(rename = "mirror-by-digest-only")]
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
}

#[derive(Debug, Deserialize)]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(rename = "pull-from-mirror", default)]
    pull_from_mirror: Option<Pull>,
}

/// For which references a mirror is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Pull {
    All,
    DigestOnly,
    TagOnly,
}

/// The places that may have an image, in the order in which they are asked.
///
/// # Errors
/// The image may not be pulled, or a file cannot be understood.
pub fn places(reference: &Reference, options: &PullOptions) -> Result<Vec<Place>, ContainerError> {
    if options.plain_http.iter().any(|host| host == reference.registry()) {
        return Ok(vec![own(reference, Transport::Plain)]);
    }
    Registries::read(options.registries_conf.as_deref())?.places(reference)
}

fn own(reference: &Reference, transport: Transport) -> Place {
    Place {
        registry: reference.registry().to_owned(),
        repository: reference.repository().to_owned(),
        transport,
        is_mirror: false,
    }
}

impl Registries {
    /// Reads this file, or those of the host. Files that are not there say nothing.
    fn read(file: Option<&Path>) -> Result<Self, ContainerError> {
        let named = std::env::var_os("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from);
        if let Some(only) = file.map(Path::to_owned).or(named) {
            return Self::of(&only);
        }
        let mut all = Self::of(Path::new(FILE))?;
        let entries = std::fs::read_dir(DIR).into_iter().flatten().flatten();
        let mut more: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        more.sort();
        for file in more.iter().filter(|path| path.extension().is_some_and(|end| end == "conf")) {
            // A later rule replaces an earlier one of the same images.
            let later = Self::of(file)?.registry;
            all.registry.retain(|rule| later.iter().all(|one| one.prefix() != rule.prefix()));
            all.registry.extend(later);
        }
        Ok(all)
    }

    fn of(path: &Path) -> Result<Self, ContainerError> {
        let bad = |problem: String| ContainerError::BadRegistries {
            path: path.display().to_string(),
            problem: model::shown::escaped(problem.trim_end()).into_owned(),
        };
        let mut text = String::new();
        match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(bad(error.to_string())),
            Ok(file) => file.take(MOST).read_to_string(&mut text),
        }
        .map_err(|error| bad(error.to_string()))?;
        toml::from_str(&text).map_err(|error| bad(error.message().to_owned()))
    }

    fn places(&self, reference: &Reference) -> Result<Vec<Place>, ContainerError> {
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let matching = self.registry.iter().filter_map(|rule| Some((rule.matches(&name)?, rule)));
        let Some((length, rule)) = matching.max_by_key(|(length, _)| *length) else {
            return Ok(vec![own(reference, Transport::Tls)]);
        };
        if rule.blocked {
            return Err(ContainerError::Blocked { name });
        }
        let rest = name.get(length..).unwrap_or_default();
        let by_digest = reference.digest().is_some();
        let mut places = Vec::new();
        for mirror in rule.mirror.iter().filter(|one| one.serves(by_digest, rule)) {
            add(&mut places, &format!("{}{rest}", mirror.location), mirror.insecure, true)?;
        }
        let location = match &rule.location {
            Some(location) => format!("{location}{rest}"),
            None => name,
        };
        add(&mut places, &location, rule.insecure, false)?;
        Ok(places)
    }
}

impl Rule {
    fn prefix(&self) -> &str {
        self.prefix.as_deref().or(self.location.as_deref()).unwrap_or_default()
    }

    /// How much of a name the prefix stands for, if it does.
    fn matches(&self, name: &str) -> Option<usize> {
        let prefix = self.prefix();
        if let Some(domain) = prefix.strip_prefix('*') {
            let host = name.split('/').next().unwrap_or_default();
            return (domain.starts_with('.') && host.ends_with(domain)).then_some(host.len());
        }
        let rest = name.strip_prefix(prefix)?;
        (!prefix.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some(prefix.len())
    }
}

impl Mirror {
    fn serves(&self, by_digest: bool, rule: &Rule) -> bool {
        let usual = if rule.mirror_by_digest_only { Pull::DigestOnly } else { Pull::All };
        match self.pull_from_mirror.unwrap_or(usual) {
            Pull::All => true,
            Pull::DigestOnly => by_digest,
            Pull::TagOnly => !by_digest,
        }
    }
}

/// Adds `HOST[:PORT]/NAME`. An insecure place is tried with TLS first, as podman does it.
fn add(
    places: &mut Vec<Place>,
    location: &str,
    insecure: bool,
    is_mirror: bool,
) -> Result<(), ContainerError> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:[]".contains(&byte);
    let parts = location.split_once('/').filter(|(registry, repository)| {
        !registry.is_empty()
            && !registry.ends_with(':')
            && !repository.is_empty()
            && location.bytes().all(is_name)
    });
    let (registry, repository) = parts.ok_or_else(|| ContainerError::BadReference {
        reference: location.to_owned(),
        problem: "registries.conf makes this of it, which is no HOST[:PORT]/NAME".to_owned(),
    })?;
    let transports = match insecure {
        true => &[Transport::Unverified, Transport::Plain][..],
        false => &[Transport::Tls],
    };
    places.extend(transports.iter().map(|transport| Place {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
        transport: *transport,
        is_mirror,
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/library"
        location = "copies.example/official"
        [[registry]]
        prefix = "*.corp.example"
        insecure = true
        [[registry]]
        prefix = "bad.example"
        blocked = true
        [[registry]]
        prefix = "odd.example"
        location = "https://odd.example"
    "#;

    fn places(rules: &str, name: &str) -> Result<Vec<String>, ContainerError> {
        let rules: Registries = toml::from_str(rules).unwrap();
        let places = rules.places(&super::super::reference(name).unwrap())?;
        let shown = |place: Place| {
            let scheme = match place.transport {
                Transport::Tls => "",
                Transport::Unverified => "unverified ",
                Transport::Plain => "plain ",
            };
            let mirror = if place.is_mirror { " (mirror)" } else { "" };
            format!("{scheme}{}/{}{mirror}", place.registry, place.repository)
        };
        Ok(places.into_iter().map(shown).collect())
    }

    #[test]
    fn the_longest_prefix_counts_and_mirrors_come_first() {
        assert_eq!(places("", "debian").unwrap(), ["docker.io/library/debian"]);
        assert_eq!(places(RULES, "debian:12").unwrap(), ["copies.example/official/debian"]);
        assert_eq!(
            places(RULES, "nvidia/cuda:12.4").unwrap(),
            [
                "unverified mirror.example:5000/hub/nvidia/cuda (mirror)",
                "plain mirror.example:5000/hub/nvidia/cuda (mirror)",
                "docker.io/nvidia/cuda"
            ]
        );
        let digest = format!("nvidia/cuda@sha256:{}", "a".repeat(64));
        assert!(
            places(RULES, &digest)
                .unwrap()
                .contains(&"digests.example/nvidia/cuda (mirror)".into())
        );
        assert_eq!(
            places(RULES, "a.corp.example/x").unwrap(),
            ["unverified a.corp.example/x", "plain a.corp.example/x"]
        );
        assert_eq!(places(RULES, "docker.iox/x/y").unwrap(), ["docker.iox/x/y"]);
    }

    #[test]
    fn what_is_blocked_or_odd_is_refused() {
        let blocked = places(RULES, "bad.example/x").unwrap_err();
        assert_eq!(blocked, ContainerError::Blocked { name: "bad.example/x".into() });
        assert!(matches!(
            places(RULES, "odd.example/x").unwrap_err(),
            ContainerError::BadReference { .. }
        ));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("registries.conf");
        std::fs::write(&file, "[[registry]\n").unwrap();
        let bad = Registries::read(Some(&file)).unwrap_err();
        assert!(bad.to_string().contains("registries.conf"), "{bad}");
        assert!(Registries::read(Some(&dir.path().join("none"))).unwrap().registry.is_empty());
    }
}
