//! BPF programs that see the addresses of sockets (`BPF_PROG_TYPE_CGROUP_SOCK_ADDR`): load, and attach to a cgroup.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use super::{NAME, bpf, invalid, number, padded};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;

const CGROUP_SOCK_ADDR: u32 = 18;
/// `BPF_F_ALLOW_MULTI`: beside the programs of others, in this cgroup and in those above and below.
const ALLOW_MULTI: u32 = 1 << 1;

/// The program calls no function of the kernel, so any licence will do.
const LICENSE: &CStr = c"MIT OR Apache-2.0";

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u8,
    /// The destination's register in the lower four bits, the source's in the upper ones; the other way around on a
    /// big-endian machine.
    pub registers: u8,
    /// A distance in instructions or bytes.
    pub offset: i16,
    /// A constant.
    pub immediate: i32,
}

/// Where the kernel runs a program (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// connect(2) to an IPv4 address.
    Connect4,
    /// connect(2) to an IPv6 address.
    Connect6,
    /// sendmsg(2) and the like with an IPv4 address, by UDP.
    Send4,
    /// sendmsg(2) and the like with an IPv6 address, by UDP.
    Send6,
    /// recvmsg(2) and the like from an IPv4 address, by UDP (Linux 5.2). A program cannot refuse it.
    Receive4,
}

impl Hook {
    const fn attach_type(self) -> u32 {
        match self {
            Self::Connect4 => 10,
            Self::Connect6 => 11,
            Self::Send4 => 14,
            Self::Send6 => 15,
            Self::Receive4 => 19,
        }
    }
}

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// A loaded program. It exists while it is open here or attached; the kernel sets `O_CLOEXEC`.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    hook: Hook,
}

impl Program {
    /// Loads a program for a hook.
    ///
    /// # Errors
    /// The kernel's: `EPERM` without `CAP_NET_ADMIN` and `CAP_BPF`, `EINVAL` if it has no such hook, `EACCES` if it does not
    /// accept the instructions.
    pub fn load(name: &str, hook: Hook, instructions: &[Instruction]) -> io::Result<Self> {
        let mut load = Load {
            kind: CGROUP_SOCK_ADDR,
            count: u32::try_from(instructions.len()).map_err(|_| invalid())?,
            instructions: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: padded(name)?,
            interface: 0,
            attach_type: hook.attach_type(),
        };
        // SAFETY: the kernel reads `count` instructions of eight bytes each, which is their layout, and the licence until
        // its zero byte. Both outlive the call.
        let fd = unsafe { bpf(PROG_LOAD, &mut load) }?;
        // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, hook })
    }

    /// Attaches it to a cgroup of the unified hierarchy, which is open here. It goes with the cgroup.
    ///
    /// # Errors
    /// The kernel's: `EBADF` if it is no such cgroup, `EPERM` if a program above it allows none below.
    pub fn attach(&self, cgroup: &impl AsFd) -> io::Result<()> {
        let mut attach = Attach {
            target: number(cgroup),
            program: number(&self.fd),
            kind: self.hook.attach_type(),
            flags: ALLOW_MULTI,
        };
        // SAFETY: the attributes contain no pointer.
        unsafe { bpf(PROG_ATTACH, &mut attach) }.map(drop)
    }
}
