//! What container tools are told of claims (Container Device Interface): the files, and who keeps them.

mod files;
mod folder;
mod keeper;
mod spec;

pub use files::{Listed, clean, list, missing, names};
pub use folder::{File, Folder, STATIC, USUAL};
pub use keeper::Keeper;
pub use spec::spec;
