//! Resource names: `nvidia.com/TESLA_P40`, `amd.com/gpu`, `nvidia.com/NVIDIA_A10-4Q`. Clusters choose them freely, but
//! they commonly start with a vendor, followed by the words of a model or a profile.

use std::collections::BTreeSet;
use std::fmt;

use model::{Function, Id};

/// The vendor of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD, or ATI.
    Amd,
    /// Intel.
    Intel,
}

impl Vendor {
    /// The vendor's PCI id.
    #[must_use]
    pub const fn id(self) -> Id {
        match self {
            Self::Nvidia => Id(0x10de),
            Self::Amd => Id(0x1002),
            Self::Intel => Id(0x8086),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nvidia => "NVIDIA",
            Self::Amd => "AMD",
            Self::Intel => "Intel",
        }
    }
}

/// A resource name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource(String);

/// Words that only mean a GPU of any model.
const GENERIC: [&str; 7] = ["GPU", "GPUS", "DEVICE", "CORPORATION", "GRAPHICS", "NVIDIA", "AMD"];

impl Resource {
    /// Parses a resource name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The vendor in the name.
    #[must_use]
    pub fn vendor(&self) -> Option<Vendor> {
        let name = self.0.to_ascii_lowercase();
        let contains = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if contains(&["nvidia"]) {
            Some(Vendor::Nvidia)
        } else if contains(&["amd", "radeon"]) {
            Some(Vendor::Amd)
        } else if contains(&["intel"]) {
            Some(Vendor::Intel)
        } else {
            None
        }
    }

    /// Whether it probably names a USB device (KubeVirt, `permittedHostDevices.usb`): it has the domain of KubeVirt's own
    /// examples, or says so. Names of PCI devices have a vendor's domain.
    #[must_use]
    pub fn is_usb_device(&self) -> bool {
        let domain = self.0.split_once('/').map(|(domain, _)| domain);
        let words = words(self.model());
        let controller = ["CONTROLLER", "HOST", "XHCI"].iter().any(|word| words.contains(*word));
        let usb = words.iter().any(|word| word.starts_with("USB"));
        (domain == Some("kubevirt.io") || usb) && !controller
    }

    /// The part after the vendor's domain.
    fn model(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, model)| model)
    }

    /// The words of its model; empty for any model.
    fn words(&self) -> BTreeSet<String> {
        let mut words = words(self.model());
        words.retain(|word| !GENERIC.contains(&word.as_str()));
        words
    }

    /// Whether it means a GPU of a vendor, of any model: `nvidia.com/GPU`.
    #[must_use]
    pub fn is_any_gpu(&self) -> bool {
        let words = words(self.model());
        let gpu = ["GPU", "GPUS", "GRAPHICS"].iter().any(|word| words.contains(*word));
        self.vendor().is_some() && !self.names_model() && gpu
    }

    /// Whether it names a model.
    #[must_use]
    pub fn names_model(&self) -> bool {
        !self.words().is_empty()
    }

    /// The vGPU profile in the name: NVIDIA's end in a size and a letter, `GRID_T4-1Q`, `NVIDIA_A100-1-5C`.
    #[must_use]
    pub fn profile(&self) -> Option<String> {
        let (front, end) = self.model().rsplit_once('-')?;
        let size = end.strip_suffix(['A', 'B', 'C', 'Q'])?;
        let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
        let word = |text: &str| !text.is_empty();
        (digits && word(front)).then(|| self.model().replace('_', " "))
    }

    /// Whether a function is of the named model: its name contains every word of it, or the words are the function's
    /// ids, `10DE_1B38`.
    #[must_use]
    pub fn is_model_of(&self, function: &Function) -> bool {
        let wanted = self.words();
        if wanted.is_empty() {
            return true;
        }
        let ids = [function.vendor.to_string(), function.device.to_string()];
        let ids: BTreeSet<String> = ids.iter().map(|id| id.to_ascii_uppercase()).collect();
        let name = function.device_name.as_deref().unwrap_or_default();
        wanted == ids || wanted.is_subset(&words(name))
    }

    /// The name of the launcher's environment variable (KubeVirt, pkg/util `ResourceNameToEnvVar`).
    #[must_use]
    pub fn variable(&self, prefix: &str) -> String {
        format!("{prefix}_{}", self.0.to_uppercase().replace(['/', '.'], "_"))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The words of a name, in capitals.
fn words(name: &str) -> BTreeSet<String> {
    name.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_uppercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(device: &str) -> Function {
        let mut function = Function::unknown("0000:01:00.0".parse().unwrap());
        (function.vendor, function.device) = (Id(0x10de), Id(0x1b38));
        function.device_name = Some(device.to_owned());
        function
    }

    #[test]
    fn vendors_as_the_wire_has_them() {
        let vendor = |name| Resource::new(name).vendor();
        assert_eq!(vendor("nvidia.com/GPU"), Some(Vendor::Nvidia));
        assert_eq!(vendor("example.org/Radeon_Pro"), Some(Vendor::Amd));
        assert_eq!(vendor("intel.com/flex170"), Some(Vendor::Intel));
        assert_eq!(vendor("example.org/card"), None);
    }

    #[test]
    fn models_by_their_words_or_ids() {
        let p40 = named("GP102GL [Tesla P40]");
        for name in ["TESLA_P40", "GP102GL_Tesla_P40", "P40", "GPU", "10DE_1B38"] {
            assert!(Resource::new(&format!("nvidia.com/{name}")).is_model_of(&p40), "{name}");
        }
        for name in ["TESLA_P4", "TESLA_V100", "10DE_1B39"] {
            assert!(!Resource::new(&format!("nvidia.com/{name}")).is_model_of(&p40), "{name}");
        }
    }

    #[test]
    fn any_gpu_of_a_vendor() {
        let any = |name| Resource::new(name).is_any_gpu();
        assert!(any("nvidia.com/GPU") && any("amd.com/gpu"));
        assert!(
            !any("nvidia.com/TESLA_P40") && !any("example.com/gpu") && !any("nvidia.com/device")
        );
    }

    #[test]
    fn usb_devices_by_their_domain_or_words() {
        let usb = |name| Resource::new(name).is_usb_device();
        assert!(usb("kubevirt.io/storage") && usb("example.com/usb-stick"));
        assert!(usb("vendor.com/usbkey") && !usb("vendor.com/busbar"));
        assert!(!usb("example.com/storage") && !usb("devices.kubevirt.io/sev"));
        assert!(!usb("example.com/usb-controller"));
    }

    #[test]
    fn profiles_and_variables() {
        let profile = |name| Resource::new(name).profile();
        assert_eq!(profile("nvidia.com/GRID_T4-1Q").as_deref(), Some("GRID T4-1Q"));
        assert_eq!(profile("nvidia.com/NVIDIA_A100-1-5C").as_deref(), Some("NVIDIA A100-1-5C"));
        assert_eq!(profile("nvidia.com/TESLA_P40"), None);
        assert_eq!(profile("nvidia.com/A100-SXM4-40GB"), None);
        let variable = Resource::new("nvidia.com/GRID_T4-1Q").variable("MDEV_PCI_RESOURCE");
        assert_eq!(variable, "MDEV_PCI_RESOURCE_NVIDIA_COM_GRID_T4-1Q");
    }
}
