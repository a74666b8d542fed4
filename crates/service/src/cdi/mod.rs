//! Container Device Interface (CDI): spec files of claims, and their keeper.

mod files;
mod folder;
mod keeper;
mod spec;

pub use files::{Listed, clean, list, missing, names};
pub use folder::{File, Folder, STATIC, USUAL};
pub use keeper::Keeper;
pub use spec::spec;
