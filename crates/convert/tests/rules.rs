//! KubeVirt's rules: what it refuses is refused with place, path and rule; what it accepts is accepted.
#![allow(clippy::unwrap_used)]

use convert::{Instance, Presets, input};
use insta::assert_snapshot;

fn machine(spec: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata: {{name: m}}\nspec: {{{spec}}}\n"
    )
}

/// The problems of a text, without their places.
fn problems(text: &str) -> Vec<String> {
    let mistakes = match input::read("vm.yaml", text, true) {
        Ok(input) => {
            let instance = Instance::of(&input.documents[0], &Presets::default());
            return instance.err().map(|refusal| refusal.message).into_iter().collect();
        }
        Err(mistakes) => mistakes,
    };
    assert!(mistakes.mistakes.iter().all(|mistake| mistake.line > 0), "{mistakes}");
    mistakes.mistakes.into_iter().map(|mistake| mistake.problem).collect()
}

/// Machines that KubeVirt refuses: their `spec`, and the problem.
const REFUSED: [(&str, &str); 87] = [
    // Volumes and disks.
    ("M, volumes: [{name: d, hostDisk: {type: Disk}}]", "spec.volumes.0.hostDisk has no path"),
    (
        "M, volumes: [{name: d, hostDisk: {path: d.img, type: Disk}}]",
        "spec.volumes.0.hostDisk.path is \"d.img\", which is not an absolute path",
    ),
    (
        "M, volumes: [{name: d, hostDisk: {path: /d.img, type: File}}]",
        "spec.volumes.0.hostDisk.type is \"File\"",
    ),
    (
        "M, volumes: [{name: d, hostDisk: {path: /d.img, type: Disk, capacity: 1Gi}}]",
        "spec.volumes.0.hostDisk.capacity is set for an existing disk",
    ),
    (
        "M, volumes: [{name: d, persistentVolumeClaim: {}}]",
        "spec.volumes.0.persistentVolumeClaim has no claimName",
    ),
    (
        "M, volumes: [{name: d, ephemeral: {persistentVolumeClaim: {claimName: ''}}}]",
        "spec.volumes.0.ephemeral.persistentVolumeClaim has no claimName",
    ),
    ("M, volumes: [{name: d}]", "spec.volumes.0 has no source"),
    (
        "M, volumes: [{name: d, emptyDisk: {capacity: 1Gi}, containerDisk: {image: a}}]",
        "spec.volumes.0 has more than one source: containerDisk, emptyDisk",
    ),
    ("M, volumes: [{name: d, emptyDisk: {}}]", "spec.volumes.0.emptyDisk has no capacity"),
    ("M, volumes: [{name: d, containerDisk: {}}]", "spec.volumes.0.containerDisk has no image"),
    (
        "M, volumes: [{name: d, containerDisk: {image: a, path: disk.img}}]",
        "spec.volumes.0.containerDisk.path is \"disk.img\", which is not the absolute path of a file",
    ),
    (
        "M, volumes: [{name: d, containerDisk: {image: a, imagePullPolicy: Once}}]",
        "spec.volumes.0.containerDisk.imagePullPolicy is \"Once\"",
    ),
    (
        "M, volumes: [{name: A_1, containerDisk: {image: a}}]",
        "spec.volumes.0.name is \"A_1\", which is not a DNS label",
    ),
    (
        "M, volumes: [{name: a, containerDisk: {image: a}}, {name: a, containerDisk: {image: b}}]",
        "spec.volumes.1.name is \"a\", the name of another volume",
    ),
    (
        "M, volumes: [{name: d, cloudInitNoCloud: {}}]",
        "spec.volumes.0.cloudInitNoCloud has no data",
    ),
    (
        "M, volumes: [{name: d, cloudInitNoCloud: {userData: a, userDataBase64: YQ==}}]",
        "spec.volumes.0.cloudInitNoCloud has more than one user data: userData, userDataBase64",
    ),
    (
        "M, volumes: [{name: d, cloudInitConfigDrive: {userDataBase64: 'a b'}}]",
        "spec.volumes.0.cloudInitConfigDrive.userDataBase64 is not base64 of at most 2048 bytes",
    ),
    (
        "M, volumes: [{name: d, containerPath: {path: /a}}]",
        "spec.volumes.0 is a containerPath, which only a filesystem can use",
    ),
    (
        "M, volumes: [{name: a, downwardMetrics: {}}, {name: b, downwardMetrics: {}}]",
        "spec.volumes.1 is a second downwardMetrics volume",
    ),
    ("M, utilityVolumes: [{name: a, claimName: b}]", "spec.utilityVolumes has volumes"),
    ("D disks: [{name: a}]}}", "spec.domain.devices.disks.0 has no volume a"),
    (
        "D disks: [{name: a, disk: {bus: ide}}]}}, V",
        "spec.domain.devices.disks.0.disk.bus is \"ide\"",
    ),
    (
        "D disks: [{name: a, cdrom: {bus: virtio}}]}}, V",
        "spec.domain.devices.disks.0.cdrom.bus is \"virtio\"",
    ),
    (
        "D disks: [{name: a, disk: {}, cdrom: {}}]}}, V",
        "spec.domain.devices.disks.0 has more than one target: disk, cdrom",
    ),
    (
        "D disks: [{name: a, lun: {}}]}}, V",
        "spec.domain.devices.disks.0.lun has a volume that is not a block device",
    ),
    ("D disks: [{name: a, bootOrder: 0}]}}, V", "spec.domain.devices.disks.0.bootOrder is 0"),
    (
        "D disks: [{name: a, bootOrder: 1}], interfaces: [{name: n, masquerade: {}, bootOrder: 1}]}}, V, N",
        "spec.domain.devices.interfaces.0.bootOrder is 1, as another device's",
    ),
    ("D disks: [{name: a, cache: fast}]}}, V", "spec.domain.devices.disks.0.cache is \"fast\""),
    ("D disks: [{name: a, io: default}]}}, V", "spec.domain.devices.disks.0.io is \"default\""),
    (
        "D disks: [{name: a, serial: 'a b'}]}}, V",
        "spec.domain.devices.disks.0.serial is \"a b\", which is not a serial number",
    ),
    (
        "D disks: [{name: a, disk: {bus: sata, readonly: true}}]}}, V",
        "virtual machine m: spec.domain.devices.disks.0 is a read-only disk on sata, which has none",
    ),
    (
        "D disks: [{name: a, disk: {bus: virtio}, blockSize: {custom: {logical: 1000, physical: 4096}}}]}}, V",
        "spec.domain.devices.disks.0.blockSize.custom.logical is \"1000\", which is not a power of two",
    ),
    // Networks.
    (
        "D interfaces: [{name: n, masquerade: {}, macAddress: '02:00:00'}]}}, N",
        "spec.domain.devices.interfaces.0.macAddress is \"02:00:00\", which is not a MAC address",
    ),
    (
        "D interfaces: [{name: n, masquerade: {}, model: ne2k}]}}, N",
        "spec.domain.devices.interfaces.0.model is \"ne2k\"",
    ),
    (
        "D interfaces: [{name: n}]}}, N",
        "virtual machine m: spec.domain.devices.interfaces.0 has no binding",
    ),
    (
        "D interfaces: [{name: n, masquerade: {}, bridge: {}}]}}, N",
        "spec.domain.devices.interfaces.0 has more than one binding: bridge, masquerade",
    ),
    (
        "D interfaces: [{name: n, masquerade: {}}]}}",
        "spec.domain.devices.interfaces.0 has no network n",
    ),
    ("M, N", "spec.networks.0 is used by no interface"),
    (
        "D interfaces: [{name: n, masquerade: {}}, {name: o, masquerade: {}}]}}, networks: [{name: n, pod: {}}, {name: o, pod: {}}]",
        "spec.networks.1 is a second default network of the pod",
    ),
    (
        "D interfaces: [{name: n, masquerade: {}}]}}, networks: [{name: n, multus: {networkName: a}}]",
        "spec.domain.devices.interfaces.0.masquerade needs the pod's network",
    ),
    (
        "D interfaces: [{name: n, bridge: {}}]}}, networks: [{name: n}]",
        "spec.networks.0 has no source",
    ),
    (
        "D interfaces: [{name: n, bridge: {}}]}}, networks: [{name: n, multus: {}}]",
        "spec.networks.0.multus has no networkName",
    ),
    (
        "D interfaces: [{name: n, masquerade: {}, ports: [{port: 70000}]}]}}, N",
        "spec.domain.devices.interfaces.0.ports.0.port is 70000",
    ),
    (
        "D interfaces: [{name: n, masquerade: {}, ports: [{name: a, port: 1}, {name: a, port: 2}]}]}}, N",
        "spec.domain.devices.interfaces.0.ports.1.name is \"a\", the name of another port",
    ),
    (
        "D interfaces: [{name: n, masquerade: {}, dhcpOptions: {ntpServers: [pool]}}]}}, N",
        "spec.domain.devices.interfaces.0.dhcpOptions.ntpServers.0 is \"pool\", which is not an IPv4 address",
    ),
    ("M, dnsPolicy: None", "spec.dnsPolicy is None without a name server"),
    ("M, dnsPolicy: Some", "spec.dnsPolicy is \"Some\""),
    ("M, hostname: A_b", "spec.hostname is \"A_b\", which is not a DNS label"),
    ("M, readinessProbe: {}", "spec.readinessProbe has no handler"),
    // The domain.
    (
        "domain: {memory: {guest: 8Gi}, resources: {limits: {memory: 4Gi}}}",
        "spec.domain.memory.guest is 8Gi, which is more than the limit 4Gi",
    ),
    (
        "domain: {resources: {requests: {memory: 8Gi}, limits: {memory: 4Gi}}}",
        "spec.domain.resources.requests.memory is 8Gi, which is more than the limit 4Gi",
    ),
    (
        "domain: {memory: {guest: 1Gi}, resources: {requests: {cpu: 4}, limits: {cpu: 2}}}",
        "spec.domain.resources.requests.cpu is 4, which is more than the limit 2",
    ),
    (
        "domain: {memory: {guest: 1Gi, hugepages: {pageSize: 3Mi}}}",
        "spec.domain.memory.hugepages.pageSize is 3Mi, which is no size of huge pages",
    ),
    (
        "domain: {memory: {guest: 1025Mi, hugepages: {pageSize: 2Mi}}}",
        "spec.domain.memory.hugepages.pageSize is 2Mi, but the memory 1025Mi is no multiple of it",
    ),
    (
        "domain: {memory: {guest: 1Gi}, machine: {type: pc}}",
        "spec.domain.machine.type is \"pc\", which is no known machine type",
    ),
    (
        "domain: {memory: {guest: 1Gi}, cpu: {sockets: 4, maxSockets: 2}}",
        "spec.domain.cpu.sockets is 4, which is more than maxSockets 2",
    ),
    (
        "domain: {memory: {guest: 1Gi}, cpu: {features: [{name: a, policy: must}]}}",
        "spec.domain.cpu.features.0.policy is \"must\"",
    ),
    (
        "domain: {memory: {guest: 1Gi}, cpu: {isolateEmulatorThread: true}}",
        "virtual machine m: spec.domain.cpu.isolateEmulatorThread needs dedicatedCpuPlacement",
    ),
    (
        "domain: {memory: {guest: 1Gi}, firmware: {bootloader: {bios: {}, efi: {}}}, features: {smm: {}}}",
        "spec.domain.firmware.bootloader has more than one firmware: bios, efi",
    ),
    (
        "domain: {memory: {guest: 1Gi}, firmware: {bootloader: {efi: {}}}}",
        "virtual machine m: spec.domain.firmware.bootloader.efi has secure boot, which needs SMM",
    ),
    (
        "domain: {memory: {guest: 1Gi}, features: {hyperv: {synic: {}, vpindex: {enabled: false}}}}",
        "spec.domain.features.hyperv.vpindex is disabled, but synic needs it",
    ),
    (
        "domain: {memory: {guest: 1Gi}, launchSecurity: {sev: {}}}",
        "virtual machine m: spec.domain.launchSecurity needs EFI",
    ),
    (
        "D inputs: [{name: t, type: keyboard}]}}",
        "spec.domain.devices.inputs.0.type is \"keyboard\"",
    ),
    (
        "D watchdog: {name: w, i6300esb: {action: dump}}}}",
        "spec.domain.devices.watchdog.i6300esb.action is \"dump\"",
    ),
    ("D sound: {name: s, model: sb16}}}", "spec.domain.devices.sound.model is \"sb16\""),
    ("M, startStrategy: Later", "spec.startStrategy is \"Later\""),
    // What needs defaults, and the rest.
    (
        "domain: {memory: {guest: 1Gi}, cpu: {cores: 2, dedicatedCpuPlacement: true}, resources: {requests: {cpu: 1500m}}}",
        "virtual machine m: spec.domain.resources.requests.cpu is 1500m, but dedicated CPUs are whole",
    ),
    (
        "domain: {memory: {guest: 1Gi}, cpu: {cores: 2, dedicatedCpuPlacement: true}, resources: {limits: {cpu: 3}}}",
        "virtual machine m: spec.domain.cpu.dedicatedCpuPlacement needs a CPU request of the guest's 2 CPUs",
    ),
    (
        "domain: {resources: {requests: {memory: 1Gi}, limits: {memory: 2Gi}}, cpu: {dedicatedCpuPlacement: true}}",
        "virtual machine m: spec.domain.cpu.dedicatedCpuPlacement needs the memory request to be the memory limit",
    ),
    (
        "domain: {memory: {guest: 1Gi}, cpu: {cores: 1, threads: 4, dedicatedCpuPlacement: true}}",
        "virtual machine m: spec.domain.cpu.threads is more than 2, but the CPUs are dedicated",
    ),
    (
        "domain: {memory: {guest: 1Gi}, cpu: {dedicatedCpuPlacement: true, numa: {guestMappingPassthrough: {}}}}",
        "virtual machine m: spec.domain.cpu.numa.guestMappingPassthrough needs memory.hugepages",
    ),
    (
        "domain: {memory: {guest: 1Gi}, firmware: {bootloader: {efi: {}}}, features: {smm: {}}, launchSecurity: {snp: {}}}",
        "virtual machine m: spec.domain.launchSecurity excludes secure boot",
    ),
    (
        "domain: {memory: {guest: 1Gi}, ioThreadsPolicy: supplementalPool}",
        "virtual machine m: spec.domain.ioThreadsPolicy is supplementalPool without a number of threads",
    ),
    (
        "D disks: [{name: a, disk: {bus: sata}}]}}, V, architecture: arm64",
        "virtual machine m: spec.domain.devices.disks.0.disk.bus is sata, which is not available on arm64",
    ),
    (
        "D sound: {name: s}}}, architecture: arm64",
        "virtual machine m: spec.domain.devices.sound is not available on arm64",
    ),
    (
        "domain: {memory: {guest: 1Gi}, machine: {type: q35}}, architecture: arm64",
        "spec.domain.machine.type is \"q35\", which is no known machine type",
    ),
    (
        "D video: {type: vga}}}, architecture: s390x",
        "virtual machine m: spec.domain.devices.video is not available on s390x",
    ),
    (
        "D video: {type: vga}, autoattachGraphicsDevice: false}}",
        "spec.domain.devices.video is set, but autoattachGraphicsDevice is false",
    ),
    (
        "D gpus: [{name: a, deviceName: b, virtualGPUOptions: {display: {}}}, {name: c, deviceName: d, virtualGPUOptions: {display: {}}}]}}",
        "spec.domain.devices.gpus has more than one display with ramFB",
    ),
    (
        "D interfaces: [{name: n, bridge: {}, portRanges: [{protocol: TCP, start: 1, end: 2}]}]}}, N",
        "spec.domain.devices.interfaces.0.portRanges needs the binding masquerade",
    ),
    (
        "D interfaces: [{name: n, masquerade: {}, portRanges: [{protocol: TCP, start: 1, end: 9}, {protocol: TCP, start: 5, end: 12}]}]}}, N",
        "spec.domain.devices.interfaces.0.portRanges.1 overlaps another range",
    ),
    (
        "D interfaces: [{name: n, bridge: {}}]}}, networks: [{name: n, multus: {networkName: a}}], readinessProbe: {httpGet: {port: 80}}",
        "spec.readinessProbe.httpGet needs the pod's network",
    ),
    (
        "M, startStrategy: Paused, livenessProbe: {guestAgentPing: {}}",
        "spec.livenessProbe cannot be combined with startStrategy",
    ),
    (
        "M, accessCredentials: [{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {noCloud: {}}}}]",
        "spec.accessCredentials.0.sshPublicKey.propagationMethod.noCloud needs a cloudInitNoCloud volume",
    ),
    (
        "domain: {memory: {guest: 1Gi}, firmware: {kernelBoot: {kernelArgs: quiet}}}",
        "spec.domain.firmware.kernelBoot.kernelArgs is set without a kernel",
    ),
    (
        "domain: {memory: {guest: 1Gi}, firmware: {acpi: {slicNameRef: s}}}",
        "spec.domain.firmware.acpi.slicNameRef is \"s\", which is no volume",
    ),
    (
        "domain: {memory: {guest: 2Gi, maxGuest: 1Gi}}",
        "spec.domain.memory.maxGuest is 1Gi, which is less than the guest's memory 2Gi",
    ),
];

/// Machines that KubeVirt accepts.
const ACCEPTED: [&str; 12] = [
    "M",
    "M, V",
    "D disks: [{name: drive, cdrom: {bus: sata}}]}}",
    "D disks: [{name: a, disk: {bus: scsi}, bootOrder: 2, cache: none, io: native, serial: A-1}]}}, V",
    "D interfaces: [{name: n, masquerade: {}, macAddress: 02-00-00-ab-cd-ef, model: virtio, ports: [{port: 22}]}]}}, N",
    "D interfaces: [{name: n, bridge: {}}]}}, networks: [{name: n, multus: {networkName: nets/a}}]",
    "D filesystems: [{name: a, virtiofs: {}}]}}, volumes: [{name: a, containerPath: {path: /srv}}]",
    "D inputs: [{name: t}], watchdog: {name: w}, video: {type: virtio}}}",
    "domain: {memory: {guest: 4Gi, hugepages: {pageSize: 2048Ki}}, machine: {type: pc-q35-rhel9.6.0}}",
    "domain: {memory: {guest: 4Gi}, machine: {type: virt}}, architecture: arm64",
    "domain: {resources: {requests: {memory: 1Gi, cpu: 500m}, limits: {memory: 1Gi, cpu: 1}}}",
    "domain: {memory: {guest: 1Gi}, firmware: {bootloader: {efi: {secureBoot: false}}}}",
];

fn spelled(spec: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in spec.split(", ") {
        parts.push(match part {
            "M" => "domain: {memory: {guest: 1Gi}}".to_owned(),
            "V" => "volumes: [{name: a, containerDisk: {image: b}}]".to_owned(),
            "N" => "networks: [{name: n, pod: {}}]".to_owned(),
            other => other.replace("D ", "domain: {memory: {guest: 1Gi}, devices: {"),
        });
    }
    machine(&parts.join(", "))
}

#[test]
fn each_rule() {
    for (spec, problem) in REFUSED {
        assert_eq!(problems(&spelled(spec)), [problem], "{spec}");
    }
}

#[test]
fn what_kubevirt_accepts() {
    for spec in ACCEPTED {
        assert_eq!(problems(&spelled(spec)), [""; 0], "{spec}");
    }
}

#[test]
fn problems_have_places_and_remedies() {
    let text = "apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: m}
spec:
  preference: {kind: Preference, name: a}
  template:
    metadata:
      annotations:
        hooks.kubevirt.io/hookSidecars: '[{\"image\": \"registry.example/sidecar:1\"}]'
    spec:
      domain:
        memory: {guest: 8Gi}
        resources: {limits: {memory: 4Gi}}
        devices:
          disks:
          - name: d
            disk: {bus: nvme}
      volumes:
      - name: d
        hostDisk: {type: Disk}
      - name: e
";
    assert_snapshot!(input::read("vm.yaml", text, false).unwrap_err());
}

#[test]
fn wrong_types_are_reported_once() {
    let text = spelled("M, volumes: [{name: d, hostDisk: {path: [a], type: Disk}}]");
    assert_eq!(problems(&text), ["spec.volumes.0.hostDisk.path is a list"]);
}

#[test]
fn notes() {
    let text = "apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: m}
spec:
  dataVolumeTemplates: [{metadata: {name: v}}]
  template:
    metadata: {annotations: {sidecar.istio.io/inject: 'true'}}
    spec:
      domain: {memory: {guest: 1Gi}, firmware: {kernelBoot: {container: {image: a}}}}
      volumes: [{name: v, containerDisk: {image: a/b}}]
";
    let input = input::read("vm.yaml", text, true).unwrap();
    assert_snapshot!(input.notes.join("\n"));
    assert!(Instance::of(&input.documents[0], &Presets::default()).is_ok());
}

const PREFERENCES: &str = "apiVersion: instancetype.kubevirt.io/v1beta1
kind: VirtualMachineClusterPreference
metadata: {name: a}
spec: {devices: {preferredDiskBus: virtio}}
---
apiVersion: instancetype.kubevirt.io/v1beta1
kind: VirtualMachineClusterPreference
metadata: {name: b}
spec: {devices: {preferredDiskBus: ide}, annotations: {hooks.kubevirt.io/hookSidecars: '[]'}}
";

fn with_presets(more: &str) -> Result<Instance, String> {
    let text = format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {{name: m}}\nspec:\n  {more}template: \
         {{spec: {{domain: {{memory: {{guest: 1Gi}}}}, volumes: [{{name: d, containerDisk: {{image: a}}}}]}}}}\n"
    );
    let document = input::read("vm.yaml", &text, true).unwrap().documents.remove(0);
    let given = input::read("prefs.yaml", PREFERENCES, true).unwrap().documents;
    let presets = Presets { given, beside: Vec::new() };
    Instance::of(&document, &presets)
        .map_err(|refusal| format!("{}\n{}", refusal.message, refusal.remedy))
}

#[test]
fn a_machine_that_names_none_of_several_presets_uses_none() {
    let instance = with_presets("").unwrap();
    assert_eq!(instance.object["spec"]["domain"]["devices"]["disks"][0]["disk"]["bus"], "sata");
    assert_eq!(
        instance.notes,
        [
            "2 documents of the kind preference are given, but the machine uses none: it has no spec.preference.name"
        ]
    );
}

#[test]
fn a_preference_can_set_the_binding() {
    let text = "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {name: m}\nspec:\n  template:\n    spec:\n      \
        domain: {memory: {guest: 1Gi}, devices: {interfaces: [{name: n}]}}\n      networks: [{name: n, pod: {}}]\n";
    let preference = "apiVersion: instancetype.kubevirt.io/v1beta1\nkind: VirtualMachinePreference\n\
        metadata: {name: p}\nspec: {devices: {preferredInterfaceMasquerade: {}}}\n";
    let document = input::read("vm.yaml", text, true).unwrap().documents.remove(0);
    let given = input::read("prefs.yaml", preference, true).unwrap().documents;
    assert!(Instance::of(&document, &Presets { given, beside: Vec::new() }).is_ok());
    assert!(Instance::of(&document, &Presets::default()).is_err());
}

#[test]
fn what_a_preference_sets_is_checked_too() {
    assert!(with_presets("preference: {name: a}\n  ").is_ok());
    assert_snapshot!(with_presets("preference: {name: b}\n  ").unwrap_err());
}

#[test]
fn presets_have_rules_too() {
    let of = |kind: &str, spec: &str| {
        format!(
            "apiVersion: instancetype.kubevirt.io/v1beta1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{{spec}}}\n"
        )
    };
    let wrong = |kind: &str, spec: &str| {
        let mistakes = input::read("presets.yaml", &of(kind, spec), true).unwrap_err().mistakes;
        mistakes.into_iter().map(|mistake| mistake.problem).collect::<Vec<_>>()
    };
    let memory =
        "cpu: {guest: 1}, memory: {guest: 1Gi, overcommitPercent: 10, hugepages: {pageSize: 2Mi}}";
    assert_eq!(
        wrong("VirtualMachineInstancetype", memory),
        ["spec.memory.overcommitPercent is set beside `hugepages`"]
    );
    assert_eq!(wrong("VirtualMachineInstancetype", "memory: {guest: 1Gi}"), ["spec has no cpu"]);
    let spread =
        "cpu: {preferredCPUTopology: spread, spreadOptions: {across: CoresThreads, ratio: 4}}";
    assert_eq!(
        wrong("VirtualMachinePreference", spread),
        ["spec.cpu.spreadOptions.ratio is 4, but a core has 2 threads"]
    );
    assert_eq!(
        wrong("VirtualMachinePreference", "cpu: {preferredCPUTopology: dies}"),
        ["spec.cpu.preferredCPUTopology is \"dies\""]
    );
}
