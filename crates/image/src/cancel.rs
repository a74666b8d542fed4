//! Ending an import early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ImageError;

/// A request to end an import. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the import to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the import was asked to end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Fails if the import was asked to end.
    pub(crate) fn check(&self) -> Result<(), ImageError> {
        if self.is_set() { Err(ImageError::Cancelled) } else { Ok(()) }
    }
}
