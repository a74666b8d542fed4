//! Instance types and preferences are applied; a field that both they and the machine set is an error, as in KubeVirt.
#![allow(clippy::unwrap_used)]

use convert::{Instance, Presets, input};
use insta::assert_snapshot;
use serde_json::{Value, json};

const TYPE: &str = "
apiVersion: instancetype.kubevirt.io/v1beta1
kind: VirtualMachineClusterInstancetype
metadata: {name: g1.large}
spec:
  cpu: {guest: 8, dedicatedCPUPlacement: true}
  memory: {guest: 16Gi, overcommitPercent: 25}
  gpus: [{name: gpu1, deviceName: nvidia.com/TESLA_P40}]
  annotations: {team: compute}
";

const LIKING: &str = "
apiVersion: instancetype.kubevirt.io/v1beta1
kind: VirtualMachinePreference
metadata: {name: windows}
spec:
  cpu: {preferredCPUTopology: spread, preferredCPUFeatures: [{name: invtsc, policy: require}]}
  devices: {preferredDiskBus: virtio, preferredInterfaceModel: e1000e, preferredAutoattachInputDevice: true,
    preferredInputBus: virtio, preferredTPM: {}}
  features: {preferredHyperv: {relaxed: {}, synictimer: {direct: {}}}, preferredSmm: {}}
  firmware: {preferredEfi: {secureBoot: true}}
  clock: {preferredClockOffset: {utc: {}}, preferredTimer: {hpet: {present: false}}}
  requirements: {memory: {guest: 2Gi}}
";

fn machine(spec: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {{name: web}}\nspec:\n  {spec}\n"
    )
}

fn convert(text: &str, presets: &str) -> Result<Value, String> {
    let machine = input::read("vm.yaml", text, true).unwrap().documents.remove(0);
    let given = input::read("presets.yaml", presets, true).unwrap().documents;
    let presets = Presets { given, beside: Vec::new() };
    let instance = Instance::of(&machine, &presets);
    instance
        .map(|one| one.object)
        .map_err(|refusal| format!("{}\n{}", refusal.message, refusal.remedy))
}

const NAMED: &str = "instancetype: {name: g1.large}
  preference: {kind: VirtualMachinePreference, name: windows}
  template: {spec: {domain: {devices: {interfaces: [{name: default, masquerade: {}}]}}, networks: [{name: default, pod: {}}],
    volumes: [{name: root, persistentVolumeClaim: {claimName: root}}]}}";

#[test]
fn a_machine_of_a_type_with_a_preference() {
    let both = format!("{TYPE}---{LIKING}");
    let object = convert(&machine(NAMED), &both).unwrap();
    assert_snapshot!(format!("{object:#}"));
}

#[test]
fn one_that_is_given_needs_no_name() {
    let plain = machine("template: {spec: {domain: {}}}");
    let object = convert(&plain, TYPE).unwrap();
    assert_eq!(object["spec"]["domain"]["memory"]["guest"], "16Gi");
    assert_eq!(object["spec"]["domain"]["cpu"]["sockets"], 8);
    assert_eq!(
        object["metadata"]["annotations"],
        json!({"kubevirt.io/cluster-instancetype-name": "g1.large", "kubevirt.io/pci-topology-version": "v3",
            "team": "compute"})
    );
}

#[test]
fn all_conflicts_are_reported() {
    let own = machine(
        "instancetype: {name: g1.large}
  template: {metadata: {annotations: {team: web}}, spec: {domain: {cpu: {cores: 2, dedicatedCpuPlacement: true},
    memory: {guest: 1Gi}, resources: {limits: {cpu: 2}}, devices: {gpus: [{name: a, deviceName: b}]}}}}",
    );
    assert_snapshot!(convert(&own, TYPE).unwrap_err());
}

#[test]
fn missing_or_insufficient_devices() {
    assert_snapshot!(convert(&machine(NAMED), TYPE).unwrap_err());
    let small = TYPE.replace("16Gi", "1Gi");
    assert_snapshot!(convert(&machine(NAMED), &format!("{small}---{LIKING}")).unwrap_err());
    let odd = TYPE.replace("guest: 8", "guest: 7");
    assert_snapshot!(convert(&machine(NAMED), &format!("{odd}---{LIKING}")).unwrap_err());
}
