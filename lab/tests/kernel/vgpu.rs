//! The kernel's side of NVIDIA's vendor-specific VFIO, by hand: a virtual function of the igb with the lab's module
//! `labvf` is made a vGPU through a file, opened by QEMU, and freed.

use crate::support::{Host, wanted};

/// Common to all scripts: the igb, and `put`, which prints the error of a write.
const PRELUDE: &str = r#"
cd /sys/bus/pci/devices
pf=$(dirname $(grep -l 0x10c9 */device | head -n1))
put() { { echo "$1" >"$2"; } 2>&1 | sed 's/.*write error: //'; }
make() { put "$2" "$pf/virtfn$1/nvidia/current_vgpu_type"; }
creatable() { cat "$pf/virtfn$1/nvidia/creatable_vgpu_types"; }
ids() { creatable "$1" | awk -F: 'NR > 1 { printf "%s%d", sep, $1; sep = " " }'; }
parameter() { echo "$2" >"/sys/module/labvf/parameters/$1"; }
functions() {
    echo "$1" >$pf/sriov_numvfs
    for try in {1..200}; do [ "$(ls -d $pf/virtfn*/nvidia 2>/dev/null | wc -l)" = "$1" ] && return; sleep 0.05; done
    ls -l $pf/virtfn*/; return 1
}
# QEMU with this function, stopped before its first instruction; its words are in /tmp/qemu.log.
machine() {
    rm -f /tmp/qmp
    setsid qemu-system-x86_64 -machine q35 -accel tcg -cpu qemu64 -m 64 -nodefaults -display none -S \
        -qmp unix:/tmp/qmp,server=on,wait=off "${@:3}" \
        -device "vfio-pci,host=$(basename $(readlink $pf/virtfn$1)),id=vgpu$2" >/tmp/qemu.log 2>&1 </dev/null & pid=$!
    for try in {1..600}; do [ -S /tmp/qmp ] && return; kill -0 $pid 2>/dev/null || return 0; sleep 0.1; done
    return 1
}
qmp() { printf '%s\n' '{"execute":"qmp_capabilities"}' "$@" | timeout 60 socat -t 30 - UNIX-CONNECT:/tmp/qmp; }
gone() { for try in {1..200}; do pgrep -x qemu-system-x86 >/dev/null || return 0; sleep 0.05; done; return 1; }
"#;

const BUSY: &str = "Device or resource busy";
const INVALID: &str = "Invalid argument";
const FULL: &str = "No space left on device";

struct Vgpus(Host);

impl Vgpus {
    fn sh(&self, script: &str) -> String {
        self.0.sh(&format!("{PRELUDE}{script}")).trim_end().to_owned()
    }

    /// The kernel's error for a write of a type; empty on success.
    fn make(&self, function: u32, kind: u32) -> String {
        self.sh(&format!("make {function} {kind}"))
    }

    /// The function's present type.
    fn current(&self, function: u32) -> String {
        self.sh(&format!("cat $pf/virtfn{function}/nvidia/current_vgpu_type"))
    }

    /// The ids of the available types.
    fn ids(&self, function: u32) -> String {
        self.sh(&format!("ids {function}"))
    }

    fn parameter(&self, name: &str, value: &str) {
        self.sh(&format!("parameter {name} {value}"));
    }
}

#[test]
fn a_virtual_function_becomes_a_vgpu_is_opened_and_freed() {
    if !wanted() {
        return;
    }
    let vgpus = Vgpus(Host::shared("server"));
    vgpus.sh("modprobe labvf ids=8086:10ca; functions 7");
    let drivers =
        vgpus.sh("for vf in $pf/virtfn*; do basename $(readlink $vf/driver); done | uniq -c");
    assert_eq!(drivers.trim(), "7 labvf");

    both_formats_of_the_table(&vgpus);
    memory_is_shared(&vgpus);
    sizes_are_equal_unless_asked(&vgpus);
    a_machine_opens_it(&vgpus);
    freeing_takes_its_time(&vgpus);
    what_goes_is_freed(&vgpus);
    an_nvme_drives_too(&vgpus);
}

fn both_formats_of_the_table(vgpus: &Vgpus) {
    let table = "ID    : vGPU Name\n1155  : NVIDIA L40S-1Q\n1156  : NVIDIA L40S-2Q\n1157  : NVIDIA L40S-4Q\n1158  : NVIDIA L40S-8Q";
    for function in [0, 6] {
        assert_eq!(vgpus.sh(&format!("creatable {function}")), table);
        assert_eq!(vgpus.current(function), "0");
    }
    vgpus.parameter("name_first", "1");
    let table = vgpus.sh("creatable 3");
    let first: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(first, ["NVIDIA", "L40S-1Q", "1155"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    vgpus.parameter("name_first", "0");
}

fn memory_is_shared(vgpus: &Vgpus) {
    vgpus.parameter("heterogeneous", "1");
    assert_eq!(vgpus.make(0, 1157), "");
    assert_eq!((vgpus.current(0).as_str(), vgpus.ids(0).as_str()), ("1157", ""));
    assert_eq!(vgpus.ids(1), "1155 1156 1157");
    assert_eq!(vgpus.make(6, 1156), "");
    assert_eq!((vgpus.ids(1), vgpus.ids(5)), ("1155 1156".into(), "1155 1156".into()));
    assert_eq!(vgpus.make(0, 1155), BUSY, "it is a vGPU already");
    assert_eq!(vgpus.make(1, 1157), FULL);
    assert_eq!(vgpus.make(1, 9999), INVALID);
    assert_eq!(vgpus.sh("put nonsense $pf/virtfn1/nvidia/current_vgpu_type"), INVALID);
    assert_eq!(vgpus.make(1, 1156), "");
    assert_eq!(vgpus.ids(2), "", "the memory is used up");
    assert_eq!(vgpus.make(2, 1155), FULL);
    for function in [0, 1, 6, 6] {
        assert_eq!(vgpus.make(function, 0), "");
    }
    assert_eq!(vgpus.ids(2), "1155 1156 1157 1158");
    vgpus.parameter("heterogeneous", "0");
}

fn sizes_are_equal_unless_asked(vgpus: &Vgpus) {
    assert_eq!(vgpus.make(4, 1156), "");
    assert_eq!(vgpus.ids(0), "1156");
    assert_eq!(vgpus.make(0, 1155), FULL);
    assert_eq!(vgpus.make(0, 1156), "");
    assert_eq!(vgpus.make(4, 0), "");
    assert_eq!(vgpus.ids(4), "1156", "one of them is still there");
    assert_eq!(vgpus.make(0, 0), "");
    assert_eq!(vgpus.ids(4), "1155 1156 1157 1158");
}

fn a_machine_opens_it(vgpus: &Vgpus) {
    let refused = vgpus.sh("machine 0; gone; cat /tmp/qemu.log");
    assert!(refused.contains("error getting device from group"), "{refused}");
    assert!(refused.contains("No such device"), "{refused}");
    assert_eq!(vgpus.make(0, 1155), "");
    for backend in ["''", "',iommufd=iommufd' -object iommufd,id=iommufd"] {
        if backend.contains("iommufd") && vgpus.0.lab.exec("modprobe iommufd").unwrap().status != 0
        {
            println!("SKIPPED: the stock kernel has no iommufd");
            continue;
        }
        let query = r#"'{"execute":"query-pci"}'"#;
        let seen = vgpus.sh(&format!("machine 0 {backend}; cat /tmp/qemu.log; qmp {query}"));
        assert!(seen.contains("\"qdev_id\": \"vgpu\""), "{seen}");
        // The ids of an igb's virtual function read all ones; VFIO fills them in.
        assert!(seen.contains("\"device\": 4298"), "{seen}");
        assert_eq!(vgpus.make(0, 0), BUSY, "a machine has it");
        assert_eq!(vgpus.current(0), "1155");
        assert_eq!(vgpus.sh("basename $(readlink $pf/virtfn0/driver)"), "labvf");
        vgpus.sh("pkill -9 -x qemu-system-x86; gone");
    }
    assert_eq!(vgpus.make(0, 0), "");
}

fn freeing_takes_its_time(vgpus: &Vgpus) {
    vgpus.parameter("release_delay_ms", "1500");
    assert_eq!(vgpus.sh("make 0 1155; make 0 0"), BUSY);
    let tries = vgpus.sh("for try in {1..50}; do said=$(make 0 0); [ -z \"$said\" ] && break; sleep 0.1; done; echo $try");
    assert!((4..50).contains(&tries.parse::<u32>().unwrap()), "{tries}");
    vgpus.sh("make 0 1155; machine 0; qmp '{\"execute\":\"query-status\"}'; sleep 1.6");
    assert_eq!(vgpus.sh("pkill -9 -x qemu-system-x86; gone; make 0 0"), BUSY);
    assert_eq!(vgpus.sh("sleep 1.6; make 0 0"), "");
    vgpus.parameter("release_delay_ms", "0");
    vgpus.parameter("create_delay_ms", "800");
    let took = vgpus.sh(
        "began=${EPOCHREALTIME/./}; make 0 1155; echo $(((${EPOCHREALTIME/./} - began) / 1000))",
    );
    assert!(took.parse::<u32>().unwrap() >= 800, "{took} ms");
    vgpus.parameter("create_delay_ms", "0");
}

/// The virtual function, or its driver.
fn what_goes_is_freed(vgpus: &Vgpus) {
    assert_eq!(vgpus.ids(1), "1155", "function 0 is one");
    vgpus.sh("basename $(readlink $pf/virtfn0) >/sys/bus/pci/drivers/labvf/unbind; [ ! -e $pf/virtfn0/nvidia ]");
    assert_eq!(vgpus.ids(1), "1155 1156 1157 1158");
    assert_eq!(vgpus.make(1, 1158), "");
    vgpus.sh("echo 0 >$pf/sriov_numvfs; parameter megabytes 3000; functions 2");
    assert_eq!(vgpus.ids(0), "1155 1156", "with the memory that it was told of meanwhile");
    vgpus.sh("echo 0 >$pf/sriov_numvfs; modprobe -r labvf");
}

/// A device whose physical function has the same ids, and keeps its driver.
fn an_nvme_drives_too(vgpus: &Vgpus) {
    let drivers = vgpus.sh(
        "pf=$(basename $(ls -d /sys/bus/pci/drivers/nvme/0000:* | head -n1)); modprobe labvf ids=8086:10ca,1b36:0010
         functions 2; make 1 1155; for f in $pf $pf/virtfn0 $pf/virtfn1; do basename $(readlink $f/driver); done
         cat $pf/virtfn1/nvidia/current_vgpu_type",
    );
    assert_eq!(drivers, "nvme\nlabvf\nlabvf\n1155");
}
