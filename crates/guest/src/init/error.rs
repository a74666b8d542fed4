//! Why a machine cannot be set up.

use std::io;

use guest_protocol::ProtocolError;
use rustix::io::Errno;

/// Why a machine cannot be set up. The text goes into the result record and onto the console.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A mount failed.
    #[error("cannot mount {what} on {target:?}: {errno}{}", hint(*.errno))]
    Mount {
        /// What.
        what: String,
        /// Where.
        target: String,
        /// The kernel's error.
        errno: Errno,
    },
    /// A file or directory of the root cannot be made.
    #[error("cannot make {path:?}: {source}")]
    Make {
        /// Its path.
        path: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// What the image has in the place of a directory is none.
    #[error(
        "the image's {0:?} is not a directory, and the machine needs it as one: change the image"
    )]
    NotADirectory(String),
    /// A module of the initial ramdisk cannot be loaded.
    #[error(
        "cannot load the kernel module {name:?}: {errno}; the initial ramdisk must be made for the kernel that runs"
    )]
    Module {
        /// Its path in the ramdisk.
        name: String,
        /// The kernel's error.
        errno: Errno,
    },
    /// A disk did not appear.
    #[error(
        "the machine has no disk with the serial number {serial:?} within {seconds} s; it has {found}"
    )]
    DiskMissing {
        /// Its serial number.
        serial: String,
        /// How long the init waited.
        seconds: u64,
        /// The serial numbers that are there.
        found: String,
    },
    /// The configuration disk cannot be read.
    #[error("cannot read the configuration disk: {0}")]
    ConfigDisk(#[source] io::Error),
    /// The configuration is not understood.
    #[error("cannot use the configuration disk: {0}")]
    Config(#[from] ProtocolError),
    /// The host name is not accepted.
    #[error("the kernel refused the host name {name:?}: {errno}")]
    Hostname {
        /// The name.
        name: String,
        /// The kernel's error.
        errno: Errno,
    },
    /// Signals cannot be read.
    #[error("cannot set up signals: {0}")]
    Signals(#[source] io::Error),
    /// The command cannot be watched.
    #[error("cannot run the command: {0}")]
    Run(#[source] io::Error),
}

/// What a mount's error means where its name does not say it.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::NODEV => " (the kernel has no such file system)",
        Errno::INVAL => " (the disk has another file system, or is damaged)",
        _ => "",
    }
}
