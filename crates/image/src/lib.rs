//! Disk images and kernel bundles, from untrusted files to root disks.
//!
//! A source is untrusted: it may be a link out of its directory, a device node, a disk whose header names another file
//! of the host, or change while it is read. So it is opened beneath a configured directory, copied, and what counts is
//! the check of the copy. A format is what the importer says it is and is never probed: a file that is declared raw and
//! begins like a qcow2 is a raw disk with these bytes on it.

mod copy;
mod error;
mod kernel;
mod qcow2;
mod source;
mod store;

pub use error::ImageError;
pub use source::Source;
pub use store::{Files, Imported, Parts, Store};
