//! Where a function sits in the tree of buses, read from where its link in `/sys/bus/pci/devices` points.

use model::Address;

/// The place of a function: `../../../devices/pci0000:00/0000:00:02.0/0000:01:00.0` is behind the bridge `02.0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusPath {
    /// The bridges above it, from the root bus down; empty on a root bus.
    pub bridges: Vec<Address>,
    /// The device and function numbers from the root bus down, which survive bus renumbering: `02.0/00.0`.
    pub slot_path: String,
}

impl BusPath {
    /// Reads the target of the link of a function.
    pub fn of_link(target: &str) -> Self {
        let mut place = Self::default();
        let mut above = None;
        for part in target.split('/') {
            // `pci10000:e0` is a root bus. VMD has one below an endpoint: its functions are behind no bridge there.
            if part.starts_with("pci") {
                above = None;
                place.bridges.clear();
            }
            let Ok(address) = part.parse::<Address>() else { continue };
            place.bridges.extend(above.replace(address));
            if !place.slot_path.is_empty() {
                place.slot_path.push('/');
            }
            place.slot_path += &format!("{:02x}.{:x}", address.device(), address.function());
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_the_next_function_above_on_the_same_root_bus() {
        let at = |target: &str| {
            let place = BusPath::of_link(target);
            (place.bridges.last().map(|bridge| bridge.to_string()), place.slot_path)
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
        assert_eq!(at("nonsense"), (None, String::new()));
    }
}
