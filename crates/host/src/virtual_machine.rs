//! Whether the host is a virtual machine.

use crate::root::Root;

/// The flag of a processor that a hypervisor runs (CPUID.1:ECX.31).
pub const FLAG: &str = "hypervisor";

/// The most that is read of a long file: it has some lines for each processor.
const LIMIT: usize = 16 << 20;

/// Whether the processors' flags say so. False if they cannot be read.
pub fn is_one(root: &Root) -> bool {
    let bytes = root.bytes("proc/cpuinfo", LIMIT).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_ascii_whitespace().any(|flag| flag == FLAG))
}
