//! The lab: a passthrough host with real VFIO, emulated, for a machine without a GPU, an IOMMU or KVM.
//!
//! L1 is the emulated host; L2 is a machine that runs in it, with a device handed to it. A program boots L1 once and
//! runs many commands in it:
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
