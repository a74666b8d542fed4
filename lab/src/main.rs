//! The lab: a passthrough host with real VFIO, emulated, for a machine without a GPU, an IOMMU or KVM.
fn main() {}
