//! Why an initial ramdisk cannot be made.

use std::io;

/// Why an initial ramdisk cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// The kernel has not what is needed to reach the root.
    #[error(
        "the kernel has no module {name:?}, neither built in nor as a file, and a machine from a container image cannot boot without it: use another kernel with `--kernel`, or install its modules"
    )]
    ModuleMissing {
        /// The module's name.
        name: &'static str,
    },
    /// A file that another one names is not there.
    #[error(
        "the kernel's modules have no file {path:?}, which their modules.dep names: run `depmod`"
    )]
    FileMissing {
        /// The path below the directory of modules.
        path: String,
    },
    /// The init is no executable that a ramdisk without libraries can start.
    #[error(
        "`handover-guest`, the init of machines from container images, {problem}: no kernel could start it"
    )]
    BadInit {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Something is too large.
    #[error("{path:?} is larger than {most} bytes, which no kernel needs")]
    TooLarge {
        /// The path below the directory of modules.
        path: String,
        /// The bound.
        most: usize,
    },
    /// A file cannot be decompressed.
    #[error("the module {path:?} cannot be decompressed: {reason}")]
    Compression {
        /// The path below the directory of modules.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file cannot be read.
    #[error("cannot read the kernel's module file {path:?}: {source}")]
    Read {
        /// The path below the directory of modules.
        path: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the initial ramdisk: {0}")]
    Write(#[from] io::Error),
}
