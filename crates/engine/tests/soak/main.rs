//! Random histories of concurrent claims, crashes, faults, hardware removal and interference by other tools, each
//! generated from a seed. A history that fails is reproducible, and is shrunk and printed with its seed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs
)]

mod history;
mod outside;
mod play;
mod search;
mod truth;
mod verbs;
mod world;
