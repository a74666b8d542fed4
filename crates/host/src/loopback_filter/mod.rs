//! Keeps the processes of a cgroup from this host's loopback addresses, by BPF programs that the kernel runs when their
//! sockets are connected or send datagrams.
//!
//! Versions of passt before May 2025 forward a guest's packets to any destination. Root in the guest
//! chooses it, so 127.0.0.1 of the guest's packets was 127.0.0.1 of the host. The kernel knows a socket's cgroup from its
//! creation on, and the programs go with the cgroup.

mod code;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;

use model::{FilterError, LoopbackFilter, NameServerAlias};
use rustix::fs::{Mode, OFlags};

use crate::problem;
use crate::sys::bpf::{Hook, Program};

/// The programs' name, as `bpftool cgroup tree` shows it.
const NAME: &str = "handover_lo";

const HOOKS: [Hook; 5] = [Hook::Connect4, Hook::Connect6, Hook::Send4, Hook::Send6, Hook::Receive4];

/// Any port: connecting a UDP socket sends nothing.
const DISCARD: u16 = 9;

/// The filter of the running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelFilter;

impl LoopbackFilter for KernelFilter {
    fn check(&self) -> Result<(), FilterError> {
        let (alias, real) = (Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::LOCALHOST);
        programs(Some(NameServerAlias { alias, real })).map(drop)
    }

    fn attach(&self, cgroup: &Path, alias: Option<NameServerAlias>) -> Result<(), FilterError> {
        let programs = programs(alias)?;
        let failed = |reason: String| FilterError::Attach { cgroup: cgroup.to_owned(), reason };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory: OwnedFd = rustix::fs::open(cgroup, flags, Mode::empty())
            .map_err(|errno| failed(problem::words(errno)))?;
        for program in programs {
            program.attach(&directory).map_err(|error| failed(words(&error)))?;
        }
        expect_effect()
            .map_err(|reason| FilterError::NoEffect { cgroup: cgroup.to_owned(), reason })
    }
}

/// Loads the programs.
fn programs(alias: Option<NameServerAlias>) -> Result<Vec<Program>, FilterError> {
    let needed = HOOKS.into_iter().filter_map(|hook| Some((hook, code::program(hook, alias)?)));
    needed
        .map(|(hook, code)| Program::load(NAME, hook, &code))
        .collect::<io::Result<_>>()
        .map_err(|error| FilterError::Load(words(&error)))
}

/// Checks the filter in this process, which is in the cgroup. It has no effect there if the sockets belong to another cgroup:
/// before Linux 5.15, to the root if net_cls or net_prio of cgroup version 1 are used (commit 8520e224f547).
fn expect_effect() -> Result<(), String> {
    let refused = |socket: io::Result<UdpSocket>, to: &str| {
        let socket = match socket {
            // This kernel has no IPv6.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(()),
            socket => socket.map_err(|error| format!("cannot open a socket: {}", words(&error)))?,
        };
        match socket.connect((to, DISCARD)) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
            Err(error) => Err(format!("a socket for {to} was not refused: {}", words(&error))),
            Ok(()) => Err(format!("a socket was connected to {to}")),
        }
    };
    refused(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)), "127.0.0.1")?;
    refused(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)), "::1")
}

/// The text of an error, without its number.
fn words(error: &io::Error) -> String {
    rustix::io::Errno::from_io_error(error).map_or_else(|| error.to_string(), problem::words)
}

#[cfg(test)]
mod tests;
