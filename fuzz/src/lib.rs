//! Fuzz targets: one function per reader of foreign input.
//!
//! Two drivers use the same list: [`driver`], which needs nothing, and `libfuzzer/`, with cargo-fuzz. A target does not only
//! look for panics: it checks what must hold for everything that the reader accepts.

pub mod driver;
mod kind;
pub mod seeds;
mod targets;

pub use kind::Kind;
pub use targets::TARGETS;

/// One reader of foreign input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its directory of seeds, and for the command line.
    pub name: &'static str,
    /// What it reads, for a list.
    pub reads: &'static str,
    /// Reads an input, and panics if the reader does something wrong.
    pub read: fn(&[u8]) -> Kind,
    /// Words of the format, which a mutation inserts.
    pub words: &'static [&'static str],
    /// The longest input.
    pub longest: usize,
}

/// The target with this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
