//! Disk images and kernel bundles, from untrusted files to root disks.
