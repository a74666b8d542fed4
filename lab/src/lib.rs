//! The lab: an emulated passthrough host with real VFIO, for a machine without GPU, IOMMU and KVM.
//!
//! L1 is the emulated host; L2 is a machine in it, with a passed-through device. A program boots L1 once and runs many
//! commands in it:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let lab = lab::Lab::boot("workstation")?;
//! let output = lab.exec("lspci -nnk")?;
//! assert_eq!(output.status, 0);
//! let port = lab.forward(0, "127.0.0.1:8080")?;
//! # Ok(())
//! # }
//! ```

pub mod agent;
pub mod cache;
pub mod cpio;
pub mod folder;
pub mod gpu;
pub mod images;
mod lab;
pub mod machine;
pub mod mirror;
pub mod packages;
mod process;
pub mod progress;
pub mod resident;
pub mod topology;
pub mod tree;

pub use lab::{Lab, Options, Output};
