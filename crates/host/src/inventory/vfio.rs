//! The running kernel's support for passthrough.

use model::VfioSupport;

use super::modules::Catalog;
use crate::interrupts;
use crate::root::Root;
use crate::virtual_machine;
use crate::xen;

/// Reads the kernel's passthrough support.
pub fn read(root: &Root, modules: &mut Catalog) -> VfioSupport {
    let noiommu = root.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    let iommu = root.names("sys/class/iommu").is_ok_and(|units| !units.is_empty());
    VfioSupport {
        iommu,
        // The file is long on large hosts.
        virtual_machine: !iommu && virtual_machine::is_one(root),
        vfio_pci: root.exists("sys/bus/pci/drivers/vfio-pci")
            || modules.is_available(root, "vfio_pci"),
        type1: modules.is_available(root, "vfio_iommu_type1"),
        iommufd: root.exists("sys/class/misc/iommu") || modules.is_available(root, "iommufd"),
        xen_dom0: xen::is_first_domain(root),
        unmapped_interrupts: interrupts::are_refused(root),
        unsafe_noiommu: noiommu.is_ok_and(|text| matches!(text.as_str(), "Y" | "1")),
    }
}
