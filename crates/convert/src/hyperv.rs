//! Features of Hyper-V that need others: they are switched on with those that need them (KubeVirt, pkg/defaults/hyperv.go).

use serde_json::{Value, json};

use crate::values::Below as _;

/// A feature and the one that it needs; those that others need come last.
const NEEDS: [(&str, &str); 5] = [
    ("evmcs", "vapic"),
    ("ipi", "vpindex"),
    ("tlbflush", "vpindex"),
    ("synictimer", "synic"),
    ("synic", "vpindex"),
];

/// Switches on what is needed. One that is switched off stays so: the machine will say why it cannot start.
pub fn apply(spec: &mut Value) {
    const HYPERV: &str = "domain.features.hyperv";
    if !spec.has(HYPERV) {
        return;
    }
    for (feature, needed) in NEEDS {
        if spec.switch(&format!("{HYPERV}.{feature}.enabled")) == Some(true) {
            spec.set_default(&format!("{HYPERV}.{needed}.enabled"), true);
        }
    }
    if spec.switch(&format!("{HYPERV}.evmcs.enabled")) == Some(true) {
        require_vmx(spec);
    }
}

/// Enlightened VMCS is for nested machines: the processor must offer VMX.
fn require_vmx(spec: &mut Value) {
    const FEATURES: &str = "domain.cpu.features";
    let own = spec.items(FEATURES).iter_mut().find(|feature| feature.text("name") == "vmx");
    match own {
        Some(own) => own.set("policy", "require"),
        None => spec.push(FEATURES, json!({ "name": "vmx", "policy": "require" })),
    }
}
