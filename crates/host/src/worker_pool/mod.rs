//! The daemon's side of worker processes. A worker does what can block in the kernel; a stuck one can be abandoned.
//!
//! The executable starts itself again with the argument `worker` and calls [`crate::worker::main`] first. A request
//! comes over a socket as one message, together with the open file description that holds the lock of the device: if
//! the daemon dies, the lock stays held while the worker is inside the kernel, and the next daemon sees it.

mod pool;
mod process;
pub mod protocol;

pub use pool::{Failure, Missed, PoolConfig, WorkerPool};
pub use process::WorkerCommand;

pub(crate) use protocol::{Answer, Job, Request};
