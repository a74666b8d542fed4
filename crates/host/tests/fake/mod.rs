//! A fake sysfs, procfs and devfs in a temporary directory.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod bus;
pub mod kernel;
pub mod parts;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A fake host.
pub struct Fake {
    dir: TempDir,
}

/// One fake function, for more attributes.
pub struct Entry<'a> {
    host: &'a Fake,
    path: String,
    address: String,
}

impl Fake {
    /// A host with an empty PCI bus.
    pub fn new() -> Self {
        let fake = Self { dir: tempfile::tempdir().unwrap() };
        fake.file("proc/sys/kernel/random/boot_id", "52b61884-5ccc-4957-b573-cea8a3c2394b\n");
        fake.file("proc/sys/kernel/osrelease", "6.1.0-test\n");
        fs::create_dir_all(fake.path("sys/bus/pci/devices")).unwrap();
        fake
    }

    /// The root.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A path below the root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes a file, with the directories above it.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Creates a symbolic link, with the directories above it.
    pub fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
        self
    }

    /// Creates a program below the root, from a shell script.
    pub fn program(&self, path: &str, script: &str) -> &Self {
        use std::os::unix::fs::PermissionsExt;
        self.file(path, format!("#!/bin/sh\n{script}"));
        fs::set_permissions(self.path(path), PermissionsExt::from_mode(0o755)).unwrap();
        self
    }

    /// Creates a FIFO in which a writer waits for a reader.
    pub fn fifo(&self, path: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        self
    }

    /// Adds a device that is not below a function, by its path below `sys/devices`.
    pub fn virtual_device(&self, place: &str, kind: &str, number: &str) -> &Self {
        self.file(&format!("sys/devices/{place}/dev"), format!("{number}\n"));
        self.link(&format!("sys/dev/{kind}/{number}"), &format!("../../devices/{place}"));
        let name = place.rsplit('/').next().unwrap();
        if kind == "block" {
            self.link(&format!("sys/class/block/{name}"), &format!("../../devices/{place}"));
        }
        self
    }

    /// Adds a function below `pci0000:00/...`, `place` being the addresses from the root bus down.
    pub fn function(&self, place: &str, ids: &str, class: &str) -> Entry<'_> {
        let address = place.rsplit('/').next().unwrap().to_owned();
        let path = format!("sys/devices/pci0000:00/{place}");
        let up = "../../../devices/pci0000:00";
        self.link(&format!("sys/bus/pci/devices/{address}"), &format!("{up}/{place}"));
        let entry = Entry { host: self, path, address };
        let ids: Vec<&str> = ids.split(':').collect();
        let names = ["vendor", "device", "subsystem_vendor", "subsystem_device"];
        for (name, id) in names.iter().zip(&ids) {
            entry.with(name, &format!("0x{id}\n"));
        }
        entry.with("class", &format!("0x{class}\n"));
        let id = |index: usize| ids.get(index).unwrap_or(&"0").to_uppercase();
        let (base, sub, interface) = (&class[..2], &class[2..4], &class[4..]);
        let modalias = format!(
            "pci:v{:0>8}d{:0>8}sv{:0>8}sd{:0>8}bc{base}sc{sub}i{interface}\n",
            id(0),
            id(1),
            id(2),
            id(3)
        );
        entry.with("modalias", &modalias);
        entry.with("revision", "0x01\n").with("numa_node", "-1\n");
        entry.with("driver_override", "(null)\n").with("power/control", "on\n");
        entry.with("resource", &"0x0 0x0 0x0\n".repeat(17));
        self.file(&format!("{}/config", entry.path), [0; 256]);
        entry
    }
}

impl Entry<'_> {
    /// Adds a device with a node: its place below the function, whether it is a block device, and its number.
    pub fn node(&self, place: &str, kind: &str, number: &str) -> &Self {
        self.with(&format!("{place}/dev"), &format!("{number}\n"));
        let target = format!("../../{}/{place}", self.path.trim_start_matches("sys/"));
        self.host.link(&format!("sys/dev/{kind}/{number}"), &target);
        self
    }

    /// Adds a disk, namespace or partition.
    pub fn disk(&self, place: &str, number: &str) -> &Self {
        let name = place.rsplit('/').next().unwrap();
        let target = format!("../../{}/{place}", self.path.trim_start_matches("sys/"));
        self.host.link(&format!("sys/class/block/{name}"), &target);
        self.node(place, "block", number)
    }

    /// Adds one of several paths to a namespace: a disk without a node.
    pub fn hidden(&self, place: &str) -> &Self {
        let name = place.rsplit('/').next().unwrap();
        self.with(&format!("{place}/size"), "1\n");
        let target = format!("../../{}/{place}", self.path.trim_start_matches("sys/"));
        self.host.link(&format!("sys/class/block/{name}"), &target);
        self
    }

    /// Adds a network interface.
    pub fn interface(&self, place: &str) -> &Self {
        let name = place.rsplit('/').next().unwrap();
        self.with(&format!("{place}/mtu"), "1500\n");
        let target = format!("../../{}/{place}", self.path.trim_start_matches("sys/"));
        self.host.link(&format!("sys/class/net/{name}"), &target);
        self
    }

    /// Sets an attribute.
    pub fn with(&self, name: &str, content: &str) -> &Self {
        self.host.file(&format!("{}/{name}", self.path), content);
        self
    }

    /// Puts it into an IOMMU group.
    pub fn group(&self, number: u32) -> &Self {
        let up = "../".repeat(self.path.matches('/').count());
        self.host.link(
            &format!("{}/iommu_group", self.path),
            &format!("{up}kernel/iommu_groups/{number}"),
        );
        let group = format!("sys/kernel/iommu_groups/{number}");
        self.host.link(
            &format!("{group}/devices/{}", self.address),
            &format!("../../../../{}", self.path.trim_start_matches("sys/")),
        );
        self.host.file(&format!("{group}/type"), "DMA-FQ\n");
        self.host.file(&format!("{group}/reserved_regions"), "");
        self
    }

    /// Binds it to a driver.
    pub fn driver(&self, name: &str) -> &Self {
        kernel::set_driver(self.host.root(), &self.address, Some(name));
        self
    }

    /// Creates a link in its directory.
    pub fn link(&self, name: &str, target: &str) -> &Self {
        self.host.link(&format!("{}/{name}", self.path), target);
        self
    }
}
