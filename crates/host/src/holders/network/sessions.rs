//! Sessions with file and storage servers: file systems, iSCSI, NVMe over TCP or RDMA, and network block devices.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Routes;
use crate::holders::disks::{LIMIT, unescape};
use crate::root::Root;

/// The port of the network block device protocol (IANA).
const NBD_PORT: u16 = 10809;

/// A session.
#[derive(Debug, PartialEq, Eq)]
pub struct Session {
    /// In words: `NFS / from 192.168.1.2`.
    pub user: String,
    /// The interfaces that it is over.
    pub interfaces: BTreeSet<String>,
}

/// The other end of a session.
#[derive(Debug, PartialEq, Eq)]
struct Peer {
    address: IpAddr,
    /// The interface that the session is bound to, if the kernel shows one.
    interface: Option<String>,
}

/// All sessions that the kernel has.
pub fn read(root: &Root, routes: &Routes) -> Vec<Session> {
    let mut sessions = Vec::new();
    let mut add = |what: String, peer: Peer| {
        let interfaces = match peer.interface {
            Some(interface) => BTreeSet::from([interface]),
            None => routes.reached_over(peer.address).into_iter().map(str::to_owned).collect(),
        };
        let user = format!("{what} from {}", peer.address);
        sessions.push(Session { user, interfaces });
    };
    mounts(root, &mut add);
    iscsi(root, &mut add);
    nvme(root, &mut add);
    nbd(root, &mut add);
    sessions
}

/// The file systems of servers, in our own mount namespace.
fn mounts(root: &Root, add: &mut impl FnMut(String, Peer)) {
    let table = root.bytes("proc/self/mountinfo", LIMIT).unwrap_or_default();
    for line in String::from_utf8_lossy(&table).lines() {
        if let Some((what, peers)) = mount(line) {
            peers.into_iter().for_each(|peer| add(what.clone(), peer));
        }
    }
}

/// A line of proc_pid_mountinfo(5) of such a file system, and its servers.
fn mount(line: &str) -> Option<(String, Vec<Peer>)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = file_system.split(' ');
    let kind = match fields.next()? {
        "nfs" | "nfs4" => "NFS",
        "cifs" | "smb3" | "smbfs" => "SMB",
        "ceph" => "Ceph",
        "9p" => "9P",
        _ => return None,
    };
    let (source, options) = (fields.next()?, fields.next().unwrap_or_default());
    let at = unescape(mount.split(' ').nth(4)?);
    let told = options.split(',').find_map(|option| option.strip_prefix("addr="));
    // Ceph's monitors, or the server before the path, which can also be a name.
    let peers: Vec<Peer> = match told.and_then(peer) {
        Some(peer) => vec![peer],
        None => source.split(',').filter_map(server).collect(),
    };
    Some((format!("{kind} {at}"), peers))
}

/// The server in a source: `192.0.2.1:/srv`, `[2001:db8::1]:/srv`, `192.0.2.1:6789:/`, `//192.0.2.1/share`.
fn server(source: &str) -> Option<Peer> {
    let source = source.trim_start_matches('/');
    let end = if source.starts_with('[') { source.find(']') } else { source.find([':', '/']) };
    peer(source.get(..end.unwrap_or(source.len()))?.trim_start_matches('['))
}

/// An address, with its interface if it is of one link: `192.0.2.1`, `fe80::1%eth0`.
fn peer(text: &str) -> Option<Peer> {
    let text = text.trim().trim_start_matches('[').trim_end_matches(']');
    let (address, interface) = match text.split_once('%') {
        Some((address, interface)) => (address, Some(interface.to_owned())),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    Some(Peer { address: address.to_canonical(), interface })
}

/// The connections of the software initiator (`iscsi_connection` in drivers/scsi/scsi_transport_iscsi.c).
fn iscsi(root: &Root, add: &mut impl FnMut(String, Peer)) {
    const DIR: &str = "sys/class/iscsi_connection";
    for name in root.names(DIR).unwrap_or_default() {
        let told = ["address", "persistent_address"].into_iter().find_map(|attribute| {
            peer(&root.attribute(&format!("{DIR}/{name}/{attribute}")).ok()?)
        });
        let Some(peer) = told else { continue };
        let number = name.strip_prefix("connection").and_then(|rest| rest.split(':').next());
        let target = number.and_then(|number| {
            root.attribute(&format!("sys/class/iscsi_session/session{number}/targetname")).ok()
        });
        let target = target.map(|target| format!(" {target}")).unwrap_or_default();
        add(format!("iSCSI{target}"), peer);
    }
}

/// The controllers of NVMe over Fabrics (`nvmf_get_address` in drivers/nvme/host/fabrics.c).
fn nvme(root: &Root, add: &mut impl FnMut(String, Peer)) {
    const DIR: &str = "sys/class/nvme";
    for name in root.names(DIR).unwrap_or_default() {
        let transport = root.attribute(&format!("{DIR}/{name}/transport")).unwrap_or_default();
        let over = match transport.as_str() {
            "tcp" => "TCP",
            "rdma" => "RDMA",
            _ => continue,
        };
        let Ok(text) = root.attribute(&format!("{DIR}/{name}/address")) else { continue };
        let value = |key: &str| {
            text.split(',').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='))
        };
        let Some(mut peer) = value("traddr").and_then(peer) else { continue };
        if let Some(interface) = value("host_iface") {
            peer.interface = Some(interface.to_owned());
        }
        add(format!("NVMe over {over} {name}"), peer);
    }
}

/// The servers of network block devices. The kernel shows the process that set one up, and that process's sockets show
/// the server; a process that has ended leaves the port.
fn nbd(root: &Root, add: &mut impl FnMut(String, Peer)) {
    if !root.exists("sys/module/nbd") {
        return;
    }
    let devices = root.names("sys/class/block").unwrap_or_default();
    let pid = |name: &String| {
        let text = root.attribute(&format!("sys/class/block/{name}/pid")).ok()?;
        Some((name.clone(), text.parse::<u32>().ok()?))
    };
    let connected: Vec<(String, u32)> =
        devices.iter().filter(|name| name.starts_with("nbd")).filter_map(pid).collect();
    if connected.is_empty() {
        return;
    }
    let connections = connections(root);
    for (name, pid) in connected {
        let own = sockets(root, pid);
        let by_process = || connections.iter().filter(|one| own.contains(&one.inode));
        let by_port = || connections.iter().filter(|one| one.port == NBD_PORT);
        let found: Vec<&Connection> = if by_process().next().is_some() {
            by_process().collect()
        } else {
            by_port().collect()
        };
        let peers: BTreeSet<IpAddr> = found.into_iter().map(|one| one.peer).collect();
        for address in peers {
            add(format!("network block device {name}"), Peer { address, interface: None });
        }
    }
}

/// The inodes of a process's sockets: `socket:[4711]`.
fn sockets(root: &Root, pid: u32) -> BTreeSet<u64> {
    let path = format!("proc/{pid}/fd");
    let open = root.names(&path).unwrap_or_default();
    let inode = |name: &String| {
        let target = root.link(&format!("{path}/{name}")).ok()?;
        target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    open.iter().filter_map(inode).collect()
}

/// An established TCP connection.
#[derive(Debug, PartialEq, Eq)]
struct Connection {
    peer: IpAddr,
    port: u16,
    inode: u64,
}

fn connections(root: &Root) -> Vec<Connection> {
    let mut all = Vec::new();
    for table in ["proc/net/tcp", "proc/net/tcp6"] {
        let text = root.bytes(table, LIMIT).unwrap_or_default();
        all.extend(String::from_utf8_lossy(&text).lines().skip(1).filter_map(connection));
    }
    all
}

/// A line of /proc/net/tcp (Documentation/networking/proc_net_tcp.rst): addresses in 32-bit words, as the processor
/// stores them.
fn connection(line: &str) -> Option<Connection> {
    /// `TCP_ESTABLISHED` in include/net/tcp_states.h.
    const ESTABLISHED: &str = "01";
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != ESTABLISHED {
        return None;
    }
    let (peer, port) = socket_address(fields.get(2)?)?;
    Some(Connection { peer: peer.to_canonical(), port, inode: fields.get(9)?.parse().ok()? })
}

/// An address and a port in such a line: `0201A8C0:2A39`.
pub fn socket_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |index: usize| {
        let part = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_be(u32::from_str_radix(part, 16).ok()?))
    };
    let address: IpAddr = if address.len() == 8 {
        Ipv4Addr::from(word(0)?).into()
    } else {
        let words = [word(0)?, word(1)?, word(2)?, word(3)?];
        Ipv6Addr::from(words.into_iter().fold(0u128, |bits, word| bits << 32 | u128::from(word)))
            .into()
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

/// The text of an address in such a line.
pub fn socket_address_text(address: IpAddr) -> String {
    let words: Vec<u32> = match address {
        IpAddr::V4(address) => vec![address.to_bits()],
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let word = |shift: u32| u32::try_from(bits >> shift & u128::from(u32::MAX));
            [96, 64, 32, 0].into_iter().filter_map(|shift| word(shift).ok()).collect()
        }
    };
    words.into_iter().map(|word| format!("{:08X}", word.to_be())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_server_of_a_mount_is_found_in_its_options_or_its_source() {
        let of = |line: &str| {
            let (what, peers) = mount(&format!("22 1 0:20 / /a\\040b rw - {line}")).unwrap();
            let peers = peers.into_iter().map(|peer| peer.address.to_string());
            (what, peers.collect::<Vec<_>>().join(" "))
        };
        let told = |what: &str, peers: &str| (format!("{what} /a b"), peers.to_owned());
        assert_eq!(of("nfs4 nas:/srv rw,vers=4.2,addr=192.0.2.2"), told("NFS", "192.0.2.2"));
        assert_eq!(of("nfs 192.0.2.2:/srv rw"), told("NFS", "192.0.2.2"));
        assert_eq!(of("nfs [2001:db8::2]:/srv rw"), told("NFS", "2001:db8::2"));
        assert_eq!(of("cifs //192.0.2.2/share rw,addr=192.0.2.2"), told("SMB", "192.0.2.2"));
        assert_eq!(
            of("ceph 192.0.2.2:6789,192.0.2.3:6789:/ rw"),
            told("Ceph", "192.0.2.2 192.0.2.3")
        );
        assert_eq!(of("nfs nas:/srv rw"), told("NFS", ""));
        assert_eq!(mount("22 1 8:1 / / rw - ext4 /dev/sda1 rw"), None);
        let (_, peers) =
            mount("22 1 0:1 / / rw - nfs4 [fe80::1%eth0]:/ rw,addr=fe80::1%eth0").unwrap();
        assert_eq!(peers[0].interface.as_deref(), Some("eth0"));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_connection_has_its_peer() {
        let v4 =
            "0: 0A00A8C0:D2E4 0201A8C0:2A39 01 00000000:00000000 00:00000000 00000000 0 0 4711 1 0";
        let found = connection(v4).unwrap();
        assert_eq!(
            (found.peer.to_string().as_str(), found.port, found.inode),
            ("192.168.1.2", 10809, 4711)
        );
        let v6 = v4.replace("0201A8C0", "B80D0120000000000000000002000000");
        assert_eq!(connection(&v6).unwrap().peer.to_string(), "2001:db8::2");
        assert_eq!(connection(&v4.replace(" 01 ", " 0A ")), None, "listening");
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "([0-9]{1,3} |/ | - |nfs |ceph |[0-9a-fA-F:.%\\[\\]]{0,20}[:/, ]|addr=|[0-9A-F]{8,32}:[0-9A-F]{4} |01 |.){0,16}") {
            let _ = (mount(&line), server(&line), peer(&line), connection(&line));
        }
    }
}
