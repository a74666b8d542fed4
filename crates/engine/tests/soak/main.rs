//! Histories of concurrent claims, crashes, faults, hardware that goes and other tools that meddle, each from one
//! number. A history that ends ill is printed with its number, is the same when it is played again, and is shrunk.

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
