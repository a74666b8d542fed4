//! `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`: files in memory, mounted over the image's as podman does it, so
//! that nothing of this start is on the disk.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use guest_protocol::GuestConfig;
use rustix::mount::mount_bind;

use super::error::InitError;
use super::mounts::directory;
use crate::network::Names;

/// Where the files are.
const PLACE: &str = "/run/handover";

/// Writes the files and mounts them.
pub fn write(config: &GuestConfig, names: &Names) -> Result<(), InitError> {
    directory(PLACE, 0o755)?;
    directory("/etc", 0o755)?;
    let name = if config.hostname.is_empty() { "localhost" } else { config.hostname.as_str() };
    place("hostname", &format!("{name}\n"))?;
    place("hosts", &hosts(name))?;
    if config.cards.is_empty() {
        return Ok(());
    }
    place("resolv.conf", &resolver(names))
}

fn hosts(name: &str) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    if name != "localhost" {
        text.push_str(&format!("127.0.1.1\t{name}\n"));
    }
    text
}

/// The contents of `resolv.conf`.
fn resolver(names: &Names) -> String {
    let domain = names.domain.iter().map(|domain| format!("search {domain}\n"));
    let servers = names.servers.iter().map(|server| format!("nameserver {server}\n"));
    domain.chain(servers).collect()
}

fn place(name: &str, text: &str) -> Result<(), InitError> {
    let (ours, target) = (format!("{PLACE}/{name}"), format!("/etc/{name}"));
    let failed = |source| InitError::Make { path: target.clone(), source };
    fs::write(&ours, text).map_err(failed)?;
    // A link of the image can lead to where nothing is yet: `/run/systemd/resolve/stub-resolv.conf`.
    match make_target(Path::new(&target)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::remove_file(&target).map_err(failed)?;
            make_target(Path::new(&target)).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    mount_bind(&ours, &target).map_err(|errno| InitError::Mount {
        what: ours.clone(),
        target: target.clone(),
        errno,
    })
}

fn make_target(path: &Path) -> io::Result<()> {
    // A file that is there is not opened: writing would copy it into the writable layer, and a pipe would wait for ever.
    if path.metadata().is_ok() {
        return Ok(());
    }
    OpenOptions::new().append(true).create(true).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_made_only_where_none_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        make_target(&path).unwrap();
        assert!(path.is_file());
        let pipe = directory.path().join("pipe");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
        make_target(&pipe).unwrap();
    }
}
