//! Resetting a bus with several functions: the kernel does that only for the owner of all of them, by VFIO
//! (`vfio_pci_dev_set_hot_reset` in drivers/vfio/pci/vfio_pci_core.c). The file `reset` in sysfs returns ENOTTY.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};

use model::{Address, HostError, is_vfio};
use rustix::io::Errno;

use crate::function_files::{DEVICES, bound, directory};
use crate::node_access::NODES;
use crate::problem::{self, words};
use crate::root::Root;
use crate::sys::vfio;

/// Resets all of these functions, which are the ones on the bus of `address`.
pub fn reset(root: &Root, address: Address, hit: &[Address]) -> Result<(), HostError> {
    let groups = groups(root, hit)?;
    let container = node(root, "vfio")?;
    let mut open = Vec::new();
    for group in &groups {
        let file = node(root, group)?;
        let joined = vfio::join(file.as_fd(), container.as_fd());
        joined.map_err(|error| {
            let why = "another process has it open, or a member of the group is on a host driver";
            failed(root, "open IOMMU group by", group, &error, why)
        })?;
        open.push((group, file));
    }
    let Some((group, first)) = own_group(root, address, &open) else {
        let path = format!("{DEVICES}/{address}/iommu_group");
        return Err(problem::file(root, "read", &path, Errno::NOENT));
    };
    let why = "the module vfio_iommu_type1 is needed; see `dmesg`";
    vfio::set_iommu(container.as_fd())
        .map_err(|error| failed(root, "set up the IOMMU by", "vfio", &error, why))?;
    let device = vfio::device(first, &address.to_string()).map_err(|error| {
        failed(root, &format!("open {address} by"), group, &error, "see `dmesg`")
    })?;
    let all: Vec<BorrowedFd<'_>> = open.iter().map(|(_, file)| file.as_fd()).collect();
    vfio::hot_reset(device.as_fd(), &all).map_err(|error| {
        let why = "vfio resets a bus only if each function on it is bound to a vfio driver";
        failed(root, &format!("reset the bus of {address} by"), group, &error, why)
    })
}

/// The IOMMU groups of the functions that are bound to a vfio driver.
fn groups(root: &Root, hit: &[Address]) -> Result<BTreeSet<String>, HostError> {
    let mut groups = BTreeSet::new();
    for address in hit {
        let Some(dir) = directory(root, *address)? else { continue };
        if bound(root, &dir, *address)?.is_some_and(|driver| is_vfio(&driver, "vfio-pci")) {
            groups.extend(dir.link_name("iommu_group"));
        }
    }
    Ok(groups)
}

/// The open group that has the function.
fn own_group<'a>(
    root: &Root,
    address: Address,
    open: &'a [(&'a String, File)],
) -> Option<(&'a str, BorrowedFd<'a>)> {
    let name = root.link_name(&format!("{DEVICES}/{address}/iommu_group")).ok()?;
    let (group, file) = open.iter().find(|(group, _)| **group == name)?;
    Some((group, file.as_fd()))
}

/// A node below `/dev/vfio`.
fn node(root: &Root, name: &str) -> Result<File, HostError> {
    let path = format!("{NODES}/{name}");
    let opened = OpenOptions::new().read(true).write(true).open(root.path().join(&path));
    opened.map_err(|error| {
        let why = "a reset of several functions needs VFIO's groups (CONFIG_VFIO_GROUP)";
        failed(root, "open", name, &error, why)
    })
}

fn failed(root: &Root, action: &str, name: &str, error: &std::io::Error, why: &str) -> HostError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    let path = format!("{NODES}/{name}");
    problem::because(root, action, &path, errno, format!("{}: {why}", words(errno)))
}
