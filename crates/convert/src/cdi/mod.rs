//! Specifications for container tools (Container Device Interface): what `podman run --device handover.dev/claim=ID` adds
//! to a container. The format is that of `cncf-tags/container-device-interface`, `specs-go/config.go`.

mod claimed;
mod unclaimed;

use serde::{Deserialize, Serialize};

pub use claimed::{Claimed, claim};
pub use unclaimed::{Host, all, device, instance, mediated};

/// The kind of device that a claim is; its devices are named by the claim's id.
pub const CLAIM: &str = "handover.dev/claim";

/// The kind of device that an assembly or a mediated device is; its devices are named by address, UUID, or the name that it
/// is registered by.
pub const DEVICE: &str = "handover.dev/device";

/// What all of our files begin with.
pub const FILES: &str = "handover.dev-";

/// One file: a kind of devices, and devices of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The version of the format.
    pub cdi_version: String,
    /// Vendor and class, `handover.dev/claim`.
    pub kind: String,
    /// The devices.
    pub devices: Vec<Device>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its name within the kind.
    pub name: String,
    /// What a container gets with it.
    pub container_edits: Edits,
}

/// What a container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Edits {
    /// Variables, `NAME=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes; type and numbers are the host's.
    pub device_nodes: Vec<DeviceNode>,
}

/// A device node, by the same path on the host and in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceNode {
    /// Its path.
    pub path: String,
    /// What may be done with it. Making it anew (`m`), which runtimes allow where nothing is said, is not among it.
    pub permissions: String,
}

impl Spec {
    /// A specification of one device, in the lowest version that has what it uses.
    #[must_use]
    pub fn of(kind: &str, name: &str, env: Vec<String>, paths: Vec<String>) -> Self {
        let node = |path| DeviceNode { path, permissions: "rw".to_owned() };
        let container_edits =
            Edits { env, device_nodes: paths.into_iter().map(node).collect::<Vec<_>>() };
        let device = Device { name: name.to_owned(), container_edits };
        Self { cdi_version: version(name).to_owned(), kind: kind.to_owned(), devices: vec![device] }
    }

    /// The names by which container tools are asked for its devices.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.devices.iter().map(|device| format!("{}={}", self.kind, device.name))
    }

    /// The paths of all its nodes.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let nodes = self.devices.iter().flat_map(|device| &device.container_edits.device_nodes);
        nodes.map(|node| node.path.as_str())
    }

    /// The name of its file. A file is of one device, so that it can go with it.
    #[must_use]
    pub fn file_name(&self) -> String {
        let class = self.kind.rsplit('/').next().unwrap_or_default();
        let name = self.devices.first().map(|device| device.name.as_str()).unwrap_or_default();
        format!("{FILES}{class}-{name}.json")
    }

    /// The text of its file.
    #[must_use]
    pub fn render(&self) -> String {
        // Of texts and lists only, which JSON has: it cannot fail.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        format!("{text}\n")
    }
}

/// The lowest version that has what a specification of ours uses: names that begin with a digit came with 0.5.0
/// (`requiresV050` in `specs-go/version.go`), and nothing of what came with later ones is used. Before 0.3.0 no tool looks.
fn version(name: &str) -> &'static str {
    if name.starts_with(|first: char| first.is_ascii_digit()) { "0.5.0" } else { "0.3.0" }
}

/// Whether a name can be a device's (`ValidateDeviceName` in `pkg/parser/parser.go`).
#[must_use]
pub fn is_name(name: &str) -> bool {
    let end = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "_-.:".contains(letter);
    end(name.chars().next()) && end(name.chars().next_back()) && name.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> Spec {
        Spec::of(CLAIM, name, Vec::new(), vec!["/dev/vfio/vfio".to_owned()])
    }

    #[test]
    fn the_version_is_the_lowest_that_fits() {
        assert_eq!(spec("a81bc81b-dead-4e5d-abff-90865d1e13b1").cdi_version, "0.3.0");
        assert_eq!(spec("0000:01:00.0").cdi_version, "0.5.0");
    }

    #[test]
    fn names_as_the_format_has_them() {
        for right in ["0000:01:00.0", "a", "l4-gpu", "A_b.c"] {
            assert!(is_name(right), "{right}");
        }
        for wrong in ["", "-a", "a.", "a/b", "a=b", "ä", "a b", ".."] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let spec = spec("0000:01:00.0");
        assert_eq!(serde_json::from_str::<Spec>(&spec.render()).unwrap(), spec);
        assert_eq!(spec.file_name(), "handover.dev-claim-0000:01:00.0.json");
        assert_eq!(spec.names().collect::<Vec<_>>(), ["handover.dev/claim=0000:01:00.0"]);
    }
}
