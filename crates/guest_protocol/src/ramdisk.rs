//! What the initial ramdisk has, and where.

/// The guest's executable, which the kernel starts.
pub const INIT: &str = "init";

/// The modules to load: one path of the archive on a line, in this order.
pub const MODULE_LIST: &str = "modules.load";

/// The directory of the modules.
pub const MODULES: &str = "modules";
