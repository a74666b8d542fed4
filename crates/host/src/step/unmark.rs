//! Removing the mark of a claim.

use model::{Address, HostError, Mark, Observed};
use rustix::io::Errno;

use super::mark::{MarkState, NAME, is_unsupported, open, path, state};
use crate::function_files::directory;
use crate::problem;
use crate::root::Root;

/// Whether the function no longer has that claim's mark.
pub fn observe(root: &Root, address: Address, mark: &Mark) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match state(root, &dir, address)? {
        MarkState::Absent | MarkState::Unsupported(_) => Observed::After,
        MarkState::Claim(found) if found.is_same_claim(mark) => Observed::Before,
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
