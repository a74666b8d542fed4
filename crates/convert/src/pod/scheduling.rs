//! Scheduling, and the rest of the pod's `spec`. podman ignores most of it; it matters when the pod is moved to a
//! cluster.

use serde_json::{Map, Value, json};

use super::{USER, hostname};
use crate::instance::Instance;
use crate::overhead::is_dedicated;
use crate::values::Below as _;

/// Fields that are copied from the instance unchanged.
const COPIED: [&str; 7] = [
    "subdomain",
    "dnsConfig",
    "dnsPolicy",
    "schedulerName",
    "tolerations",
    "topologySpreadConstraints",
    "priorityClassName",
];

/// Adds to a pod's `spec`.
pub fn add(instance: &Instance, pod: &mut Map<String, Value>) {
    let spec = instance.spec();
    for field in COPIED.iter().filter(|field| spec.has(field)) {
        pod.insert((*field).to_owned(), spec[*field].clone());
    }
    if !spec.text("serviceAccountName").is_empty() {
        pod.insert("serviceAccountName".into(), spec["serviceAccountName"].clone());
    }
    let affinity = affinity(spec);
    if affinity.as_object().is_some_and(|affinity| !affinity.is_empty()) {
        pod.insert("affinity".into(), affinity);
    }
    let secrets = pull_secrets(spec);
    if !secrets.is_empty() {
        pod.insert("imagePullSecrets".into(), secrets.into());
    }
    pod.insert("automountServiceAccountToken".into(), false.into());
    pod.insert("enableServiceLinks".into(), false.into());
    pod.insert("hostname".into(), hostname(instance).into());
    pod.insert("nodeSelector".into(), node_selector(spec).into());
    let gate = json!([{ "conditionType": "kubevirt.io/virtual-machine-unpaused" }]);
    pod.insert("readinessGates".into(), gate);
    // The launcher can start before the containers of its disks: then it is restarted.
    pod.insert("restartPolicy".into(), "OnFailure".into());
    let user =
        json!({ "fsGroup": USER, "runAsGroup": USER, "runAsNonRoot": true, "runAsUser": USER });
    pod.insert("securityContext".into(), user);
}

/// Avoids hosts without the CPU model, or with a forbidden CPU feature.
fn affinity(spec: &Value) -> Value {
    const TERMS: &str =
        "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let mut affinity = spec.at("affinity").cloned().unwrap_or_else(|| json!({}));
    let mut rejected = Vec::new();
    if spec.text("domain.cpu.model") == "host-model" {
        rejected.push("node-labeller.kubevirt.io/obsolete-host-model".to_owned());
    }
    let features = spec.list("domain.cpu.features").iter();
    for feature in features.filter(|feature| feature.text("policy") == "forbid") {
        rejected.push(format!("cpu-feature.node.kubevirt.io/{}", feature.text("name")));
    }
    for label in rejected {
        let rule = json!({ "key": label, "operator": "DoesNotExist" });
        // Terms are alternatives: the rule must hold in each.
        if affinity.list(TERMS).is_empty() {
            affinity.set(TERMS, json!([{}]));
        }
        affinity
            .items(TERMS)
            .iter_mut()
            .for_each(|term| term.push("matchExpressions", rule.clone()));
    }
    affinity
}

fn pull_secrets(spec: &Value) -> Vec<Value> {
    let volumes = spec.list("volumes").iter().map(|one| one.text("containerDisk.imagePullSecret"));
    let kernel = spec.text("domain.firmware.kernelBoot.container.imagePullSecret");
    let mut secrets: Vec<Value> = Vec::new();
    for name in volumes.chain([kernel]).filter(|name| !name.is_empty()) {
        let secret = json!({ "name": name });
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
    secrets
}

fn node_selector(spec: &Value) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("kubevirt.io/schedulable".into(), "true".into());
    let architecture = spec.text("architecture");
    if !architecture.is_empty() {
        all.insert("kubernetes.io/arch".into(), architecture.to_lowercase().into());
    }
    all.extend(spec.entries("nodeSelector").map(|(key, value)| (key.clone(), value.clone())));
    let model = spec.text("domain.cpu.model");
    let mut labels = Vec::new();
    if !matches!(model, "" | "host-model" | "host-passthrough") {
        labels.push(format!("cpu-model.node.kubevirt.io/{model}"));
    }
    labels.push(format!("machine-type.node.kubevirt.io/{}", spec.text("domain.machine.type")));
    let features = spec.list("domain.cpu.features").iter();
    for feature in features.filter(|one| matches!(one.text("policy"), "" | "require")) {
        labels.push(format!("cpu-feature.node.kubevirt.io/{}", feature.text("name")));
    }
    let conditions = [
        ("domain.cpu.realtime", "kubevirt.io/realtime"),
        ("domain.launchSecurity.sev", "kubevirt.io/sev"),
        ("domain.launchSecurity.sev.policy.encryptedState", "kubevirt.io/sev-es"),
        ("domain.launchSecurity.snp", "kubevirt.io/sev-snp"),
        ("domain.launchSecurity.tdx", "kubevirt.io/tdx"),
    ];
    for (path, label) in conditions {
        if spec.has(path) && spec.switch(path) != Some(false) {
            labels.push(label.to_owned());
        }
    }
    all.extend(labels.into_iter().map(|label| (label, Value::from("true"))));
    // No kubelet pins CPUs here.
    if is_dedicated(spec) {
        all.remove("cpumanager");
        all.remove("kubevirt.io/cpumanager");
    }
    all
}
