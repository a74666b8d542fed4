//! How a VMM opens the devices of its machine.

use serde::{Deserialize, Serialize};

/// How a VMM opens the devices of its machine. It is the same for all of them while the machine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceAccess {
    /// It opens the nodes of their IOMMU groups (`/dev/vfio/N`), which its user may open.
    #[default]
    Groups,
    /// It gets open descriptors of the devices' own nodes (`/dev/vfio/devices/vfioN`) and of `/dev/iommu`. Its user may open no
    /// node.
    Descriptors,
}

impl DeviceAccess {
    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Descriptors => "descriptors",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stored_as_it_is_written() {
        for access in [DeviceAccess::Groups, DeviceAccess::Descriptors] {
            assert_eq!(serde_json::to_value(access).unwrap(), access.as_str());
        }
    }
}
