//! The partitions that a function offers: types of mediated devices, and NVIDIA's vendor-specific vGPUs.

use model::{MdevType, VgpuType, VgpuTypes};

use crate::root::Dir;

/// The directory in which a parent offers its types (Documentation/ABI/testing/sysfs-bus-vfio-mdev).
const MDEV_TYPES: &str = "mdev_supported_types";

/// The types of mediated devices that a function offers.
pub fn mdev_types(dir: &Dir) -> Vec<MdevType> {
    let read = |id: String| {
        let text = |file: &str| {
            let text = dir.attribute(&format!("{MDEV_TYPES}/{id}/{file}")).ok();
            text.filter(|text| !text.is_empty())
        };
        MdevType {
            name: text("name"),
            available: text("available_instances").and_then(|count| count.parse().ok()),
            device_api: text("device_api"),
            description: text("description"),
            id,
        }
    };
    dir.names(MDEV_TYPES).unwrap_or_default().into_iter().map(read).collect()
}

/// The file with a virtual function's vGPU type.
pub const CURRENT_VGPU: &str = "nvidia/current_vgpu_type";

/// The vGPU types of a virtual function with NVIDIA's vendor-specific VFIO; `None` without it.
pub fn vgpu(dir: &Dir) -> Option<VgpuTypes> {
    let current = dir.attribute(CURRENT_VGPU).ok()?;
    let creatable = dir.attribute("nvidia/creatable_vgpu_types").unwrap_or_default();
    let current = current.parse().ok().filter(|id| *id != 0);
    Some(VgpuTypes { current, creatable: vgpu_types(&creatable) })
}

/// Parses the table of types. Its lines have the form `ID : name`, after a header, or the name first and the number
/// last, depending on the driver's version.
pub fn vgpu_types(table: &str) -> Vec<VgpuType> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let read = |line: &str| {
        let line = line.trim();
        let (id, name) = line
            .split_once(':')
            .and_then(|(id, name)| Some((number(id)?, name)))
            .or_else(|| {
                let (name, id) = line.rsplit_once(|c: char| c.is_whitespace() || c == ':')?;
                Some((number(id)?, name))
            })?;
        let name = name.trim_matches(|c: char| c.is_whitespace() || c == ':').to_owned();
        (id != 0 && !name.is_empty()).then_some(VgpuType { id, name })
    };
    table.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(table: &str) -> Vec<(u32, String)> {
        vgpu_types(table).into_iter().map(|one| (one.id, one.name)).collect()
    }

    #[test]
    fn both_forms_of_the_table_are_read() {
        let types = [(1155, "NVIDIA L40S-1Q".into()), (1156, "NVIDIA L40S-2Q".into())];
        let first = "ID    : vGPU Name\n1155  : NVIDIA L40S-1Q\n1156  : NVIDIA L40S-2Q\n";
        assert_eq!(read(first), types);
        assert_eq!(read("NVIDIA L40S-1Q   1155\nNVIDIA L40S-2Q\t1156\n"), types);
        assert_eq!(read("NVIDIA L40S-1Q : 1155\nNVIDIA L40S-2Q: 1156"), types);
    }

    #[test]
    fn other_lines_are_skipped() {
        assert_eq!(read("ID : vGPU Name\n\nnonsense\n0 : none\n: \n12 :\n"), []);
        assert_eq!(read(""), []);
    }

    proptest! {
        #[test]
        fn no_table_panics(table in "([0-9]{0,11}|:| |\t|\n|NVIDIA|.){0,40}") {
            let _ = vgpu_types(&table);
        }
    }
}
