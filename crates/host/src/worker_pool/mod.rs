//! The daemon's end of worker processes: what can block in the kernel is done by a process that may be left behind.
//!
//! The executable starts itself again with the argument `worker` and calls [`crate::worker::main`] first thing. A
//! request comes over a socket as one message, and with it the open file description that holds the lock of the device:
//! when the daemon dies, the lock stays held for as long as the worker is inside the kernel, and the next daemon sees it.

mod pool;
mod process;
pub(crate) mod protocol;

pub use pool::{Failure, Missed, PoolConfig, WorkerPool};
pub use process::WorkerCommand;

pub(crate) use protocol::{Answer, Job, Request};
