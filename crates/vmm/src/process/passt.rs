//! passt: connects a guest to the host's networks without any privilege (passt(1)). One process serves one card of one
//! machine: it runs as the machine's user, is connected to the VMM by a socket pair, and ends when the VMM does.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use model::{
    Forward, LaunchError, LoopbackFilter, NameServerAlias, NetworkCard, PasstKind, Protocol,
};
use uuid::Uuid;

use super::cgroup;
use super::order::{FD, Helper, Loopback};
use super::programs::{VersionText, on_path};

/// The program.
const PROGRAM: &str = "passt";

/// The installed passt.
#[derive(Debug)]
pub struct Passt {
    version: VersionText,
    filter: &'static dyn LoopbackFilter,
}

/// A passt that machines may use.
#[derive(Debug)]
pub struct UsablePasst {
    program: PathBuf,
    /// Whether it keeps a guest from the host's loopback by itself.
    is_confined: bool,
}

impl Passt {
    /// The passt on PATH. This filter is for versions that do not keep a guest from the host's loopback.
    pub fn new(filter: &'static dyn LoopbackFilter) -> Self {
        Self { version: VersionText::default(), filter }
    }

    /// The program, if machines with these forwarded ports may use it on the host below this root.
    pub fn usable<'a>(
        &self,
        root: &Path,
        forwards: impl Iterator<Item = &'a Forward>,
    ) -> Result<UsablePasst, LaunchError> {
        let program = on_path(PROGRAM)
            .ok_or_else(|| unavailable("passt is not installed", "apt install passt"))?;
        let version = self.version.of(&program, &["--version"]).map_err(|reason| {
            let why = format!("{}: {reason}", program.display());
            unavailable(&why, "apt install --reinstall passt")
        })?;
        let version = version.lines().next().unwrap_or_default();
        let is_confined = match PasstKind::of(version) {
            PasstKind::TooOld => {
                let why = format!(
                    "this passt ({version}) is too old: machines need one of March 2023 or newer"
                );
                return Err(unavailable(&why, NEWER));
            }
            PasstKind::Confined => true,
            PasstKind::Open => {
                self.expect_filter(root, version)?;
                expect_no_udp(version, forwards)?;
                false
            }
        };
        Ok(UsablePasst { program, is_confined })
    }

    /// Checks that the kernel can do what this version does not: `handover launch` requires it again.
    fn expect_filter(&self, root: &Path, version: &str) -> Result<(), LaunchError> {
        let place = cgroup::place(root, Uuid::nil());
        let filter = place.and_then(|_| self.filter.check().map_err(|error| error.to_string()));
        filter.map_err(|why| {
            let why = format!(
                "this passt ({version}) lets a guest reach services on this host's loopback, and the kernel cannot prevent it \
                 here: {why}"
            );
            unavailable(&why, NEWER)
        })
    }
}

const NEWER: &str = "install the passt of a newer release: that of Debian 13 is new enough";

/// Refuses forwarded UDP ports for versions without protection. They send a guest's answers from the same socket as all its
/// other datagrams, so the kernel cannot distinguish an answer to a program on this host from a guest's own attempt.
fn expect_no_udp<'a>(
    version: &str,
    mut forwards: impl Iterator<Item = &'a Forward>,
) -> Result<(), LaunchError> {
    match forwards.find(|forward| forward.protocol == Protocol::Udp) {
        None => Ok(()),
        Some(forward) => Err(LaunchError::Unavailable {
            reason: format!(
                "the machine cannot have the port {forward}: with this passt ({version}), the guest's answers would go to \
                 this host's loopback, which guests must not reach"
            ),
            remedy: format!("forward no UDP port; or {NEWER}"),
        }),
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
    let mut servers = servers.filter(|rest| rest.starts_with([' ', '\t']));
    let first: Ipv4Addr = servers.find_map(|rest| rest.trim().parse().ok())?;
    // Linux connects 0.0.0.0 to loopback, so some write it for "this host".
    Some(if first.is_unspecified() { Ipv4Addr::LOCALHOST } else { first })
}

/// passt for a card on a host with this name server. `vmm_args` connect the VMM to the other end of the socket pair.
pub fn helper(
    passt: UsablePasst,
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
    let (dns, loopback) = name_service(passt.is_confined, name_server);
    for (option, address) in dns {
        args.extend([option.into(), address.to_string()]);
    }
    for (option, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
        let own = card.forwards.iter().filter(|forward| forward.protocol == protocol);
        let mut ports: Vec<String> = own.map(ports).collect();
        if ports.is_empty() {
            ports.push("none".into());
        }
        args.extend(ports.into_iter().flat_map(|ports| [option.to_owned(), ports]));
    }
    Helper { program: passt.program, args, vmm_args, loopback }
}

/// The options for the name server, and what passt may reach of the host's loopback.
///
/// Versions without protection do not know `--dns-host`. Their `--dns-forward` leads to the first name server in
/// `/etc/resolv.conf`, but not if `--dns` tells the guest which one to use (conf.c of 2023-03-09: `get_dns`); and without
/// `--dns`, they tell it none if the host's has a loopback address (`add_dns4`). So the kernel forwards in that case, and in
/// others the guest uses the host's name server itself.
fn name_service(
    is_confined: bool,
    name_server: Option<Ipv4Addr>,
) -> (Vec<(&'static str, Ipv4Addr)>, Loopback) {
    let guests = NetworkCard::NAME_SERVER;
    match name_server {
        None if is_confined => (Vec::new(), Loopback::Open),
        None => (Vec::new(), Loopback::Closed { name_server: None }),
        Some(host) if is_confined => {
            let dns = vec![("--dns", guests), ("--dns-forward", guests), ("--dns-host", host)];
            (dns, Loopback::Open)
        }
        Some(real) if real.is_loopback() => {
            let alias = NameServerAlias { alias: guests, real };
            (vec![("--dns", guests)], Loopback::Closed { name_server: Some(alias) })
        }
        Some(host) => (vec![("--dns", host)], Loopback::Closed { name_server: None }),
    }
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
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                return Err(LaunchError::Address { address: forward.address });
            }
            Err(error) => return Err(refused(error.to_string())),
            Ok(()) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::FilterError;

    use super::*;

    fn card(forwards: &[&str]) -> NetworkCard {
        let forwards = forwards.iter().map(|text| text.parse().unwrap()).collect();
        let mac = "52:54:00:12:34:56".parse().unwrap();
        NetworkCard { mac, link: model::CardLink::User, forwards, port: None }
    }

    /// A filter that works or not.
    #[derive(Debug)]
    struct Filter(bool);

    impl LoopbackFilter for Filter {
        fn check(&self) -> Result<(), FilterError> {
            if self.0 { Ok(()) } else { Err(FilterError::Load("Operation not permitted".into())) }
        }

        fn attach(&self, _: &Path, _: Option<NameServerAlias>) -> Result<(), FilterError> {
            self.check()
        }
    }

    fn passt(is_confined: bool) -> UsablePasst {
        UsablePasst { program: "/usr/bin/passt".into(), is_confined }
    }

    #[test]
    fn the_command_keeps_the_guest_from_the_hosts_loopback() {
        let server = Some(Ipv4Addr::new(127, 0, 0, 53));
        let card = card(&["2222:22", "0.0.0.0:5353:53/udp"]);
        let helper = helper(passt(true), &card, server, Vec::new());
        assert_eq!(
            helper.args.join(" "),
            "--quiet --fd {fd} --no-map-gw --address 10.0.2.15 --netmask 24 --gateway 10.0.2.2 --dns 10.0.2.3 \
             --dns-forward 10.0.2.3 --dns-host 127.0.0.53 --tcp-ports 127.0.0.1/2222:22 --udp-ports 0.0.0.0/5353:53"
        );
        assert_eq!(helper.loopback, Loopback::Open);
    }

    #[test]
    fn the_kernel_keeps_it_where_passt_does_not() {
        let of = |server: Option<[u8; 4]>| {
            let helper = helper(passt(false), &card(&[]), server.map(Into::into), Vec::new());
            let dns = helper.args.join(" ");
            let dns = dns.split_once("10.0.2.2 ").unwrap().1.split_once("--tcp").unwrap().0;
            (dns.trim().to_owned(), helper.loopback)
        };
        let real = [127, 0, 0, 53];
        let alias = NameServerAlias { alias: Ipv4Addr::new(10, 0, 2, 3), real: real.into() };
        let closed = |name_server| Loopback::Closed { name_server };
        assert_eq!(of(Some(real)), ("--dns 10.0.2.3".into(), closed(Some(alias))));
        assert_eq!(of(Some([192, 0, 2, 1])), ("--dns 192.0.2.1".into(), closed(None)));
        assert_eq!(of(None), (String::new(), closed(None)));
    }

    #[test]
    fn without_forwards_nothing_is_listened_on() {
        let helper = helper(passt(true), &card(&[]), None, Vec::new());
        assert!(!helper.args.iter().any(|argument| argument.starts_with("--dns")));
        assert!(helper.args.join(" ").ends_with("--tcp-ports none --udp-ports none"));
    }

    #[test]
    fn a_version_without_protection_needs_cgroups_and_the_filter() {
        let root = tempfile::tempdir().unwrap();
        let expect =
            |works: &'static Filter| Passt::new(works).expect_filter(root.path(), "passt x");
        let error = expect(&Filter(true)).unwrap_err().to_string();
        assert!(error.contains("loopback") && error.contains("proc/self/mountinfo"), "{error}");
        let own = root.path().join("proc/self");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("mountinfo"), "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
            .unwrap();
        fs::write(own.join("cgroup"), "0::/\n").unwrap();
        expect(&Filter(true)).unwrap();
        let error = expect(&Filter(false)).unwrap_err().to_string();
        assert!(error.contains("passt x") && error.contains("Operation not permitted"), "{error}");
    }

    #[test]
    fn a_version_without_protection_forwards_no_udp_port() {
        let expect = |forwards: &[&str]| expect_no_udp("passt x", card(forwards).forwards.iter());
        expect(&["2222:22"]).unwrap();
        let error = expect(&["2222:22", "5353:53/udp"]).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:5353:53/udp"), "{error}");
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
