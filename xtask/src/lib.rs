//! Project tasks: generated documents, the contract of a host, benchmarks.

pub mod bench;
pub mod contract;
pub mod errors;
#[cfg(feature = "docs")]
pub mod machine_schema;
pub mod release;
#[cfg(feature = "docs")]
pub mod schema;
pub mod tree;
