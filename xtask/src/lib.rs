//! The project's own chores: documents made from the code, the contract of a host, benchmarks.

pub mod bench;
pub mod contract;
pub mod errors;
pub mod release;
#[cfg(feature = "docs")]
pub mod schema;
pub mod tree;
