//! Rules of networks, interfaces, DNS and probes (pkg/network/admitter, vmi-create-admitter.go).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Found, Spec, short};
use crate::values::Below as _;

const INTERFACES: &str = "domain.devices.interfaces";

/// The address of the bridge in the pod (pkg/network/link/mac.go).
const RESERVED_MAC: &str = "02:00:00:00:00:00";

/// Checks the networks as they are written.
pub fn check(spec: &Spec<'_>, found: &mut Found) {
    networks(spec, found);
    for (path, interface) in spec.items(INTERFACES) {
        self::interface(spec, &path, interface, found);
    }
    dns(spec, found);
    probes(spec, found);
}

/// A preference can set the binding, so it is checked after that.
pub fn complete(spec: &Spec<'_>, found: &mut Found) {
    const BINDINGS: [&str; 5] = ["bridge", "masquerade", "sriov", "passtBinding", "binding"];
    for (path, interface) in spec.items(INTERFACES) {
        if !BINDINGS.iter().any(|binding| interface.has(binding)) {
            let remedy = format!("add exactly one of: {}", BINDINGS.join(", "));
            found.add(&path, "has no binding", remedy);
        }
    }
}

fn networks(spec: &Spec<'_>, found: &mut Found) {
    let (mut pods, mut defaults) = (0, 0);
    for (path, network) in spec.items("networks") {
        let name = network.text("name");
        if !name.is_empty() && !spec.names(INTERFACES, name) {
            let remedy = "add an interface of its name, or remove the network";
            found.add(&path, "is used by no interface", remedy);
        }
        let default = network.switch("multus.default") == Some(true);
        pods += u32::from(network.has("pod"));
        defaults += u32::from(default);
        let another = (network.has("pod") || default) && pods + defaults > 1;
        if another {
            let what = "is a second default network of the pod";
            found.add(&path, what, "keep one network with `pod`, or one with `multus.default`");
        }
    }
}

fn interface(spec: &Spec<'_>, path: &str, interface: &Value, found: &mut Found) {
    let name = interface.text("name");
    let network = spec.value.list("networks").iter().find(|one| one.text("name") == name);
    let Some(network) = network else {
        if !name.is_empty() {
            let remedy = "add it to `networks`, such as {name: default, pod: {}}";
            found.add(path, format!("has no network {}", short(name)), remedy);
        }
        return;
    };
    for binding in ["masquerade", "passtBinding"] {
        if interface.has(binding) && !network.has("pod") {
            let what = "needs the pod's network";
            found.add(&format!("{path}.{binding}"), what, "use `pod: {}`, or another binding");
        }
    }
    if interface.has("masquerade") && interface.text("macAddress") == RESERVED_MAC {
        let what = "is reserved for the bridge in the pod";
        found.add(&format!("{path}.macAddress"), what, "use another address");
    }
    ports(path, interface, found);
    port_ranges(path, interface, found);
    let mut seen = BTreeSet::new();
    for (number, option) in interface.list("dhcpOptions.privateOptions").iter().enumerate() {
        if !seen.insert(option.number("option")) {
            let path = format!("{path}.dhcpOptions.privateOptions.{number}.option");
            found.add(&path, "is the number of another option", "give each option its own number");
        }
    }
}

fn ports(path: &str, interface: &Value, found: &mut Found) {
    let mut seen = BTreeSet::new();
    for (number, port) in interface.list("ports").iter().enumerate() {
        let name = port.text("name");
        if !name.is_empty() && !seen.insert(name) {
            let what = format!("is \"{}\", the name of another port", short(name));
            let remedy = "give each port its own name";
            found.add(&format!("{path}.ports.{number}.name"), what, remedy);
        }
    }
}

fn port_ranges(path: &str, interface: &Value, found: &mut Found) {
    const MOST: usize = 10;
    let ranges = interface.list("portRanges");
    let path = format!("{path}.portRanges");
    if ranges.is_empty() {
        return;
    }
    if !interface.list("ports").is_empty() {
        found.add(&path, "is set beside `ports`", "keep one of them");
    }
    if !interface.has("masquerade") {
        found.add(&path, "needs the binding masquerade", "use `ports`, or masquerade");
    }
    if ranges.len() > MOST {
        found.add(&path, format!("has more than {MOST} ranges"), "join or remove some");
    }
    for (number, range) in ranges.iter().enumerate() {
        let (start, end) = (range.number("start"), range.number("end"));
        if start > end {
            let what = format!("starts at {start} and ends at {end}");
            found.add(&format!("{path}.{number}"), what, "use a start of at most the end");
        }
        let overlaps = ranges.iter().take(number).any(|other| {
            other.text("protocol") == range.text("protocol")
                && other.number("start") <= end
                && start <= other.number("end")
        });
        if overlaps {
            found.add(&format!("{path}.{number}"), "overlaps another range", "separate them");
        }
    }
}

/// As Kubernetes limits a pod's DNS (kubernetes, pkg/apis/core/validation).
fn dns(spec: &Spec<'_>, found: &mut Found) {
    const CONFIG: &str = "dnsConfig";
    let servers = spec.value.list("dnsConfig.nameservers").len();
    if spec.value.text("dnsPolicy") == "None" && servers == 0 {
        let remedy = "add dnsConfig.nameservers, or use another policy";
        found.add(&spec.path("dnsPolicy"), "is None without a name server", remedy);
    }
    if servers > 3 {
        let path = spec.path(&format!("{CONFIG}.nameservers"));
        found.add(&path, "has more than 3 name servers", "remove some");
    }
    let searches = spec.value.list("dnsConfig.searches");
    let letters: usize = searches.iter().filter_map(Value::as_str).map(|one| one.len() + 1).sum();
    if searches.len() > 6 || letters > 257 {
        let path = spec.path(&format!("{CONFIG}.searches"));
        found.add(&path, "has more than 6 domains or 256 characters", "remove some");
    }
}

fn probes(spec: &Spec<'_>, found: &mut Found) {
    let networks = spec.value.list("networks");
    // Without networks, the machine gets the pod's.
    let alone = networks.is_empty()
        && spec.value.switch("domain.devices.autoattachPodInterface") == Some(false);
    let no_pod = alone || (!networks.is_empty() && !networks.iter().any(|one| one.has("pod")));
    for probe in ["readinessProbe", "livenessProbe"] {
        for handler in ["httpGet", "tcpSocket"] {
            let path = format!("{probe}.{handler}");
            if no_pod && spec.value.has(&path) {
                let remedy = "use exec or guestAgentPing, or add a network with `pod: {}`";
                found.add(&spec.path(&path), "needs the pod's network", remedy);
            }
        }
    }
    if spec.value.has("livenessProbe") && !spec.value.text("startStrategy").is_empty() {
        let what = "cannot be combined with startStrategy";
        found.add(&spec.path("livenessProbe"), what, "remove one of them");
    }
}
