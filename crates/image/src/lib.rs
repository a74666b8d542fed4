//! Imports disk images, kernel bundles and container images from untrusted sources.
//!
//! A source is untrusted: it may be a link out of its directory, a device node, a disk whose header names another file
//! of the host, or change while it is read. So it is opened beneath a configured directory and copied, and the check of
//! the copy decides. The format is declared by the importer and never probed: a file that is declared raw but begins
//! like a qcow2 file is a raw disk with these bytes.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod budget;
mod cancel;
mod container_error;
mod copy;
mod erofs;
mod error;
pub mod ext4;
pub mod initrd;
pub mod kernel;
mod kernels;
mod layer_problem;
mod layers;
mod limits;
mod make;
pub mod oci;
pub mod qcow2;
mod source;
mod store;
mod target;
mod tool;
pub mod unpack;
mod volumes;

pub use budget::{Admission, Allowance, Budget};
pub use cancel::Cancel;
pub use container_error::ContainerError;
pub use erofs::{Found, FoundKind, Image as RootImage};
pub use error::ImageError;
pub use kernels::{KernelSource, ReadyKernel, version as kernel_version};
pub use layer_problem::LayerProblem;
pub use layers::{Layer, build as build_root, digest};
pub use limits::{Limits, RESERVE};
pub use make::Recipe;
pub use source::Source;
pub use store::{Files, Imported, Parts, Store};
pub use target::Received;
pub use tool::Tool;
pub use volumes::{NewVolume, Volumes};
