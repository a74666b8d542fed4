//! Linux: reads sysfs, procfs and devfs under one root; performs steps in worker processes.
