//! The position of a function in the bus hierarchy, read from the target of its link in `/sys/bus/pci/devices`.

use model::Address;

/// The position of a function: `../../../devices/pci0000:00/0000:00:02.0/0000:01:00.0` is behind the bridge `02.0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusPath {
    /// The bridges above it, from the root bus down; empty on a root bus.
    pub bridges: Vec<Address>,
    /// The endpoint whose driver made its root bus: a VMD controller.
    pub behind: Option<Address>,
    /// The device and function numbers from the root bus down, which survive bus renumbering: `02.0/00.0`.
    pub slot_path: String,
}

impl BusPath {
    /// Parses the target of a function's link.
    pub fn of_link(target: &str) -> Self {
        let mut path = Self::default();
        let mut above = None;
        for part in target.split('/') {
            // `pci10000:e0` is a root bus. VMD has one below an endpoint: its functions are behind no bridge there.
            if part.starts_with("pci") {
                path.behind = above.take();
                path.bridges.clear();
            }
            let Ok(address) = part.parse::<Address>() else { continue };
            path.bridges.extend(above.replace(address));
            if !path.slot_path.is_empty() {
                path.slot_path.push('/');
            }
            path.slot_path += &format!("{:02x}.{:x}", address.device(), address.function());
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_the_next_function_above_on_the_same_root_bus() {
        let at = |target: &str| {
            let path = BusPath::of_link(target);
            (path.bridges.last().map(|bridge| bridge.to_string()), path.slot_path)
        };
        assert_eq!(at("../../../devices/pci0000:00/0000:00:1f.2"), (None, "1f.2".into()));
        assert_eq!(
            at("../../../devices/pci0000:00/0000:00:02.0/0000:01:00.0/0000:02:08.0"),
            (Some("0000:01:00.0".into()), "02.0/00.0/08.0".into())
        );
        assert_eq!(
            at("../../../devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0"),
            (None, "0e.0/06.0".into())
        );
        let behind = |target: &str| BusPath::of_link(target).behind.map(|vmd| vmd.to_string());
        assert_eq!(
            behind("../../../devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0"),
            Some("0000:00:0e.0".into())
        );
        assert_eq!(behind("../../../devices/pci0000:00/0000:00:02.0/0000:01:00.0"), None);
        assert_eq!(at("nonsense"), (None, String::new()));
    }
}
