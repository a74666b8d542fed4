//! Annotations that KubeVirt acts on in a cluster, and that have no effect in a pod of podman.

use serde_json::Value;

use super::{Found, join};
use crate::kind::Kind;
use crate::values::Below as _;

/// Annotations that make another machine: the key, why it is refused, and what to do.
const REFUSED: [(&str, &str, &str); 1] = [(
    // virt-controller adds a container for each (pkg/hooks/hooks.go, pkg/virt-controller/services/template.go).
    "hooks.kubevirt.io/hookSidecars",
    "requests hook sidecars, which change the machine and are not converted",
    "remove the annotation to run the machine without its sidecars",
)];

/// Annotations that are ignored without changing the machine itself.
const IGNORED: [(&str, &str, &str); 3] = [
    // virt-controller labels the pod for it, and Istio adds the proxy (pkg/network/istio).
    ("sidecar.istio.io/inject", "is ignored: podman adds no Istio proxy", "remove it"),
    (
        "k8s.v1.cni.cncf.io/networks",
        "is ignored: podman does not support Multus",
        "name podman's networks with `podman kube play --network`",
    ),
    // virt-controller makes the launcher end early (pkg/virt-controller/services/template.go).
    (
        "kubevirt.io/func-test-virt-launcher-fail-fast",
        "is ignored: it is for KubeVirt's own tests",
        "remove it",
    ),
];

/// Checks the annotations of a machine's template, or of an instance.
pub fn check(kind: Kind, object: &Value, found: &mut Found) {
    let path = if kind == Kind::Machine {
        "spec.template.metadata.annotations"
    } else {
        "metadata.annotations"
    };
    for (key, value) in object.entries(path) {
        let is = |(known, ..): &&(&str, &str, &str)| known == key && *value != "";
        if let Some((_, why, remedy)) = REFUSED.iter().find(is) {
            found.add(&join(path, key), *why, *remedy);
        }
        if let Some((_, why, remedy)) = IGNORED.iter().find(is) {
            found.note(&join(path, key), *why, *remedy);
        }
    }
}

/// The annotations of an instance that are refused: the key, why, and what to do.
pub fn refused(instance: &Value) -> Option<(&'static str, &'static str, &'static str)> {
    let own = instance.at("metadata.annotations")?;
    let set = |key: &str| own.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    REFUSED.into_iter().find(|(key, ..)| set(key))
}
