//! L1 as a process: its QEMU command line, its devices' servers, start and end.

pub mod argv;
pub mod process;

pub use process::Machine;
