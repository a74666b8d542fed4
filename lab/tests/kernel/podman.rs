//! Pods of KubeVirt machines, played by podman: the guest has the device, and the host gets it back afterwards.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::{Lab, Options};

use crate::support::{AUDIO, GPU, Host, NVME, thoroughly, wanted};

/// A machine with these lines as its devices; the guest runs these checks.
fn machine(name: &str, checks: &str, devices: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata:
  name: {name}
spec:
  runStrategy: Always
  template:
    metadata:
      annotations:
        lab/guest: handover.run={checks} handover.stay=1
    spec:
      domain:
        cpu: {{ cores: 1 }}
        memory: {{ guest: 256Mi }}
        devices:
{devices}"
    )
}

/// The host's own display, which has a driver's nodes and a region of memory with the lab's module.
const DISPLAY: &str = "0000:02:00.0";

/// An emulated host with podman, the launcher's image, and the OCI hook's file in `/host`.
fn ready(topology: &'static str, kind: &'static str) -> Host {
    Host::prepared(kind, || {
        let packaging = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging"));
        let options =
            Options { topology: topology.into(), share: Some(packaging), ..Options::default() };
        let lab = Lab::start(&options).unwrap();
        lab.sh("/opt/lab/podman").unwrap();
        lab
    })
}

fn workstation() -> Host {
    ready("workstation", "workstation with podman")
}

/// Converts the machine in `/tmp/vm.yaml`, with its devices claimed, and plays its pod.
fn play(host: &Host, options: &str) {
    // As in docs/kubevirt.md, except the network: a bridge needs a packet filter, which the lab's kernel lacks.
    let script = format!(
        "cd /tmp; handover pod --claim --launcher-image localhost/launcher:latest {options} vm.yaml >vm.pod.yaml && podman kube play --network none vm.pod.yaml"
    );
    host.lab.exec_within(&script, Duration::from_secs(300)).unwrap().success().unwrap();
}

/// The output of a machine's container, once its guest is done.
fn report(host: &Host, name: &str) -> String {
    let said = || host.sh(&format!("podman logs virt-launcher-{name}-compute 2>&1 || true"));
    let until = Instant::now() + Duration::from_secs(300);
    loop {
        let said = said();
        if said.contains("GUEST done") {
            return said;
        }
        if Instant::now() > until {
            let machines =
                host.sh("ps -eo pid,stat,time,wchan:20,args | grep [q]emu-system || true");
            panic!("the guest's report did not come within 300 s:\n{said}\n{machines}");
        }
        // Each look takes processor time from the guest.
        std::thread::sleep(Duration::from_secs(3));
    }
}

fn down(host: &Host) {
    host.lab
        .exec_within(
            "cd /tmp; podman kube down vm.pod.yaml && handover pod --down vm.yaml",
            Duration::from_secs(300),
        )
        .unwrap()
        .success()
        .unwrap();
}

#[test]
fn a_guest_in_a_pod_has_the_claimed_devices_and_the_host_has_them_back() {
    if !wanted() {
        return;
    }
    let host = workstation();
    let before = host.snapshot();
    let devices = "          gpus:\n          - { name: gpu, deviceName: nvidia.com/GPU }
          hostDevices:\n          - { name: drive, deviceName: example.com/drive }\n";
    let text = machine("box", "gpu,nvme", devices);
    host.sh(&format!("cat >/tmp/vm.yaml <<'END'\n{text}END"));
    play(&host, &format!("--resource example.com/drive={NVME}"));
    let drivers = host.drivers(&[GPU, AUDIO, NVME]);
    assert!(drivers.values().all(|driver| driver == "vfio-pci"), "{drivers:?}");
    let said = report(&host, "box");
    println!("{said}");
    assert!(said.contains("LAUNCHER uid=107 memlock=unlimited"), "{said}");
    for line in
        [" 10de:2204 class=0300", "GUEST check gpu ok", "GUEST check nvme ok", "GUEST done rc=0"]
    {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    // A running machine keeps its devices.
    let early = host.lab.exec("handover pod --down default/box 2>&1").unwrap();
    assert!(early.status != 0 && early.stdout.contains("qemu-system-x86"), "{early:?}");
    down(&host);
    assert_eq!(host.sh("podman ps -aq; podman pod ps -q"), "");
    assert_eq!(host.sh("handover claims --json").trim(), "[]");
    assert_eq!(host.snapshot(), before);
}

#[test]
fn a_guest_in_a_pod_has_a_vgpu_and_a_virtual_function() {
    if !wanted() {
        return;
    }
    let host = ready("server", "server with podman");
    host.sh("handover sriov set 0000:01:00.0 2");
    let before = host.snapshot();
    let devices = "          gpus:\n          - { name: vgpu, deviceName: nvidia.com/LAB-8 }
          interfaces:\n          - { name: fast, sriov: {} }
      networks:\n      - { name: fast, multus: { networkName: nets/fast } }\n";
    let text = machine("parts", "", devices);
    host.sh(&format!("cat >/tmp/vm.yaml <<'END'\n{text}END"));
    play(
        &host,
        "--resource nvidia.com/LAB-8=profile=labgpu-475@0000:44:00.0 --resource nets/fast=vf@0000:01:00.0,vlan=100",
    );
    assert!(host.sh("ip link show").contains("vlan 100"));
    let said = report(&host, "parts");
    for line in [" 10de:2235 class=0302", " 8086:10ca class=020000 driver=igbvf", "GUEST done rc=0"]
    {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    down(&host);
    assert_eq!(host.sh("ls /sys/bus/mdev/devices; handover claims --json").trim(), "[]");
    assert_eq!(host.snapshot(), before);
}

#[test]
fn a_claim_is_opened_in_a_container_by_its_name() {
    if !wanted() {
        return;
    }
    let host = workstation();
    let before = host.snapshot();
    let id = host.sh(&format!("handover claim {NVME} --owner job/box --json | jq -r .id"));
    // Opening a group's node asks the kernel for the device; a node alone could be dead.
    let open = "exec 3<>/dev/vfio/vfio; for node in /dev/vfio/[0-9]*; do exec 4<>$node && echo opened $node; done; echo $PCI_RESOURCE_HANDOVER_DEV_CLAIM";
    let run = format!(
        "podman run --rm --network none --device handover.dev/claim={} localhost/launcher /host-usr/bin/bash -c '{open}'",
        id.trim()
    );
    let said = host.sh(&run);
    assert!(said.contains("opened /dev/vfio/") && said.contains(NVME), "{said}");
    host.sh("handover release job/box");
    let after = host.lab.exec(&format!("{run} 2>&1")).unwrap();
    assert!(after.status != 0 && after.stdout.contains("handover.dev/claim"), "{after:?}");
    assert_eq!(host.snapshot(), before);

    if thoroughly() {
        a_pod_asks_for_its_claim_by_the_same_name(&host);
        assert_eq!(host.snapshot(), before);
    }
}

fn a_pod_asks_for_its_claim_by_the_same_name(host: &Host) {
    let devices = "          gpus:\n          - { name: gpu, deviceName: nvidia.com/GPU }\n";
    let text = machine("named", "gpu", devices);
    host.sh(&format!("cat >/tmp/vm.yaml <<'END'\n{text}END"));
    play(host, "--cdi");
    let said = report(host, "named");
    assert!(said.contains("GUEST check gpu ok"), "{said}");
    down(host);
}

/// A host with a GPU whose memory can be limited; `None` if the kernel lacks the controller.
fn with_regions() -> Option<Host> {
    let host = workstation();
    host.sh(&format!("modprobe labdmem function={DISPLAY}"));
    let there = host.sh("ls /sys/fs/cgroup/dmem.capacity 2>/dev/null || true");
    if there.is_empty() {
        println!(
            "SKIPPED: this kernel has no dmem controller (the slim one has it: cargo lab build --slim)"
        );
        return None;
    }
    Some(host)
}

const LIMITED: &str =
    "cd /tmp; handover pod --devices=nodes --launcher-image localhost/launcher:latest vm.yaml";

#[test]
fn the_gpu_memory_of_a_pod_is_limited() {
    if !wanted() {
        return;
    }
    let Some(host) = with_regions() else { return };
    let devices = "          gpus:\n          - { name: gpu, deviceName: amd.com/gpu }\n";
    let text = machine("box", "", devices)
        .replace("lab/guest", "handover.dev/gpu-memory-limit: 16Mi\n        lab/guest");
    host.sh(&format!("cat >/tmp/vm.yaml <<'END'\n{text}END"));
    // Without the hook nothing would enforce the limit.
    let early = host.lab.exec(&format!("{LIMITED} 2>&1")).unwrap();
    assert!(early.status == 6 && early.stdout.contains("oci-hook.json"), "{early:?}");
    host.sh(
        "install -D -m 644 /host/oci-hook.json /usr/share/containers/oci/hooks.d/handover.json",
    );
    let much = host.lab.exec(&format!("{LIMITED} --gpu-memory-limit 65Mi 2>&1")).unwrap();
    assert!(much.status == 8 && much.stdout.contains("is more than 0000:02:00.0 has"), "{much:?}");

    host.sh(&format!("{LIMITED} >vm.pod.yaml && podman kube play --network none vm.pod.yaml"));
    let limit = || {
        host.sh("pid=$(podman inspect virt-launcher-box-compute | jq '.[0].State.Pid')
             cat /sys/fs/cgroup/$(sed 's/^0:://' /proc/$pid/cgroup)/dmem.max")
    };
    assert_eq!(limit(), format!("drm/{DISPLAY}/vram0 16777216\n"));
    // The kernel enforces it for programs in the container.
    let take = |bytes: u32| {
        let script = format!("echo {bytes} >/dev/dri/renderD128");
        let exec =
            format!("podman exec virt-launcher-box-compute /host-usr/bin/bash -c '{script}' 2>&1");
        host.lab.exec(&exec).unwrap()
    };
    assert_eq!(take(16 << 20).status, 0);
    let over = take(17 << 20);
    assert!(over.status != 0 && over.stdout.contains("temporarily unavailable"), "{over:?}");
    host.sh("podman restart -t 1 virt-launcher-box-compute");
    assert_eq!(limit(), format!("drm/{DISPLAY}/vram0 16777216\n"));
    host.sh("podman kube down /tmp/vm.pod.yaml");
    not_limited_is_not_started(&host);
    host.sh("rm /usr/share/containers/oci/hooks.d/handover.json; pkill -x socat");
}

/// A pod of another host, whose region does not exist here.
fn not_limited_is_not_started(host: &Host) {
    let listen = "socat -u UNIX-RECV:/dev/log OPEN:/tmp/syslog,creat";
    host.sh(&format!(
        "setsid {listen} >/dev/null 2>&1 </dev/null & for try in $(seq 200); do [ -S /dev/log ] && exit 0; sleep 0.05; done; exit 1"
    ));
    let other = "sed 's/0000:02:00.0.vram0/0000:09:00.0\\/vram0/' /tmp/vm.pod.yaml | podman kube play --network none - 2>&1";
    let refused = host.lab.exec(other).unwrap();
    assert!(refused.status != 0 && refused.stdout.contains("hook"), "{refused:?}");
    let log = host.sh("cat /tmp/syslog");
    assert!(log.contains("cannot limit") && log.contains("0000:09:00.0/vram0"), "{log}");
    host.sh("podman kube down /tmp/vm.pod.yaml");
}
