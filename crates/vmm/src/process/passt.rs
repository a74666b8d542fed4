//! passt: connects a guest to the host's networks without any privilege (passt(1)). One process serves one card of one
//! machine: it runs as the machine's user, is connected to the VMM by a socket pair, and ends when the VMM does.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use model::{Forward, LaunchError, NetworkCard, OLDEST_PASST, Protocol, passt_date};

use super::order::{FD, Helper};
use super::programs::{VersionText, on_path};

/// The program.
const PROGRAM: &str = "passt";

/// The installed passt.
#[derive(Debug, Default)]
pub struct Passt {
    version: VersionText,
}

impl Passt {
    /// The program's path, if it may be used.
    pub fn program(&self) -> Result<PathBuf, LaunchError> {
        let path = on_path(PROGRAM)
            .ok_or_else(|| unavailable("passt is not installed", "apt install passt"))?;
        let version = self.version.of(&path, "--version").map_err(|reason| {
            unavailable(&format!("{}: {reason}", path.display()), "apt install --reinstall passt")
        })?;
        expect_new(version.lines().next().unwrap_or_default()).map(|()| path)
    }
}

const NEWER: &str = "install the passt of a newer release: that of Debian 13 is new enough";

/// Refuses a version that would let a guest reach the host's loopback.
fn expect_new(version: &str) -> Result<(), LaunchError> {
    match passt_date(version) {
        Some(date) if date >= OLDEST_PASST => Ok(()),
        Some(_) => Err(unavailable(
            &format!(
                "{version} is too old: it lets a guest reach services on this host's loopback"
            ),
            NEWER,
        )),
        None => Err(unavailable(&format!("the version of passt is unknown ({version:?})"), NEWER)),
    }
}

fn unavailable(why: &str, remedy: &str) -> LaunchError {
    LaunchError::Unavailable {
        reason: format!("the machine cannot have a network: {why}"),
        remedy: remedy.into(),
    }
}

/// The host's first name server with an IPv4 address (resolv.conf(5)). Guests reach it by [`NetworkCard::NAME_SERVER`].
pub fn name_server(root: &Path) -> Option<Ipv4Addr> {
    let text = fs::read_to_string(root.join("etc/resolv.conf")).ok()?;
    let servers = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    servers.filter(|rest| rest.starts_with([' ', '\t'])).find_map(|rest| rest.trim().parse().ok())
}

/// passt for a card on a host with this name server. `vmm_args` connect the VMM to the other end of the socket pair.
pub fn helper(
    program: PathBuf,
    card: &NetworkCard,
    name_server: Option<Ipv4Addr>,
    vmm_args: Vec<String>,
) -> Helper {
    let mut args: Vec<String> = ["--quiet", "--fd", FD].map(Into::into).into();
    // Without it, the gateway's address leads to the host's loopback, and so to every local service.
    args.push("--no-map-gw".into());
    for (option, value) in [
        ("--address", NetworkCard::GUEST.to_string()),
        ("--netmask", NetworkCard::PREFIX.to_string()),
        ("--gateway", NetworkCard::GATEWAY.to_string()),
    ] {
        args.extend([option.into(), value]);
    }
    if let Some(host) = name_server {
        let guests = NetworkCard::NAME_SERVER.to_string();
        let host = host.to_string();
        for (option, value) in
            [("--dns", guests.clone()), ("--dns-forward", guests), ("--dns-host", host)]
        {
            args.extend([option.into(), value]);
        }
    }
    for (option, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
        let own = card.forwards.iter().filter(|forward| forward.protocol == protocol);
        let mut ports: Vec<String> = own.map(ports).collect();
        if ports.is_empty() {
            ports.push("none".into());
        }
        args.extend(ports.into_iter().flat_map(|ports| [option.to_owned(), ports]));
    }
    Helper { program, args, vmm_args }
}

/// A forward as passt reads it: `127.0.0.1/2222:22`.
fn ports(forward: &Forward) -> String {
    format!("{}/{}:{}", forward.address, forward.host_port, forward.guest_port)
}

/// Checks that the host's ports are free and that passt may listen on them: its own message would only be in the log.
pub fn expect_free<'a>(
    root: &Path,
    forwards: impl Iterator<Item = &'a Forward>,
) -> Result<(), LaunchError> {
    let first = fs::read_to_string(root.join("proc/sys/net/ipv4/ip_unprivileged_port_start"));
    let first: u16 = first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    for forward in forwards {
        let refused = |reason: String| {
            let (address, protocol) = (forward.address, forward.protocol.as_str());
            let at = SocketAddr::new(address, forward.host_port);
            LaunchError::Port { port: format!("{at}/{protocol}"), reason }
        };
        if forward.host_port < first {
            return Err(refused(format!(
                "passt runs without privileges, and may listen on ports from {first} on only (sysctl \
                 net.ipv4.ip_unprivileged_port_start)"
            )));
        }
        let at = (forward.address, forward.host_port);
        let bound = match forward.protocol {
            Protocol::Tcp => TcpListener::bind(at).map(drop),
            Protocol::Udp => UdpSocket::bind(at).map(drop),
        };
        match bound {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                return Err(refused("another program listens on it".into()));
            }
            Err(error) => return Err(refused(error.to_string())),
            Ok(()) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(forwards: &[&str]) -> NetworkCard {
        let forwards = forwards.iter().map(|text| text.parse().unwrap()).collect();
        NetworkCard { mac: "52:54:00:12:34:56".parse().unwrap(), forwards }
    }

    #[test]
    fn the_command_keeps_the_guest_from_the_hosts_loopback() {
        let server = Some(Ipv4Addr::new(127, 0, 0, 53));
        let helper = helper(
            "/usr/bin/passt".into(),
            &card(&["2222:22", "0.0.0.0:5353:53/udp"]),
            server,
            Vec::new(),
        );
        assert_eq!(
            helper.args.join(" "),
            "--quiet --fd {fd} --no-map-gw --address 10.0.2.15 --netmask 24 --gateway 10.0.2.2 --dns 10.0.2.3 \
             --dns-forward 10.0.2.3 --dns-host 127.0.0.53 --tcp-ports 127.0.0.1/2222:22 --udp-ports 0.0.0.0/5353:53"
        );
    }

    #[test]
    fn without_forwards_nothing_is_listened_on() {
        let helper = helper("/usr/bin/passt".into(), &card(&[]), None, Vec::new());
        assert!(!helper.args.iter().any(|argument| argument.starts_with("--dns")));
        assert!(helper.args.join(" ").ends_with("--tcp-ports none --udp-ports none"));
    }

    #[test]
    fn a_version_that_does_not_protect_the_host_is_refused() {
        assert!(expect_new("passt 0.0~git20250503.587980c-2+deb13u1").is_ok());
        let old = expect_new("passt 0.0~git20230309.7c7625d-1").unwrap_err().to_string();
        assert!(old.contains("20230309") && old.contains("loopback"), "{old}");
        assert!(expect_new("passt unknown version").is_err());
    }

    #[test]
    fn the_first_name_server_that_a_guest_can_use_is_taken() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(name_server(root.path()), None);
        fs::create_dir(root.path().join("etc")).unwrap();
        let text = "# nameserver 192.0.2.1\nnameservers 192.0.2.2\nnameserver ::1\nnameserver\t127.0.0.53 \n";
        fs::write(root.path().join("etc/resolv.conf"), text).unwrap();
        assert_eq!(name_server(root.path()), Some(Ipv4Addr::new(127, 0, 0, 53)));
    }

    #[test]
    fn a_port_that_is_taken_or_privileged_is_refused_with_the_reason() {
        let root = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let check = |text: String| expect_free(root.path(), [text.parse().unwrap()].iter());
        let error = check(format!("{port}:22")).unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}/tcp")), "{error}");
        assert!(error.contains("another program listens on it"), "{error}");
        let error = check("80:80".into()).unwrap_err().to_string();
        assert!(error.contains("ports from 1024 on only"), "{error}");
        drop(taken);
        check(format!("{port}:22/udp")).unwrap();
    }
}
