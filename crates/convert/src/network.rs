//! Networks: KubeVirt's default, and passt, which needs no privileges and no cluster plugin.

use serde_json::{Value, json};

use crate::values::Below as _;

/// The bindings of an interface to its network.
pub const BINDINGS: [&str; 7] =
    ["bridge", "slirp", "masquerade", "sriov", "macvtap", "passt", "passtBinding"];

/// A machine without networks gets the pod's (KubeVirt, pkg/network/vmispec/defaults.go).
pub fn default_interface(spec: &mut Value) {
    let none =
        spec.list("networks").is_empty() && spec.list("domain.devices.interfaces").is_empty();
    if none && spec.switch("domain.devices.autoattachPodInterface") != Some(false) {
        spec.set("domain.devices.interfaces", json!([{ "name": "default", "bridge": {} }]));
        spec.set("networks", json!([{ "name": "default", "pod": {} }]));
    }
}

/// Binds every interface with passt to the pod's network; `keep_sriov` leaves those of virtual functions unchanged.
/// Returns notes about differences from the machine.
pub fn bind_by_passt(spec: &mut Value, keep_sriov: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let stays = |interface: &Value| keep_sriov && interface.has("sriov");
    let mut bound = Vec::new();
    for interface in spec.items("domain.devices.interfaces").iter_mut().filter(|one| !stays(one)) {
        let name = interface.text("name").to_owned();
        if interface.has("sriov") {
            let note = format!(
                "interface {name} requests a virtual function (sriov) and gets passt; use --devices=vfio for a virtual function"
            );
            notes.push(note);
        }
        if interface.has("binding") {
            let plugin = interface.text("binding.name");
            notes.push(format!("interface {name} requests the binding {plugin} and gets passt"));
        }
        if let Some(interface) = interface.as_object_mut() {
            interface.retain(|field, _| field != "binding" && !BINDINGS.contains(&field.as_str()));
        }
        interface.make_object("passtBinding");
        bound.push(name);
    }
    for name in bound {
        to_pod_network(spec, &name, &mut notes);
    }
    notes
}

fn to_pod_network(spec: &mut Value, name: &str, notes: &mut Vec<String>) {
    let own = spec.items("networks").iter_mut().find(|network| network.text("name") == name);
    match own {
        Some(network) => {
            if network.has("multus") {
                notes.push(format!(
                    "network {name} needs Multus, which podman does not support: it becomes the pod's network (--no-passt keeps it)"
                ));
            }
            if network.has("resourceClaim") {
                notes.push(format!(
                    "network {name} is requested by a claim of the cluster (DRA): it becomes the pod's network"
                ));
            }
            if let Some(network) = network.as_object_mut() {
                network.retain(|field, _| field == "name");
            }
            network.make_object("pod");
        }
        None => spec.push("networks", json!({ "name": name, "pod": {} })),
    }
}
