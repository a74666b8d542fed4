//! A fake host that changes, with the uevents that the kernel would send, in its order.

use std::collections::BTreeMap;
use std::fs;

use host::uevent::Uevent;
use model::ErrorStage;
use proptest::prelude::*;

use crate::fake::{Entry, Fake, kernel::set_driver};

/// The functions of the host: position, ids, class. The first can have virtual functions.
const SLOTS: [(&str, &str, &str); 4] = [
    ("0000:00:02.0", "8086:10c9:8086:a03c", "020000"),
    ("0000:00:01.0/0000:01:00.0", "10de:20b0:10de:1450", "030200"),
    ("0000:00:03.0", "1b36:0010", "010802"),
    ("0000:00:01.0/0000:01:00.1", "10de:1aef", "040300"),
];

/// A change. A change that is impossible now does nothing.
#[derive(Clone, Debug)]
pub enum Act {
    Add { slot: usize, group: u32 },
    Remove { slot: usize },
    Bind { slot: usize, native: bool },
    Unbind { slot: usize },
    Interface { slot: usize, name: usize },
    Rename { slot: usize },
    Disk { slot: usize, name: usize },
    Display { slot: usize },
    Path { slot: usize },
    Mdev { slot: usize },
    Vfs { count: usize },
    Module,
}

/// Any change.
pub fn act() -> impl Strategy<Value = Act> {
    let slot = 0..SLOTS.len();
    prop_oneof![
        3 => (slot.clone(), 1u32..4).prop_map(|(slot, group)| Act::Add { slot, group }),
        2 => slot.clone().prop_map(|slot| Act::Remove { slot }),
        3 => (slot.clone(), any::<bool>()).prop_map(|(slot, native)| Act::Bind { slot, native }),
        1 => slot.clone().prop_map(|slot| Act::Unbind { slot }),
        2 => (slot.clone(), 0usize..2).prop_map(|(slot, name)| Act::Interface { slot, name }),
        1 => slot.clone().prop_map(|slot| Act::Rename { slot }),
        2 => (slot.clone(), 0usize..2).prop_map(|(slot, name)| Act::Disk { slot, name }),
        1 => slot.clone().prop_map(|slot| Act::Display { slot }),
        1 => slot.clone().prop_map(|slot| Act::Path { slot }),
        1 => slot.prop_map(|slot| Act::Mdev { slot }),
        2 => (0usize..4).prop_map(|count| Act::Vfs { count }),
        1 => Just(Act::Module),
    ]
}

/// An existing function.
#[derive(Default)]
struct Present {
    group: u32,
    driver: Option<&'static str>,
    /// The nodes that its driver created.
    nodes: Vec<Node>,
}

/// The path of an object below its function, its subsystem, its number.
type Node = (String, &'static str, Option<(u32, u32)>);

/// The host, and its unread uevents.
pub struct World {
    pub fake: Fake,
    pub events: Vec<Uevent>,
    present: BTreeMap<String, Present>,
}

impl World {
    pub fn new() -> Self {
        let fake = Fake::new();
        fake.file(
            "usr/share/misc/pci.ids",
            "10de  NVIDIA Corporation\n\t20b0  GA100\n8086  Intel Corporation\n",
        );
        // Their own uevents came before these.
        for driver in ["native", "vfio-pci"] {
            fs::create_dir_all(fake.path(&format!("sys/bus/pci/drivers/{driver}"))).unwrap();
        }
        Self { fake, events: Vec::new(), present: BTreeMap::new() }
    }

    pub fn act(&mut self, act: &Act) {
        match *act {
            Act::Add { slot, group } => {
                self.add(SLOTS[slot].0, SLOTS[slot].1, SLOTS[slot].2, group)
            }
            Act::Remove { slot } => {
                if slot == 0 {
                    self.vfs(0);
                }
                self.remove(SLOTS[slot].0);
            }
            Act::Bind { slot, native } => {
                self.unbind(SLOTS[slot].0);
                self.bind(SLOTS[slot].0, if native { "native" } else { "vfio-pci" });
            }
            Act::Unbind { slot } => self.unbind(SLOTS[slot].0),
            Act::Interface { slot, name } => {
                self.toggle(SLOTS[slot].0, &format!("net/eth{}", name + 2 * slot), "net", None);
            }
            Act::Rename { slot } => self.rename(SLOTS[slot].0),
            Act::Disk { slot, name } => {
                let path = format!("nvme/nvme{slot}/nvme{slot}n{}", name + 1);
                self.toggle(SLOTS[slot].0, &path, "block", Some(259));
            }
            Act::Display { slot } => {
                self.toggle(SLOTS[slot].0, &format!("drm/card{slot}"), "drm", Some(226));
            }
            Act::Path { slot } => self.path(SLOTS[slot].0, slot),
            Act::Mdev { slot } => self.mdev(SLOTS[slot].0, slot),
            Act::Vfs { count } => self.vfs(count),
            Act::Module => self.module(),
        }
    }

    /// A function that is being removed has lost only its driver and the link to its group so far.
    pub fn leave_group(&mut self, slot: usize) {
        let place = SLOTS[slot].0;
        self.unbind(place);
        fs::remove_file(self.fake.path(&format!("sys/devices/pci0000:00/{place}/iommu_group")))
            .unwrap();
    }

    fn tell(&mut self, action: &str, path: &str, subsystem: &str, number: Option<(u32, u32)>) {
        self.events.push(Uevent {
            action: action.into(),
            path: path.into(),
            old_path: None,
            subsystem: subsystem.into(),
            kind: None,
            number,
            error: None,
        });
    }

    /// The kernel reports the stage of an error.
    pub fn error(&mut self, place: &str, stage: ErrorStage) {
        self.tell_pci("change", place);
        if let Some(event) = self.events.last_mut() {
            event.error = Some(stage);
        }
    }

    fn tell_pci(&mut self, action: &str, place: &str) {
        self.tell(action, &format!("/devices/pci0000:00/{place}"), "pci", None);
    }

    fn entry(&self, place: &str) -> Entry<'_> {
        let known = SLOTS.iter().find(|slot| slot.0 == place);
        let (ids, class) = known.map_or(("8086:10ca", "020000"), |slot| (slot.1, slot.2));
        self.fake.function(place, ids, class)
    }

    fn add(&mut self, place: &str, ids: &str, class: &str, group: u32) {
        if self.present.contains_key(place) {
            return;
        }
        let entry = self.fake.function(place, ids, class);
        entry.group(group);
        if place == SLOTS[0].0 {
            entry.with("sriov_totalvfs", "7\n");
        }
        self.present.insert(place.into(), Present { group, ..Present::default() });
        self.tell_pci("add", place);
    }

    fn remove(&mut self, place: &str) {
        if !self.present.contains_key(place) {
            return;
        }
        if let Some(slot) = SLOTS.iter().position(|slot| slot.0 == place) {
            let there = |link: String| fs::symlink_metadata(self.fake.path(&link)).is_ok();
            let (path, mdev) = (there(path_link(slot)), there(mdev_link(slot)));
            if path {
                self.path(place, slot);
            }
            if mdev {
                self.mdev(place, slot);
            }
        }
        self.unbind(place);
        let Some(gone) = self.present.remove(place) else { return };
        let address = place.rsplit('/').next().unwrap();
        let group = self.fake.path(&format!("sys/kernel/iommu_groups/{}", gone.group));
        fs::remove_file(group.join("devices").join(address)).unwrap();
        if fs::read_dir(group.join("devices")).unwrap().next().is_none() {
            // The kernel removes the empty group later, without a uevent.
            fs::write(group.join("type"), "unknown\n").unwrap();
        }
        fs::remove_file(self.fake.path(&format!("sys/bus/pci/devices/{address}"))).unwrap();
        fs::remove_dir_all(self.fake.path(&format!("sys/devices/pci0000:00/{place}"))).unwrap();
        self.tell_pci("remove", place);
    }

    fn bind(&mut self, place: &str, driver: &'static str) {
        let address = place.rsplit('/').next().unwrap();
        let Some(present) = self.present.get_mut(place).filter(|p| p.driver.is_none()) else {
            return;
        };
        present.driver = Some(driver);
        let group = present.group;
        if driver == "vfio-pci" {
            let path = format!("virtual/vfio/{group}");
            if !self.fake.path(&format!("sys/devices/{path}")).exists() {
                self.fake.virtual_device(&path, "char", &format!("242:{group}"));
                self.tell("add", &format!("/devices/{path}"), "vfio", Some((242, group)));
            }
            let slot = SLOTS.iter().position(|slot| slot.0 == place).unwrap();
            self.toggle(place, &format!("vfio-dev/vfio{slot}"), "vfio-dev", Some(511));
        }
        set_driver(self.fake.root(), address, Some(driver));
        self.tell_pci("bind", place);
    }

    fn unbind(&mut self, place: &str) {
        let Some(present) = self.present.get_mut(place) else { return };
        let (driver, group, nodes) =
            (present.driver.take(), present.group, std::mem::take(&mut present.nodes));
        for (path, subsystem, number) in nodes.into_iter().rev() {
            self.remove_node(place, &path, subsystem, number);
        }
        let Some(driver) = driver else { return };
        let shared = |p: &Present| p.group == group && p.driver == Some("vfio-pci");
        if driver == "vfio-pci" && !self.present.values().any(shared) {
            fs::remove_dir_all(self.fake.path(&format!("sys/devices/virtual/vfio/{group}")))
                .unwrap();
            fs::remove_file(self.fake.path(&format!("sys/dev/char/242:{group}"))).unwrap();
            self.tell(
                "remove",
                &format!("/devices/virtual/vfio/{group}"),
                "vfio",
                Some((242, group)),
            );
        }
        set_driver(self.fake.root(), place.rsplit('/').next().unwrap(), None);
        self.tell_pci("unbind", place);
    }

    /// Creates a node of a function, or removes it.
    fn toggle(&mut self, place: &str, path: &str, subsystem: &'static str, major: Option<u32>) {
        let Some(present) = self.present.get_mut(place) else { return };
        let known = present.nodes.iter().position(|node| node.0 == path);
        if let Some(index) = known {
            let (path, subsystem, number) = present.nodes.remove(index);
            self.remove_node(place, &path, subsystem, number);
            return;
        }
        // The lowest free number, like the kernel: numbers are reused.
        let dir = if subsystem == "block" { "block" } else { "char" };
        let free = |minor: &u32| {
            let link = format!("sys/dev/{dir}/{}:{minor}", major.unwrap_or_default());
            fs::symlink_metadata(self.fake.path(&link)).is_err()
        };
        let number = major.map(|major| (major, (0..).find(free).unwrap()));
        let text = number.map(|(major, minor)| format!("{major}:{minor}"));
        let entry = self.entry(place);
        match (subsystem, text) {
            ("block", Some(text)) => drop(entry.disk(path, &text)),
            (_, Some(text)) => drop(entry.node(path, "char", &text)),
            (_, None) => drop(entry.interface(path)),
        }
        if let Some(present) = self.present.get_mut(place) {
            present.nodes.push((path.into(), subsystem, number));
        }
        self.tell("add", &format!("/devices/pci0000:00/{place}/{path}"), subsystem, number);
    }

    fn remove_node(
        &mut self,
        place: &str,
        path: &str,
        subsystem: &str,
        number: Option<(u32, u32)>,
    ) {
        let name = path.rsplit('/').next().unwrap();
        fs::remove_dir_all(self.fake.path(&format!("sys/devices/pci0000:00/{place}/{path}")))
            .unwrap();
        let dir = if subsystem == "block" { "block" } else { "char" };
        if let Some((major, minor)) = number {
            fs::remove_file(self.fake.path(&format!("sys/dev/{dir}/{major}:{minor}"))).unwrap();
        }
        if matches!(subsystem, "net" | "block") {
            fs::remove_file(self.fake.path(&format!("sys/class/{subsystem}/{name}"))).unwrap();
        }
        self.tell("remove", &format!("/devices/pci0000:00/{place}/{path}"), subsystem, number);
    }

    fn rename(&mut self, place: &str) {
        let Some(present) = self.present.get_mut(place) else { return };
        let old = present.nodes.iter_mut().find(|node| node.0.starts_with("net/eth"));
        let Some(node) = old else { return };
        let new = node.0.replace("eth", "lan");
        let old = std::mem::replace(&mut node.0, new.clone());
        let dir = self.fake.path(&format!("sys/devices/pci0000:00/{place}"));
        fs::rename(dir.join(&old), dir.join(&new)).unwrap();
        fs::remove_file(self.fake.path(&format!("sys/class/{old}"))).unwrap();
        let target = format!("../../devices/pci0000:00/{place}/{new}");
        self.fake.link(&format!("sys/class/{new}"), &target);
        let path = |name: &str| format!("/devices/pci0000:00/{place}/{name}");
        self.tell("move", &path(&new), "net", None);
        if let Some(event) = self.events.last_mut() {
            event.old_path = Some(path(&old));
        }
    }

    /// A namespace over several controllers: its head has a uevent, its paths do not.
    fn path(&mut self, place: &str, slot: usize) {
        const HEAD: &str = "virtual/nvme-subsystem/nvme-subsys9/nvme9n1";
        if !self.present.contains_key(place) {
            return;
        }
        let path = format!("nvme/nvme{slot}/nvme9c{slot}n1");
        let link = self.fake.path(&path_link(slot));
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(link).unwrap();
        } else {
            self.entry(place).hidden(&path);
            self.fake.virtual_device(HEAD, "block", "259:99");
        }
        self.tell("change", &format!("/devices/{HEAD}"), "block", Some((259, 99)));
    }

    fn mdev(&mut self, place: &str, slot: usize) {
        let link = self.fake.path(&mdev_link(slot));
        let uuid = link.file_name().unwrap().to_str().unwrap().to_owned();
        if !self.present.contains_key(place) {
            return;
        }
        let group = self.fake.path(&format!("sys/kernel/iommu_groups/{}", 90 + slot));
        let path = format!("/devices/pci0000:00/{place}/{uuid}");
        let node = format!("{path}/vfio-dev/vfio9{slot}");
        let number = (511, 90 + u32::try_from(slot).unwrap());
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(link).unwrap();
            fs::remove_dir_all(self.fake.path(&format!("sys{path}"))).unwrap();
            fs::remove_dir_all(group).unwrap();
            fs::remove_file(self.fake.path(&format!("sys/dev/char/{}:{}", number.0, number.1)))
                .unwrap();
            self.tell("remove", &node, "vfio-dev", Some(number));
            self.tell("unbind", &path, "mdev", None);
            self.tell("remove", &path, "mdev", None);
            return;
        }
        self.fake.file(&format!("sys{path}/remove"), "");
        self.fake.link(&format!("sys/bus/mdev/devices/{uuid}"), &format!("../../..{path}"));
        self.fake.link(&format!("sys{path}/mdev_type"), "../mdev_supported_types/nvidia-474");
        self.tell("add", &path, "mdev", None);
        self.fake.link(
            &format!("sys/kernel/iommu_groups/{}/devices/{uuid}", 90 + slot),
            &format!("../../../..{path}"),
        );
        let target = format!("../../../../kernel/iommu_groups/{}", 90 + slot);
        self.fake.link(&format!("sys{path}/iommu_group"), &target);
        self.fake.file(&format!("sys{node}/dev"), "");
        let link = format!("sys/dev/char/{}:{}", number.0, number.1);
        self.fake.link(&link, &format!("../..{node}"));
        self.tell("add", &node, "vfio-dev", Some(number));
        self.tell("bind", &path, "mdev", None);
    }

    /// Sets the number of virtual functions, through 0 as the kernel requires.
    fn vfs(&mut self, count: usize) {
        let parent = SLOTS[0].0;
        if !self.present.contains_key(parent) {
            return;
        }
        let dir = self.fake.path(&format!("sys/devices/pci0000:00/{parent}"));
        for number in 0..7 {
            let link = dir.join(format!("virtfn{number}"));
            if fs::symlink_metadata(&link).is_ok() {
                fs::remove_file(link).unwrap();
                self.remove(&format!("0000:00:10.{number}"));
            }
        }
        for number in 0..count {
            let place = format!("0000:00:10.{number}");
            let group = 20 + u32::try_from(number).unwrap();
            self.add(&place, "8086:10ca", "020000", group);
            self.entry(&place).link("physfn", &format!("../{parent}"));
            self.entry(parent).link(&format!("virtfn{number}"), &format!("../{place}"));
            self.tell_pci("change", &place);
        }
        self.tell_pci("change", parent);
    }

    fn module(&mut self) {
        let path = self.fake.path("sys/module/vfio_iommu_type1");
        let action = if path.exists() { "remove" } else { "add" };
        if path.exists() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path).unwrap();
        }
        self.tell(action, "/module/vfio_iommu_type1", "module", None);
    }
}

/// The path of a namespace over the controller in a slot.
fn path_link(slot: usize) -> String {
    format!("sys/class/block/nvme9c{slot}n1")
}

/// The mediated device of a slot.
fn mdev_link(slot: usize) -> String {
    format!("sys/bus/mdev/devices/6f5ab6c4-6cb2-4b1a-b5b4-9c2cf5b1b2f{slot}")
}
