//! Recordings: reading one gives the same results as reading the host, and it contains no secret.
#![allow(clippy::unwrap_used)]

mod fake;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use fake::Fake;
use host::LinuxHost;
use host::record::{Private, Recording};
use model::{Address, Host};
use proptest::prelude::*;

/// The secrets of a fake host.
#[derive(Clone, Debug)]
struct Secrets {
    mac: [u8; 6],
    nvme: String,
    serial: u64,
    gpu: String,
    volume: String,
    host: String,
    user: String,
}

impl Secrets {
    fn some() -> Self {
        Self {
            mac: [0x52, 0x54, 0x00, 0xaa, 0xbb, 0x01],
            nvme: "S4EWNX0R123456".into(),
            serial: 0x48b0_2d00_1234_5678,
            gpu: "f3a1c5d2-0b1e-4c2d-9f3a-1b2c3d4e5f60".into(),
            volume: "0d9a6b2e-7f31-4a5c-8e21-93b4c5d6e7f8".into(),
            host: "wintermute".into(),
            user: "armitage".into(),
        }
    }

    fn mac(&self, between: &str) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(between)
    }

    /// All forms that must not occur in a recording.
    fn forms(&self) -> Vec<Vec<u8>> {
        let hex: String = self.nvme.bytes().map(|byte| format!("{byte:02x}")).collect();
        let texts = [
            self.mac(":"),
            self.mac(""),
            self.nvme.clone(),
            hex,
            self.gpu.clone(),
            self.volume.clone(),
            self.host.clone(),
            self.user.clone(),
        ];
        let mut forms: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        forms.push(self.serial.to_le_bytes().to_vec());
        forms
    }
}

fn secrets() -> impl Strategy<Value = Secrets> {
    let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
    let parts = (any::<[u8; 6]>(), "[A-Z0-9]{8,20}", 1u64 << 56.., uuid, uuid);
    let names = ("[a-z]{5,12}q[a-z]{3}", "[a-z]{5,12}z[a-z]{3}");
    (parts, names).prop_filter_map(
        "a name that is in other words",
        |((mac, nvme, serial, gpu, volume), (host, user))| {
            let real = mac.iter().filter(|byte| **byte != 0 && **byte != 0xff).count() > 3;
            let letters = nvme.bytes().any(|byte| byte.is_ascii_alphabetic());
            let secrets = Secrets { mac, nvme, serial, gpu, volume, host, user };
            (real && letters).then_some(secrets)
        },
    )
}

fn configuration(serial: u64) -> Vec<u8> {
    let mut config = vec![0u8; 4096];
    config[..4].copy_from_slice(&[0xde, 0x10, 0x04, 0x22]);
    config[0x100..0x104].copy_from_slice(&0x0001_0003u32.to_le_bytes());
    config[0x104..0x10c].copy_from_slice(&serial.to_le_bytes());
    config
}

/// A host with a card that a program uses, a network card and a disk.
fn made_up(secrets: &Secrets) -> Fake {
    let Secrets { nvme, serial, gpu, volume, host, user, .. } = secrets;
    let fake = Fake::new();
    let card = fake.function("0000:00:01.0/0000:01:00.0", "10de:2204:10de:1455", "030000");
    card.group(1).driver("nvidia").node("drm/card0", "char", "226:0");
    fake.function("0000:00:01.0", "1b36:000c:1b36:0000", "060400").group(1).driver("pcieport");
    let place = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
    fake.file(&format!("{place}/config"), configuration(*serial));
    fake.link(&format!("{place}/drm/card0/subsystem"), "../../../../../../class/drm");
    let information = format!("Model: X\nGPU UUID: \t GPU-{gpu}\nDevice Minor: \t 0\n");
    fake.file("proc/driver/nvidia/gpus/0000:01:00.0/information", information);
    let name = format!("enx{}", secrets.mac(""));
    let nic = fake.function("0000:00:02.0", "8086:10d3:8086:0000", "020000");
    nic.group(2).driver("e1000e").interface(&format!("net/{name}"));
    nic.with(&format!("net/{name}/address"), &format!("{}\n", secrets.mac(":")));
    let disk = fake.function("0000:00:03.0", "1b36:0010:1af4:1100", "010802");
    disk.group(3).driver("nvme").disk("nvme/nvme0/nvme0n1", "259:0");
    disk.link("nvme/nvme0/nvme0n1/subsystem", "../../../../../../../class/block");
    disk.with("nvme/nvme0/serial", &format!("{nvme}\n"));
    fake.file(
        "proc/self/mountinfo",
        format!("25 1 259:0 / /home/{user} rw - ext4 /dev/disk/by-uuid/{volume} rw\n"),
    );
    fake.file("proc/net/route", format!("Iface\tDest\tGw\tF\tR\tU\tM\tMask\n{name}\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\n"));
    fake.file("proc/sys/kernel/hostname", format!("{host}\n"));
    let options = format!("root=UUID={volume} resume=/dev/mapper/{host}--vg-swap intel_iommu=on");
    fake.file("proc/cmdline", format!("BOOT_IMAGE=/vmlinuz {options} foo=/home/{user}/x\n"));
    fake.file("proc/meminfo", "MemTotal: 1024 kB\nMemAvailable: 512 kB\n");
    fake.file("sys/devices/system/cpu/online", "0-3\n");
    fake.file("proc/4711/comm", "python3\n").file("proc/4711/cgroup", "0::/user.slice\n");
    fake.link("proc/4711/fd/3", "/dev/dri/card0");
    fake.link("proc/4711/fd/4", &format!("/home/{user}/secret.txt"));
    fake.file("proc/4712/comm", format!("{user}s-job\n"));
    fake.file("lib/modules/6.1.0-test/modules.alias", "alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau\nalias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\nalias pci:v0000AAAAd*sv*sd*bc*sc*i* other\n");
    fake.file(
        "lib/modules/6.1.0-test/modules.builtin.modinfo",
        "nova_core.alias=pci:v000010DEd*sv*sd*bc03sc*i*\0vfio_pci.license=GPL\0",
    );
    fake.file(
        "lib/modules/6.1.0-test/modules.dep",
        "kernel/vfio-pci.ko:\nkernel/nouveau.ko:\nkernel/other.ko:\n",
    );
    fake.file("usr/share/misc/pci.ids", "# ids\n10de  NVIDIA Corporation\n#  a comment\n\t2204  GA102\n\t2205  Else\n8086  Intel Corporation\n\t10d3  82574L\nbeef  Nobody\n");
    fake
}

fn save(recording: &Recording, at: &Path) -> PathBuf {
    let file = at.join("recording.tar.gz");
    recording.write(File::create(&file).unwrap()).unwrap();
    file
}

/// Everything that is read of a host, as one text.
fn told(root: &Path) -> BTreeMap<&'static str, String> {
    let host = LinuxHost::reader(root).unwrap();
    let listing = host.inventory().unwrap();
    let addresses: Vec<Address> = listing.functions.keys().copied().collect();
    let groups: Vec<u32> = listing.groups.keys().copied().collect();
    BTreeMap::from([
        ("listing", format!("{listing:#?}")),
        ("detail", format!("{:#?}", host.detail(None).unwrap())),
        ("overview", format!("{:#?}", host.overview().unwrap())),
        ("holders", format!("{:#?}", host.holders(&addresses).unwrap())),
        ("platform", format!("{:#?}", host.platform())),
        ("nodes", format!("{:#?}", host.group_nodes(&groups).unwrap())),
        ("capacity", format!("{:#?}", host.capacity().unwrap())),
        ("boot", host.boot_id().unwrap()),
    ])
}

#[test]
fn a_recording_reads_like_the_host() {
    let fake = made_up(&Secrets::some());
    let place = tempfile::tempdir().unwrap();
    let recording = Recording::make(fake.root(), true).unwrap();
    let file = save(&recording, place.path());
    let (before, after) = (told(fake.root()), told(&file));
    assert!(before["holders"].contains("python3"), "{}", before["holders"]);
    assert!(before["holders"].contains("mounted at /home/armitage"), "{}", before["holders"]);
    assert!(before["detail"].contains("48-b0-2d-00-12-34-56-78"), "{}", before["detail"]);
    for (what, text) in before {
        assert_eq!(after[what], text, "{what}");
    }
    // And a recording of the recording is the same.
    let again = Recording::make(&file, true).unwrap();
    assert_eq!(again.contents, recording.contents);
    assert_eq!(told(&save(&again, place.path())), after);
}

#[test]
fn a_recording_says_what_it_contains() {
    let recording = Recording::make(made_up(&Secrets::some()).root(), false).unwrap();
    let contents = &recording.contents;
    assert_eq!((contents.functions, contents.groups, contents.processes), (4, 3, 1));
    let replaced = [
        (Private::Serial, 1),
        (Private::HardwareAddress, 1),
        (Private::Uuid, 3),
        (Private::HostName, 1),
        (Private::UserName, 1),
    ];
    assert_eq!(contents.replaced, BTreeMap::from(replaced));
}

#[test]
fn the_same_is_replaced_by_the_same() {
    let fake = made_up(&Secrets::some());
    let place = tempfile::tempdir().unwrap();
    let file = save(&Recording::make(fake.root(), false).unwrap(), place.path());
    let host = LinuxHost::reader(&file).unwrap();
    let nic: Address = "0000:00:02.0".parse().unwrap();
    let name = host.inventory().unwrap().functions[&nic].nodes.interfaces[0].clone();
    assert!(name.starts_with("enx") && name.len() == 15 && name != "enx525400aabb01", "{name}");
    // The holder is found by the name in the table of routes.
    let holders = host.holders(&[nic]).unwrap();
    assert_eq!(holders[0].by, name);
    let card: Address = "0000:01:00.0".parse().unwrap();
    let detail = host.detail(Some(&[card])).unwrap();
    let serial = detail.functions[&card].detail.clone().unwrap().serial.unwrap();
    assert_eq!(serial.len(), 23);
    assert_ne!(serial, "48-b0-2d-00-12-34-56-78");
    // Another recording has another key.
    let other = save(&Recording::make(fake.root(), false).unwrap(), place.path());
    let other = LinuxHost::reader(&other).unwrap().inventory().unwrap();
    assert_ne!(other.functions[&nic].nodes.interfaces[0], name);
}

#[test]
fn files_that_do_not_describe_the_host_are_left_out() {
    let place = tempfile::tempdir().unwrap();
    let recording = Recording::make(made_up(&Secrets::some()).root(), true).unwrap();
    let bytes = unzipped(&save(&recording, place.path()));
    for gone in ["beef  Nobody", "v0000AAAA", "kernel/other.ko", "secret.txt", "0102A8C0", "s-job"]
    {
        assert_eq!(find(&bytes, gone.as_bytes()), None, "{gone}");
    }
}

fn unzipped(file: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(File::open(file).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_secret_survives(secrets in secrets()) {
        let place = tempfile::tempdir().unwrap();
        let recording = Recording::make(made_up(&secrets).root(), false).unwrap();
        let file = save(&recording, place.path());
        let bytes = unzipped(&file);
        for secret in secrets.forms() {
            let at = find(&bytes, &secret);
            let around = at.map(|at| String::from_utf8_lossy(
                &bytes[at.saturating_sub(60)..(at + 60).min(bytes.len())]).into_owned());
            prop_assert_eq!(around, None, "{}", String::from_utf8_lossy(&secret));
        }
        // It can still be read, with as many facts.
        let (before, after) = (told(made_up(&secrets).root()), told(&file));
        for (what, text) in before {
            prop_assert_eq!(after[what].lines().count(), text.lines().count(), "{}", what);
        }
    }
}
