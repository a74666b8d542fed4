//! Container Device Interface (CDI) specs: what `podman run --device handover.dev/claim=ID` adds to a container. The
//! format is that of `cncf-tags/container-device-interface`, `specs-go/config.go`.

mod claimed;
mod unclaimed;

use serde::{Deserialize, Serialize};

pub use claimed::{Claimed, claim};
pub use unclaimed::{Host, all, device, instance, mediated};

/// The CDI kind of claims; the name is the claim's id.
pub const CLAIM: &str = "handover.dev/claim";

/// The CDI kind of assemblies and mediated devices; the name is an address, a UUID or a registered name.
pub const DEVICE: &str = "handover.dev/device";

/// The prefix of Handover's spec files.
pub const FILES: &str = "handover.dev-";

/// A spec file: a kind, and devices of this kind.
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
    /// What it adds to a container.
    pub container_edits: Edits,
}

/// Changes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Edits {
    /// Environment variables, `NAME=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes; type and numbers are those on the host.
    pub device_nodes: Vec<DeviceNode>,
}

/// A device node, with the same path on the host and in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceNode {
    /// Its path.
    pub path: String,
    /// Permissions. `m` (mknod), which runtimes allow by default, is not included.
    pub permissions: String,
}

impl Spec {
    /// A spec of one device, in the lowest version that supports it.
    #[must_use]
    pub fn of(kind: &str, name: &str, env: Vec<String>, paths: Vec<String>) -> Self {
        let node = |path| DeviceNode { path, permissions: "rw".to_owned() };
        let container_edits =
            Edits { env, device_nodes: paths.into_iter().map(node).collect::<Vec<_>>() };
        let device = Device { name: name.to_owned(), container_edits };
        Self { cdi_version: version(name).to_owned(), kind: kind.to_owned(), devices: vec![device] }
    }

    /// The qualified CDI names of its devices.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.devices.iter().map(|device| format!("{}={}", self.kind, device.name))
    }

    /// The paths of all its nodes.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let nodes = self.devices.iter().flat_map(|device| &device.container_edits.device_nodes);
        nodes.map(|node| node.path.as_str())
    }

    /// The name of its file. A file has one device, so that it can be removed with it.
    #[must_use]
    pub fn file_name(&self) -> String {
        let class = self.kind.rsplit('/').next().unwrap_or_default();
        let name = self.devices.first().map(|device| device.name.as_str()).unwrap_or_default();
        format!("{FILES}{class}-{name}.json")
    }

    /// The text of its file.
    #[must_use]
    pub fn render(&self) -> String {
        // Cannot fail: it consists of strings and lists.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        format!("{text}\n")
    }
}

/// The lowest version that supports a spec: names that begin with a digit need 0.5.0 (`requiresV050` in
/// `specs-go/version.go`); no later feature is used. Tools do not support versions before 0.3.0.
fn version(name: &str) -> &'static str {
    if name.starts_with(|first: char| first.is_ascii_digit()) { "0.5.0" } else { "0.3.0" }
}

/// Whether a name is a valid device name (`ValidateDeviceName` in `pkg/parser/parser.go`).
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
    fn a_written_spec_is_read_back() {
        let spec = spec("0000:01:00.0");
        assert_eq!(serde_json::from_str::<Spec>(&spec.render()).unwrap(), spec);
        assert_eq!(spec.file_name(), "handover.dev-claim-0000:01:00.0.json");
        assert_eq!(spec.names().collect::<Vec<_>>(), ["handover.dev/claim=0000:01:00.0"]);
    }
}
