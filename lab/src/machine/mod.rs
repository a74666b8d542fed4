//! L1 as a process: its QEMU command line, its devices' servers, its life.

pub mod argv;
pub mod process;

pub use process::Machine;
