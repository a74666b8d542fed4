//! Taking the mark of a claim away.

use model::{Address, HostError, Mark, Observed};
use rustix::io::Errno;

use super::mark::{NAME, There, is_unsupported, open, path, there};
use crate::function_files::directory;
use crate::problem;
use crate::root::Root;

/// Whether that claim's mark is gone.
pub fn observe(root: &Root, address: Address, mark: &Mark) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match there(root, &dir, address)? {
        There::No | There::Unsupported(_) => Observed::After,
        There::Claim(there) if there.is_same_claim(mark) => Observed::Before,
        other => Observed::Other(other.describe(root, address)),
    })
}

/// Removes it.
pub fn remove(root: &Root, address: Address) -> Result<(), HostError> {
    let Some(dir) = directory(root, address)? else { return Err(HostError::Gone { address }) };
    let removed = open(&dir).and_then(|file| rustix::fs::fremovexattr(&file, NAME));
    match removed {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(errno) if is_unsupported(errno) => Ok(()),
        Err(errno) => Err(problem::file(root, format!("remove {NAME} of"), &path(address), errno)),
    }
}
