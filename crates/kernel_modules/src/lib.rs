//! A kernel's modules: which ones a device needs, in which order they are loaded, and with which options.
//!
//! All texts can come from a container image, so they are untrusted: nothing here fails on them, and nothing is endless.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods))]

mod compression;
mod index;
mod pattern;
mod settings;

pub use compression::{CompressionError, decompressed, is_compressed};
pub use index::{Index, Texts, module_name};
pub use settings::Settings;

/// A module's name has `_` where its file may have `-`.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}
