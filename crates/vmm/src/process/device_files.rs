//! The devices' own nodes and that of iommufd, which a VMM gets as open descriptors: its user can open neither.
//!
//! The kernel has them with `CONFIG_IOMMUFD` and `CONFIG_VFIO_DEVICE_CDEV`. A device's node is there while the device is bound to
//! a vfio driver, and its directory `vfio-dev` also on kernels without nodes: only the file `dev` in it tells
//! (drivers/vfio/vfio_main.c and device_cdev.c).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::{GuestSlot, GuestSource};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor};
use serde::{Deserialize, Serialize};

/// The descriptor of `/dev/iommu` in a VMM that is started. The numbers are far from those that the VMM gets otherwise.
pub const IOMMU_DESCRIPTOR: i32 = 200;

/// The descriptor of `/dev/vhost-vsock` in a VMM that is started.
pub const VSOCK_DESCRIPTOR: i32 = 199;

/// The device number of `/dev/vhost-vsock` (`VHOST_VSOCK_MINOR` in include/linux/miscdevice.h). Opening it loads its module.
const VSOCK_NUMBER: (u32, u32) = (10, 241);

/// The descriptor of the function with this place among all functions of the machine, in a VMM that is started.
pub fn device_descriptor(place: usize) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX - IOMMU_DESCRIPTOR - 1) + IOMMU_DESCRIPTOR + 1
}

/// A node that a VMM inherits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFile {
    /// The node.
    pub path: PathBuf,
    /// Its device number, as sysfs says.
    pub number: (u32, u32),
    /// The number of the descriptor in the VMM.
    pub descriptor: i32,
}

/// The node of iommufd, if the kernel has it.
pub fn iommu(root: &Path) -> Option<DeviceFile> {
    let number = number(&root.join("sys/class/misc/iommu/dev"))?;
    let path = root.join("dev/iommu");
    path.exists().then_some(DeviceFile { path, number, descriptor: IOMMU_DESCRIPTOR })
}

/// The node of vhost's vsock.
pub fn vsock(root: &Path) -> DeviceFile {
    let path = root.join("dev/vhost-vsock");
    DeviceFile { path, number: VSOCK_NUMBER, descriptor: VSOCK_DESCRIPTOR }
}

/// Whether this host has it. Opening the node loads its module.
pub fn has_vsock(root: &Path) -> bool {
    open(&vsock(root)).is_ok()
}

/// A device's own node, if it has one.
pub fn own(root: &Path, source: GuestSource, descriptor: i32) -> Option<DeviceFile> {
    let device = match source {
        GuestSource::Function(address) => {
            root.join("sys/bus/pci/devices").join(address.to_string())
        }
        GuestSource::Mdev(uuid) => root.join("sys/bus/mdev/devices").join(uuid.to_string()),
    };
    let entries = fs::read_dir(device.join("vfio-dev")).ok()?;
    // A device has one.
    let entry = entries
        .flatten()
        .find(|entry| entry.file_name().as_encoded_bytes().starts_with(b"vfio"))?;
    let number = number(&entry.path().join("dev"))?;
    let path = root.join("dev/vfio/devices").join(entry.file_name());
    path.exists().then_some(DeviceFile { path, number, descriptor })
}

/// The nodes of all functions of a machine, after that of iommufd. An error names what has none.
pub fn of_machine(root: &Path, slots: &[GuestSlot]) -> Result<Vec<DeviceFile>, String> {
    let functions = slots.iter().flat_map(|slot| &slot.functions).enumerate();
    let own = functions.map(|(place, function)| {
        own(root, function.source, device_descriptor(place)).ok_or_else(|| without(function.source))
    });
    let iommu = iommu(root).ok_or_else(|| "/dev/iommu does not exist".to_owned());
    std::iter::once(iommu).chain(own).collect()
}

/// What to say of a device without a node of its own.
pub fn without(source: GuestSource) -> String {
    let device = match source {
        GuestSource::Function(address) => address.to_string(),
        GuestSource::Mdev(uuid) => uuid.to_string(),
    };
    format!("{device} has no node in /dev/vfio/devices any more")
}

/// Opens a node, if it still is the device's.
pub fn open(file: &DeviceFile) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&file.path, flags, Mode::empty())?;
    let found = fstat(&opened)?;
    let is_character = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
    if is_character && (major(found.st_rdev), minor(found.st_rdev)) == file.number {
        return Ok(opened);
    }
    Err(io::Error::other("it is another device now"))
}

/// A device number as sysfs has it: `243:0`.
fn number(file: &Path) -> Option<(u32, u32)> {
    let text = fs::read_to_string(file).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(nodes: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/class/misc/iommu/dev", "10:124\n");
        write("dev/iommu", "");
        for (address, name) in nodes {
            write(&format!("sys/bus/pci/devices/{address}/vfio-dev/{name}/dev"), "243:7\n");
            write(&format!("dev/vfio/devices/{name}"), "");
        }
        root
    }

    fn card() -> GuestSlot {
        GuestSlot::place(["0000:01:00.0", "0000:01:00.1"].map(|at| at.parse().unwrap()))
    }

    #[test]
    fn each_function_has_a_descriptor_after_that_of_iommufd() {
        let root = host(&[("0000:01:00.0", "vfio3"), ("0000:01:00.1", "vfio4")]);
        let files = of_machine(root.path(), &[card()]).unwrap();
        let shown: Vec<_> = files
            .iter()
            .map(|file| {
                let path = file.path.strip_prefix(root.path()).unwrap();
                (path.to_str().unwrap(), file.number, file.descriptor)
            })
            .collect();
        let expected = [
            ("dev/iommu", (10, 124), 200),
            ("dev/vfio/devices/vfio3", (243, 7), 201),
            ("dev/vfio/devices/vfio4", (243, 7), 202),
        ];
        assert_eq!(shown, expected);
        assert!(open(&files[0]).unwrap_err().to_string().contains("another device"));
    }

    #[test]
    fn a_directory_without_a_node_and_a_host_without_iommufd_have_none() {
        let root = host(&[("0000:01:00.0", "vfio3"), ("0000:01:00.1", "vfio4")]);
        let at = root.path().join("sys/bus/pci/devices/0000:01:00.1/vfio-dev/vfio4/dev");
        fs::remove_file(at).unwrap();
        let missing = of_machine(root.path(), &[card()]).unwrap_err();
        assert!(missing.starts_with("0000:01:00.1 has no node"), "{missing}");
        fs::remove_file(root.path().join("dev/iommu")).unwrap();
        assert!(of_machine(root.path(), &[]).unwrap_err().contains("/dev/iommu"));
    }
}
