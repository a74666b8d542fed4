//! Dependencies of Hyper-V features: enables what other features need (KubeVirt, pkg/defaults/hyperv.go).

use serde_json::{Value, json};

use crate::values::Below as _;

/// A feature and the one that it needs; features that others need come last.
pub const NEEDS: [(&str, &str); 5] = [
    ("evmcs", "vapic"),
    ("ipi", "vpindex"),
    ("tlbflush", "vpindex"),
    ("synictimer", "synic"),
    ("synic", "vpindex"),
];

/// Enables needed features. A disabled one stays disabled: the machine then reports why it cannot start.
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

/// Enlightened VMCS is for nested machines and needs VMX.
fn require_vmx(spec: &mut Value) {
    const FEATURES: &str = "domain.cpu.features";
    let own = spec.items(FEATURES).iter_mut().find(|feature| feature.text("name") == "vmx");
    match own {
        Some(own) => own.set("policy", "require"),
        None => spec.push(FEATURES, json!({ "name": "vmx", "policy": "require" })),
    }
}
