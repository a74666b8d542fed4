//! Loads the modules of the initial ramdisk, in the order of its list.

use std::fs::{self, File};

use guest_protocol::ramdisk;
use rustix::io::Errno;
use rustix::system::finit_module;

use super::error::InitError;

/// Loads the modules. One that is there already, as a module or built in, is skipped.
pub fn modules() -> Result<(), InitError> {
    let list = fs::read_to_string(format!("/{}", ramdisk::MODULE_LIST)).unwrap_or_default();
    for name in list.lines().filter(|line| !line.is_empty()) {
        let loaded = File::open(format!("/{name}"))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .and_then(|file| finit_module(&file, c"", 0));
        match loaded {
            // A driver for a processor's feature says that the processor does not have it.
            Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
            Err(errno) => return Err(InitError::Module { name: name.to_owned(), errno }),
        }
    }
    Ok(())
}
