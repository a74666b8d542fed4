//! The same remedy on different systems: kernel options, module options and the initial ramdisk.
