//! The instructions of the filter's programs: what they refuse, as a pure function.
//!
//! A program gets `struct bpf_sock_addr` (include/uapi/linux/bpf.h), whose addresses and port are in network byte order. It
//! returns 1 to let the call through, and 0 to refuse it with `EPERM`. It may replace the address.

use model::NameServerAlias;

use crate::sys::bpf::{Hook, Instruction};

/// Fields of `struct bpf_sock_addr`: `user_ip4`, the four words of `user_ip6`, `user_port`.
const ADDRESS4: i16 = 4;
const ADDRESS6: [i16; 4] = [8, 12, 16, 20];
const PORT: i16 = 24;

/// The answer, the context, and two registers to calculate in.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const A: u8 = 2;
const B: u8 = 3;

/// The first octet of IPv4's loopback addresses.
const LOOPBACK: u32 = 127;

/// An operation, which is one instruction.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// Reads a word of the context.
    Read(u8, i16),
    /// Replaces a word of the context.
    Write(i16, u8),
    /// Converts a value of 16 or 32 bits from network byte order.
    FromNetwork(u8, i32),
    /// Sets a register.
    Set(u8, i32),
    /// A bitwise "or" with another register.
    Or(u8, u8),
    /// Keeps the upper octet of 32 bits.
    Upper(u8),
    /// Goes on elsewhere if the lower 32 bits compare like this with a number (Linux 5.1).
    If(u8, Test, u32, To),
    /// Goes on elsewhere.
    Go(To),
}
use Operation::{FromNetwork, Go, If, Or, Read, Set, Upper, Write};

#[derive(Clone, Copy, Debug)]
enum Test {
    Is,
    IsNot,
    IsAbove,
}
use Test::{Is, IsAbove, IsNot};

/// Where to go on. A program that has no more operations allows the call.
#[derive(Clone, Copy, Debug)]
enum To {
    Allow,
    Refuse,
    /// Behind this many operations.
    Behind(i16),
}
use To::{Allow, Behind, Refuse};

/// The program for a hook; `None` if this hook needs none.
pub fn program(hook: Hook, alias: Option<NameServerAlias>) -> Option<Vec<Instruction>> {
    let operations = match (hook, alias) {
        (Hook::Connect4 | Hook::Send4, alias) => to_ipv4(alias),
        (Hook::Connect6 | Hook::Send6, _) => to_ipv6(),
        (Hook::Receive4, Some(alias)) => from_ipv4(alias),
        (Hook::Receive4, None) => return None,
    };
    Some(assembled(&operations))
}

/// Sends the alias to the name server, and refuses 127.0.0.0/8 and 0.0.0.0.
fn to_ipv4(alias: Option<NameServerAlias>) -> Vec<Operation> {
    let mut operations = vec![Read(A, ADDRESS4), FromNetwork(A, 32)];
    if let Some(NameServerAlias { alias, real }) = alias {
        let replaced = [
            Read(B, PORT),
            FromNetwork(B, 16),
            If(B, IsNot, NameServerAlias::PORT.into(), Allow),
            Set(B, i32::from_ne_bytes(real.octets())),
            Write(ADDRESS4, B),
            Go(Allow),
        ];
        operations.push(If(A, IsNot, alias.into(), Behind(replaced.len() as i16)));
        operations.extend(replaced);
    }
    operations.extend(refuse_loopback(A));
    operations
}

/// Refuses these IPv4 addresses, and allows others.
const fn refuse_loopback(address: u8) -> [Operation; 3] {
    [If(address, Is, 0, Refuse), Upper(address), If(address, Is, LOOPBACK, Refuse)]
}

/// Refuses ::1, ::, and the IPv4 addresses above in their mapped form (::ffff:127.0.0.1).
fn to_ipv6() -> Vec<Operation> {
    let [first, second, third, fourth] = ADDRESS6;
    let unmapped = [If(A, IsNot, 0, Allow), If(B, IsAbove, 1, Allow), Go(Refuse)];
    let mut operations = vec![
        Read(A, first),
        Read(B, second),
        Or(A, B),
        If(A, IsNot, 0, Allow),
        Read(A, third),
        FromNetwork(A, 32),
        Read(B, fourth),
        FromNetwork(B, 32),
        If(A, Is, 0xffff, Behind(unmapped.len() as i16)),
    ];
    operations.extend(unmapped);
    operations.extend(refuse_loopback(B));
    operations
}

/// Gives the name server's answers the alias as their source. Nothing can be refused here.
fn from_ipv4(NameServerAlias { alias, real }: NameServerAlias) -> Vec<Operation> {
    vec![
        Read(A, ADDRESS4),
        FromNetwork(A, 32),
        If(A, IsNot, real.into(), Allow),
        Read(B, PORT),
        FromNetwork(B, 16),
        If(B, IsNot, NameServerAlias::PORT.into(), Allow),
        Set(B, i32::from_ne_bytes(alias.octets())),
        Write(ADDRESS4, B),
    ]
}

/// The instructions, with the ends to which the operations go. The kernel accepts no instruction that is never reached.
fn assembled(operations: &[Operation]) -> Vec<Instruction> {
    const EXIT: Instruction = instruction(0x95, 0, 0, 0, 0);
    let count = operations.len() as i16;
    let mut refuses = false;
    let mut code: Vec<Instruction> = Vec::new();
    for (position, operation) in (1..).zip(operations) {
        let mut distance = |to: To| match to {
            Allow => count - position,
            Refuse => {
                refuses = true;
                count - position + 2
            }
            Behind(operations) => operations,
        };
        // The numbers are in include/uapi/linux/bpf.h and bpf_common.h: class, size or operation, source.
        code.push(match *operation {
            Read(to, field) => instruction(0x61, to, CONTEXT, field, 0),
            Write(field, from) => instruction(0x63, CONTEXT, from, field, 0),
            FromNetwork(of, bits) => instruction(0xdc, of, 0, 0, bits),
            Set(to, number) => instruction(0xb7, to, 0, 0, number),
            Or(to, other) => instruction(0x4f, to, other, 0, 0),
            Upper(of) => instruction(0x77, of, 0, 0, 24),
            Go(to) => instruction(0x05, 0, 0, distance(to), 0),
            If(of, test, number, to) => {
                let code = match test {
                    Is => 0x16,
                    IsNot => 0x56,
                    IsAbove => 0x26,
                };
                instruction(code, of, 0, distance(to), number.cast_signed())
            }
        });
    }
    code.extend([instruction(0xb7, ANSWER, 0, 0, 1), EXIT]);
    if refuses {
        code.extend([instruction(0xb7, ANSWER, 0, 0, 0), EXIT]);
    }
    code
}

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
    Instruction { code, registers, offset, immediate }
}
