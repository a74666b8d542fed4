//! Pods of KubeVirt machines, played by podman itself: the guest has the device, and the host has it back after.

use std::time::Duration;

use crate::support::{AUDIO, GPU, Host, NVME, wanted};

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

/// An emulated host with podman and the launcher's image.
fn ready(topology: &str) -> Host {
    let host = Host::boot(topology);
    host.sh("/opt/lab/podman");
    host
}

/// Converts the machine in `/tmp/vm.yaml`, with its devices claimed, and plays its pod.
fn play(host: &Host, options: &str) {
    // As docs/kubevirt.md has it, but for the network: a bridge needs a packet filter, which the lab's kernel has not.
    let script = format!(
        "cd /tmp; handover pod --claim --launcher-image localhost/launcher:latest {options} vm.yaml >vm.pod.yaml && podman kube play --network none vm.pod.yaml"
    );
    host.lab.exec_within(&script, Duration::from_secs(300)).unwrap().success().unwrap();
}

/// What a machine's container said, once its guest is done.
fn report(host: &Host, name: &str) -> String {
    let said = || host.sh(&format!("podman logs virt-launcher-{name}-compute 2>&1 || true"));
    host.wait("the guest's report", 300, || said().contains("GUEST done"));
    said()
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
    let host = ready("workstation");
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
    // A machine that runs is not robbed of its devices.
    let early = host.lab.exec("handover pod --down default/box 2>&1").unwrap();
    assert!(early.status != 0 && early.stdout.contains("qemu-system-x86"), "{early:?}");
    down(&host);
    assert_eq!(host.sh("podman ps -aq; podman pod ps -q"), "");
    assert_eq!(host.sh("handover claims --json").trim(), "[]");
    assert_eq!(host.snapshot(), before);
}
