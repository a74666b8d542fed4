//! The host's CPUs and memory.

use model::{Capacity, HostError};
use rustix::io::Errno;

use crate::problem;
use crate::root::Root;

const ONLINE: &str = "sys/devices/system/cpu/online";
const MEMINFO: &str = "proc/meminfo";

/// Reads the online CPUs and the memory.
pub fn read(root: &Root) -> Result<Capacity, HostError> {
    let text = |path| root.text(path).map_err(|errno| problem::file(root, "read", path, errno));
    let malformed = |path, reason| problem::because(root, "parse", path, Errno::INVAL, reason);
    let cpus = count(&text(ONLINE)?).ok_or_else(|| malformed(ONLINE, "not a list of CPUs"))?;
    let meminfo = text(MEMINFO)?;
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 =
            line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    let memory = field("MemTotal").ok_or_else(|| malformed(MEMINFO, "no MemTotal line"))?;
    // MemAvailable exists since Linux 3.14.
    Ok(Capacity { cpus, memory, memory_available: field("MemAvailable").unwrap_or(0) })
}

/// The number of entries in a list such as `0-3,8,10-11`.
fn count(list: &str) -> Option<u32> {
    list.split(',').try_fold(0u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_the_kernel_lists() {
        assert_eq!(count("0-3,8,10-11"), Some(7));
        assert_eq!(count("0"), Some(1));
        for odd in ["", "3-0", "a", "0-4294967295", "1-"] {
            assert_eq!(count(odd), None, "{odd}");
        }
    }
}
