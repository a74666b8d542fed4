//! Names and passwords for registries, as podman's and docker's login keep them.

use std::collections::HashMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use own_files::OwnFile;
use serde::Deserialize;

/// The largest file that is read.
const MOST: u64 = 1 << 20;

/// The name by which docker keeps its own registry.
const DOCKER: &str = "https://index.docker.io/v1/";

#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    auths: HashMap<String, One>,
}

#[derive(Deserialize)]
struct One {
    auth: Option<String>,
}

/// The name and the password for an image, from the first file that has them.
pub fn find(registry: &str, repository: &str) -> Option<(String, String)> {
    files().into_iter().find_map(|path| {
        // Another program's file of this user: it is only read.
        let bytes = OwnFile::at(&path).or_of_anyone().read(MOST).ok()?;
        within(&bytes, registry, repository)
    })
}

/// Where podman and docker look (containers-auth.json(5)).
fn files() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let below = |dir: Option<PathBuf>, rest: &str| dir.map(|dir| dir.join(rest));
    let user = rustix::process::geteuid().as_raw();
    let home = variable("HOME");
    let config = variable("XDG_CONFIG_HOME").or_else(|| below(home.clone(), ".config"));
    [
        variable("REGISTRY_AUTH_FILE"),
        below(variable("XDG_RUNTIME_DIR"), "containers/auth.json"),
        Some(PathBuf::from(format!("/run/containers/{user}/auth.json"))),
        below(config, "containers/auth.json"),
        below(variable("DOCKER_CONFIG"), "config.json"),
        below(home, ".docker/config.json"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The longest name that leads to the image counts.
fn within(bytes: &[u8], registry: &str, repository: &str) -> Option<(String, String)> {
    let known: Known = serde_json::from_slice(bytes).ok()?;
    let mut name = format!("{registry}/{repository}");
    loop {
        let found = known.auths.get(&name);
        if let Some(auth) = found.and_then(|one| one.auth.as_deref()) {
            return decoded(auth);
        }
        match name.rfind('/') {
            Some(end) => name.truncate(end),
            None => break,
        }
    }
    let docker = known.auths.get(DOCKER).filter(|_| registry == "docker.io");
    docker.and_then(|one| decoded(one.auth.as_deref()?))
}

fn decoded(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_counts() {
        let file = br#"{"auths": {
            "r.example": {"auth": "YTpi"}, "r.example/team": {"auth": "YzpkOmU="},
            "https://index.docker.io/v1/": {"auth": "ZjpnAA=="}, "helper.example": {}
        }}"#;
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(within(file, "r.example", "x"), pair("a", "b"));
        assert_eq!(within(file, "r.example", "team/x"), pair("c", "d:e"));
        assert_eq!(within(file, "docker.io", "library/debian"), pair("f", "g"));
        assert_eq!(within(file, "helper.example", "x"), None);
        assert_eq!(within(b"<html>", "r.example", "x"), None);
    }
}
