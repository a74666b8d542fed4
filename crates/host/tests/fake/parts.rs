//! The fake kernel's virtual functions and mediated devices.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::Fake;
use super::kernel::serve;

impl Fake {
    /// Lets a function of the root bus create virtual functions when its `sriov_numvfs` is written, at most `most`,
    /// like a driver without enough resources. The thread ends with the test.
    pub fn sriov(&self, address: &str, total: u16, most: u16) {
        let place = self.path(&format!("sys/devices/pci0000:00/{address}"));
        for (name, value) in
            [("numvfs", "0"), ("drivers_autoprobe", "1"), ("totalvfs", &total.to_string())]
        {
            fs::write(place.join(format!("sriov_{name}")), format!("{value}\n")).unwrap();
        }
        let (root, address) = (self.root().to_owned(), address.to_owned());
        thread::spawn(move || {
            let mut there = 0;
            while let Ok(text) = fs::read_to_string(place.join("sriov_numvfs")) {
                thread::sleep(Duration::from_millis(2));
                // Nothing to read between a writer's open and write.
                let Ok(wanted) = text.trim().parse::<u16>() else { continue };
                // Like the kernel: a number changes only from 0 and to 0.
                if wanted != there && there != 0 && wanted != 0 {
                    write_whole(&place.join("sriov_numvfs"), &format!("{there}\n"));
                    continue;
                }
                let made = wanted.min(most);
                (made..there).for_each(|index| remove_vf(&root, &place, &address, index));
                (there..made).for_each(|index| add_vf(&root, &place, &address, index));
                if made != wanted {
                    write_whole(&place.join("sriov_numvfs"), &format!("{made}\n"));
                }
                there = made;
            }
        });
    }

    /// Makes a function the parent of mediated devices of these types. The threads end with the test.
    pub fn mdev_parent(&self, address: &str, types: &[&str]) {
        for kind in types {
            let place = format!("sys/devices/pci0000:00/{address}/mdev_supported_types/{kind}");
            self.file(&format!("{place}/available_instances"), "2\n");
            self.fifo(&format!("{place}/create"));
            let (root, address, kind) =
                (self.root().to_owned(), address.to_owned(), (*kind).to_owned());
            serve(self.path(&format!("{place}/create")), move |uuid| {
                add_mdev(&root, &address, &kind, uuid);
            });
        }
    }
}

/// The address of a virtual function: those of `0000:00:02.0` are `0000:00:02.1` and so on.
pub fn vf_address(physical: &str, index: u16) -> String {
    format!("{}.{}", physical.trim_end_matches(".0"), index + 1)
}

fn add_vf(root: &Path, place: &Path, physical: &str, index: u16) {
    let address = vf_address(physical, index);
    let own = place.parent().unwrap().join(&address);
    fs::create_dir_all(&own).unwrap();
    symlink(format!("../{physical}"), own.join("physfn")).unwrap();
    let target = format!("../../../devices/pci0000:00/{address}");
    symlink(target, root.join("sys/bus/pci/devices").join(&address)).unwrap();
    symlink(format!("../{address}"), place.join(format!("virtfn{index}"))).unwrap();
}

fn remove_vf(root: &Path, place: &Path, physical: &str, index: u16) {
    let address = vf_address(physical, index);
    fs::remove_file(place.join(format!("virtfn{index}"))).unwrap();
    fs::remove_file(root.join("sys/bus/pci/devices").join(&address)).unwrap();
    fs::remove_dir_all(place.parent().unwrap().join(&address)).unwrap();
}

fn add_mdev(root: &Path, address: &str, kind: &str, uuid: &str) {
    let own = root.join(format!("sys/devices/pci0000:00/{address}/{uuid}"));
    fs::create_dir_all(own.join("nvidia")).unwrap();
    fs::write(own.join("nvidia/vgpu_params"), "\n").unwrap();
    symlink(format!("../mdev_supported_types/{kind}"), own.join("mdev_type")).unwrap();
    symlink("../../../../kernel/iommu_groups/40", own.join("iommu_group")).unwrap();
    let devices = root.join("sys/kernel/iommu_groups/40/devices");
    fs::create_dir_all(&devices).unwrap();
    symlink(format!("../../../../devices/pci0000:00/{address}/{uuid}"), devices.join(uuid))
        .unwrap();
    let remove = own.join("remove");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &remove, mode).unwrap();
    let link: PathBuf = root.join("sys/bus/mdev/devices").join(uuid);
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let gone = link.clone();
    thread::spawn(move || {
        if fs::read_to_string(remove).is_ok() {
            let _ = fs::remove_file(gone);
            let _ = fs::remove_dir_all(own);
        }
    });
    symlink(format!("../../../devices/pci0000:00/{address}/{uuid}"), link).unwrap();
}

/// Replaces a file atomically, so that no reader sees it empty.
pub fn write_whole(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}
