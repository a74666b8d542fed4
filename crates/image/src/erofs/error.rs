//! Why a file system cannot be built.

use crate::ImageError;
use crate::layer_problem::LayerProblem;

/// Why a file system cannot be built: what is built from is wrong, or the host cannot.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// What it is built from is wrong.
    #[error(transparent)]
    Problem(#[from] LayerProblem),
    /// The host cannot.
    #[error(transparent)]
    Image(#[from] ImageError),
}
