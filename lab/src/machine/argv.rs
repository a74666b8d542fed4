//! QEMU's command line for L1, a pure function of a topology and paths.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::{
    images::Images,
    topology::{Gpu, Topology},
};

/// The inputs of one start of L1.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Its devices.
    pub topology: &'a Topology,
    /// The images to boot.
    pub images: &'a Images,
    /// Its directory: sockets, logs, disks, and `inside/`, which L1 mounts at `/lab`.
    pub folder: &'a Path,
    /// The directory that L1 mounts at `/host`.
    pub share: Option<&'a Path>,
    /// The disk that is kept when L1 ends.
    pub state: Option<&'a Path>,
    /// A ramdisk to use instead of the images'.
    pub ramdisk: Option<&'a Path>,
}

impl Plan<'_> {
    /// The socket of the agent's serial port.
    pub fn agent(&self) -> PathBuf {
        self.folder.join("agent.sock")
    }

    /// The kernel's console.
    pub fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// The socket of a GPU function's server.
    pub fn gpu(&self, gpu: &Gpu) -> PathBuf {
        self.folder.join(format!("{}.sock", gpu.id))
    }

    /// The file of a disk.
    pub fn drive(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.img"))
    }

    /// The command line without the program.
    pub fn argv(&self) -> Vec<String> {
        let mut argv = self.machine();
        argv.extend(self.boot());
        argv.extend(self.own_devices());
        argv.extend(self.topology_devices());
        argv
    }

    fn machine(&self) -> Vec<String> {
        let topology = self.topology;
        let mut argv = words(&["-name", "l1", "-nodefaults", "-display", "none", "-no-reboot"]);
        // One socket per memory node: the kernel warns about a socket with parts in two nodes.
        let processors = format!("{},sockets={}", topology.cpus, topology.numa.len().max(1));
        argv.extend(words(&["-cpu", &topology.cpu, "-smp", &processors]));
        // One thread per processor, and space for the translated code of a whole kernel and a guest.
        argv.extend(words(&["-accel", "tcg,thread=multi,tb-size=512"]));
        // The memory is a shared file, for the DMA of a GPU's server.
        let backend =
            |id: &str, size: &str| format!("memory-backend-memfd,id={id},size={size},share=on");
        argv.extend(words(&["-m", &topology.memory]));
        if topology.numa.is_empty() {
            argv.extend(words(&["-object", &backend("mem", &topology.memory)]));
            argv.extend(words(&["-machine", &format!("{},memory-backend=mem", topology.machine)]));
        } else {
            argv.extend(words(&["-machine", &topology.machine]));
            for (id, node) in topology.numa.iter().enumerate() {
                argv.extend(words(&["-object", &backend(&format!("mem{id}"), &node.memory)]));
                argv.extend(words(&[
                    "-numa",
                    &format!("node,nodeid={id},cpus={},memdev=mem{id}", node.cpus),
                ]));
            }
        }
        // L1 never outlives the thread that started it.
        argv.extend(words(&["-run-with", "exit-with-parent=on"]));
        argv
    }

    fn boot(&self) -> Vec<String> {
        // no_timer_check: on a busy machine the kernel counts too few ticks of the emulated timer in its test, and
        // panics.
        let mut append =
            words(&["console=ttyS0", "quiet", "panic=-1", "no_timer_check", "rdinit=/init"]);
        if self.share.is_some() {
            append.push("lab.share".to_owned());
        }
        if self.ramdisk.is_some() {
            // The script of initramfs-tools that mounts the root, and the program to start there (initramfs-tools(7),
            // dracut.cmdline(7)).
            append.extend(words(&["boot=lab", "init=/opt/lab/start"]));
        }
        append.extend(self.topology.kernel_args.iter().cloned());
        let mut argv = words(&["-kernel", &text(&self.images.kernel.vmlinux())]);
        let initrd = self.ramdisk.unwrap_or(&self.images.initrd.whole);
        argv.extend(words(&["-initrd", &text(initrd), "-append", &append.join(" ")]));
        argv.extend(words(&["-serial", &format!("file:{}", text(&self.console()))]));
        argv
    }

    /// The lab's own devices, at the end of bus 0, where a topology has none.
    fn own_devices(&self) -> Vec<String> {
        let mut argv = Vec::new();
        for (addr, name, image) in
            [("1e.0", "root", &self.images.root), ("1d.0", "modules", &self.images.modules)]
        {
            argv.push("-blockdev".to_owned());
            argv.push(
                json!({"driver": "raw", "node-name": format!("lab-{name}"), "read-only": true,
                    "file": {"driver": "file", "filename": text(image), "locking": "off"}})
                .to_string(),
            );
            argv.extend(device(json!({"driver": "virtio-blk-pci", "drive": format!("lab-{name}"),
                "serial": format!("lab-{name}"), "bus": "pcie.0", "addr": addr})));
        }
        argv.extend(device(json!({"driver": "virtio-serial-pci", "id": "labserial", "bus": "pcie.0", "addr": "1c.0"})));
        argv.push("-chardev".to_owned());
        argv.push(format!("socket,id=agent,path={}", text(&self.agent())));
        argv.extend(device(json!({"driver": "virtserialport", "bus": "labserial.0", "chardev": "agent", "name": "lab.agent"})));
        argv.extend(shared("lab", "1b.0", &self.folder.join("inside"), true));
        if let Some(state) = self.state {
            // no-flush: writes of a killed QEMU are safe in this machine's kernel, so waiting for the disk is not
            // needed.
            argv.push("-blockdev".to_owned());
            argv.push(
                json!({"driver": "raw", "node-name": "lab-state", "cache": {"no-flush": true},
                    "file": {"driver": "file", "filename": text(state)}})
                .to_string(),
            );
            argv.extend(device(
                json!({"driver": "virtio-blk-pci", "drive": "lab-state", "serial": "lab-state",
                "bus": "pcie.0", "addr": "19.0"}),
            ));
        }
        if let Some(share) = self.share {
            argv.extend(shared("host", "1a.0", share, false));
        }
        argv
    }

    fn topology_devices(&self) -> Vec<String> {
        let mut argv = Vec::new();
        for drive in &self.topology.drive {
            argv.push("-drive".to_owned());
            argv.push(format!(
                "if=none,format=raw,id={},cache=unsafe,file={}",
                drive.id,
                text(&self.drive(&drive.id))
            ));
        }
        for netdev in &self.topology.netdev {
            argv.push("-netdev".to_owned());
            argv.push(Value::Object(netdev.clone()).to_string());
        }
        for properties in &self.topology.device {
            argv.extend(device(Value::Object(properties.clone())));
        }
        for gpu in &self.topology.gpu {
            let mut properties: Map<String, Value> = gpu.place.clone();
            properties.insert("driver".to_owned(), json!("vfio-user-pci"));
            properties.insert("id".to_owned(), json!(gpu.id));
            properties
                .insert("socket".to_owned(), json!({"type": "unix", "path": text(&self.gpu(gpu))}));
            argv.extend(device(Value::Object(properties)));
        }
        argv
    }
}

fn device(properties: Value) -> [String; 2] {
    ["-device".to_owned(), properties.to_string()]
}

fn shared(tag: &str, addr: &str, path: &Path, read_only: bool) -> Vec<String> {
    let read_only = if read_only { ",readonly=on" } else { "" };
    let fsdev = format!(
        "local,id={tag},path={},security_model=none,multidevs=remap{read_only}",
        text(path)
    );
    let mut argv = words(&["-fsdev", &fsdev]);
    argv.extend(device(json!({"driver": "virtio-9p-pci", "fsdev": tag, "mount_tag": tag, "bus": "pcie.0", "addr": addr})));
    argv
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A path for QEMU's comma-separated options.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
