//! The programs' decisions, by an interpreter of the few instructions that they use; and by the kernel, where the test may
//! create cgroups and load programs.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::sys::bpf::Instruction;

const ALIAS: NameServerAlias =
    NameServerAlias { alias: Ipv4Addr::new(10, 0, 2, 3), real: Ipv4Addr::new(127, 0, 0, 53) };

/// `struct bpf_sock_addr` for an address, as bytes.
fn context(address: SocketAddr) -> [u8; 28] {
    let mut context = [0; 28];
    match address.ip() {
        IpAddr::V4(ip) => context[4..8].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => context[8..24].copy_from_slice(&ip.octets()),
    }
    context[24..26].copy_from_slice(&address.port().to_be_bytes());
    context
}

/// Runs a program: its answer. It changes the context.
fn run(code: &[Instruction], context: &mut [u8; 28]) -> u64 {
    let mut registers = [0_u64; 11];
    let mut at = 0;
    // No jump goes backwards.
    for _ in 0..=code.len() {
        let Instruction { code, registers: two, offset, immediate } = code[at];
        let (to, from) = ((two & 15) as usize, (two >> 4) as usize);
        let field = offset as usize;
        let lower = registers[to] as u32;
        let mut jump = false;
        match code {
            0x61 => {
                assert_eq!(from, 1, "only the context is read");
                let word = context[field..field + 4].try_into().unwrap();
                registers[to] = u32::from_ne_bytes(word).into();
            }
            0x63 => {
                assert_eq!(to, 1, "only the context is written");
                let word = (registers[from] as u32).to_ne_bytes();
                context[field..field + 4].copy_from_slice(&word);
            }
            0xdc if immediate == 32 => registers[to] = u32::from_be(lower).into(),
            0xdc if immediate == 16 => registers[to] = u16::from_be(lower as u16).into(),
            0xb7 => registers[to] = i64::from(immediate).cast_unsigned(),
            0x4f => registers[to] |= registers[from],
            0x77 => registers[to] >>= immediate,
            0x05 => jump = true,
            0x16 => jump = lower == immediate.cast_unsigned(),
            0x56 => jump = lower != immediate.cast_unsigned(),
            0x26 => jump = lower > immediate.cast_unsigned(),
            0x95 => return registers[0],
            other => panic!("unknown instruction {other:#x}"),
        }
        at += 1;
        if jump {
            assert!(offset >= 0);
            at += field;
        }
    }
    panic!("the program does not end");
}

/// Whether the programs for an address allow it, and the address that they make of it.
fn decision(address: SocketAddr, alias: Option<NameServerAlias>) -> (bool, SocketAddr) {
    let hooks = match address {
        SocketAddr::V4(_) => [Hook::Connect4, Hook::Send4],
        SocketAddr::V6(_) => [Hook::Connect6, Hook::Send6],
    };
    let [connect, send] = hooks.map(|hook| {
        let mut context = context(address);
        let answer = run(&code::program(hook, alias).unwrap(), &mut context);
        assert!(answer <= 1, "the kernel accepts no other answer");
        let mut result = address;
        if let SocketAddr::V4(address) = &mut result {
            let octets: [u8; 4] = context[4..8].try_into().unwrap();
            address.set_ip(octets.into());
        }
        (answer == 1, result)
    });
    assert_eq!(connect, send, "TCP and UDP have the same rules");
    connect
}

/// What an address leads to, in other words than the program's.
fn is_loopback(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

fn expect_right(address: SocketAddr) {
    assert_eq!(decision(address, None), (!is_loopback(address.ip()), address), "{address}");
    let right = if address == SocketAddr::new(ALIAS.alias.into(), 53) {
        (true, SocketAddr::new(ALIAS.real.into(), 53))
    } else {
        (!is_loopback(address.ip()), address)
    };
    assert_eq!(decision(address, Some(ALIAS)), right, "{address}");
}

#[test]
fn loopback_addresses_are_refused_in_each_form() {
    for (ip, refused) in [
        ("127.0.0.0", true),
        ("127.0.0.1", true),
        ("127.0.0.53", true),
        ("127.255.255.255", true),
        ("0.0.0.0", true),
        ("126.255.255.255", false),
        ("128.0.0.0", false),
        ("0.0.0.1", false),
        ("10.0.2.3", false),
        ("1.0.0.127", false),
        ("255.255.255.255", false),
        ("::", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("::ffff:127.255.0.2", true),
        ("::ffff:0.0.0.0", true),
        ("::ffff:128.0.0.1", false),
        ("::ffff:192.0.2.1", false),
        ("::2", false),
        ("::127.0.0.1", false),
        ("::1:127.0.0.1", false),
        ("1::1", false),
        ("0:1::1", false),
        ("0:0:1::1", false),
        ("0:0:0:1::1", false),
        ("0:0:0:1:0:ffff:127.0.0.1", false),
        ("fe80::1", false),
        ("2001:db8::7f00:1", false),
    ] {
        let ip: IpAddr = ip.parse().unwrap();
        assert_eq!(decision(SocketAddr::new(ip, 80), None).0, !refused, "{ip}");
        for port in [0, 53, 80, 65535] {
            expect_right(SocketAddr::new(ip, port));
        }
    }
}

#[test]
fn answers_of_the_name_server_come_from_its_alias() {
    let from = |address: &str| {
        let mut context = context(address.parse().unwrap());
        let code = code::program(Hook::Receive4, Some(ALIAS)).unwrap();
        assert_eq!(run(&code, &mut context), 1, "the kernel accepts no other answer");
        let [a, b, c, d] = context[4..8].try_into().unwrap();
        Ipv4Addr::new(a, b, c, d).to_string()
    };
    assert_eq!(from("127.0.0.53:53"), "10.0.2.3");
    assert_eq!(from("127.0.0.53:54"), "127.0.0.53");
    assert_eq!(from("127.0.0.54:53"), "127.0.0.54");
    assert_eq!(from("192.0.2.1:53"), "192.0.2.1");
    assert_eq!(code::program(Hook::Receive4, None), None);
}

/// Any address, with a preference for those near the limits.
fn any_ip() -> impl Strategy<Value = IpAddr> {
    let word = || prop_oneof![Just(0_u16), Just(1), Just(0xffff), Just(0x7f00), any::<u16>()];
    let four = prop_oneof![any::<u32>(), (any::<u32>().prop_map(|n| n & 0xff_ffff | 0x7f00_0000))];
    let six = proptest::array::uniform8(word()).prop_map(|words| IpAddr::V6(words.into()));
    let mapped = four.clone().prop_map(|n| IpAddr::V6(Ipv4Addr::from(n).to_ipv6_mapped()));
    prop_oneof![four.prop_map(|n| IpAddr::V4(n.into())), six, mapped, any::<IpAddr>()]
}

proptest! {
    #[test]
    fn any_other_address_is_allowed(ip in any_ip(), port in prop_oneof![Just(53), any::<u16>()]) {
        expect_right(SocketAddr::new(ip, port));
    }
}

/// The variable by which a test tells its child process the cgroup to enter.
const CGROUP: &str = "HANDOVER_TEST_CGROUP";

/// A new cgroup, if this process may create one and load programs.
fn cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let name = format!("handover-test-{}", std::process::id());
    let group = PathBuf::from(line.split(' ').nth(1)?).join(own).join(name);
    KernelFilter.check().ok()?;
    fs::create_dir(&group).ok()?;
    Some(group)
}

#[test]
fn the_kernel_keeps_a_cgroup_from_loopback() {
    let Some(group) = cgroup() else {
        println!("SKIPPED: needs bpf(2) and a cgroup of its own");
        return;
    };
    // The child runs the test below. This process stays outside: other tests in it use the network.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "loopback_filter::tests::inside_a_cgroup", "--nocapture"])
        .env(CGROUP, &group)
        .output()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = TcpStream::connect(listener.local_addr().unwrap());
    let removed = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        fs::remove_dir(&group).is_ok()
    });
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(outside.is_ok(), "the filter reaches beyond its cgroup: {outside:?}");
    assert!(removed, "the programs do not go with the cgroup");
}

/// The part of the test above in its child process; nothing otherwise.
#[test]
fn inside_a_cgroup() {
    let Some(group) = std::env::var_os(CGROUP) else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    // As root, port 53 of an unusual loopback address is nearly always free.
    let real = Ipv4Addr::new(127, 9, 53, 53);
    let names = UdpSocket::bind((real, 53)).ok();
    let group = PathBuf::from(group);
    fs::write(group.join("cgroup.procs"), "0").unwrap();
    KernelFilter.attach(&group, Some(NameServerAlias { real, ..ALIAS })).unwrap();

    let refused = |to: &str| {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        let tcp = TcpStream::connect(to).unwrap_err().kind();
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        let sent = socket.send_to(b"text", to).unwrap_err().kind();
        let connected = socket.connect(to).unwrap_err().kind();
        assert_eq!([tcp, sent, connected], [ErrorKind::PermissionDenied; 3], "{to}");
    };
    ["127.0.0.1", "127.0.0.2", "0.0.0.0"].into_iter().for_each(refused);
    if UdpSocket::bind("[::]:0").is_ok() {
        ["::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"].into_iter().for_each(refused);
    }
    let others = UdpSocket::bind("0.0.0.0:0").unwrap();
    let elsewhere = others.connect("192.0.2.1:9").map_err(|error| error.kind());
    assert_ne!(elsewhere, Err(ErrorKind::PermissionDenied));
    if let Some(names) = names {
        asks_the_name_server(&names);
    }
}

/// A question to the alias reaches the name server, and its answer comes from the alias.
fn asks_the_name_server(names: &UdpSocket) {
    let patience = Some(Duration::from_secs(10));
    names.set_read_timeout(patience).unwrap();
    let mut text = [0; 16];
    let alias = SocketAddr::new(ALIAS.alias.into(), 53);
    let client = UdpSocket::bind("0.0.0.0:0").unwrap();
    client.set_read_timeout(patience).unwrap();
    client.send_to(b"question", alias).unwrap();
    let (length, asker) = names.recv_from(&mut text).unwrap();
    assert_eq!(&text[..length], b"question");
    // This socket is older than the process's entry, so it belongs to the cgroup outside, like a real name server's.
    names.send_to(b"answer", asker).unwrap();
    let (length, from) = client.recv_from(&mut text).unwrap();
    assert_eq!((&text[..length], from), (&b"answer"[..], alias));
}
