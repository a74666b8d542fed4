//! Nodes by their usual names, for a host that nobody looked at.

use super::{Devices, Section, Vendor, Wanted, share_nvidia};

/// The nodes that GPUs have where they are the only ones: counted within each vendor, from nothing.
#[must_use]
pub fn fixed(wanted: &[Wanted]) -> Devices {
    let mut devices = Devices::default();
    let (mut nvidia, mut dri) = (0, 0);
    for one in wanted {
        let why = format!("{} {}", one.section.word(), one.name);
        match (one.section, one.resource.vendor()) {
            (Section::Gpu, Some(Vendor::Nvidia)) => {
                devices.node(format!("nvidia{nvidia}"), format!("/dev/nvidia{nvidia}"), why);
                share_nvidia(&mut devices);
                nvidia += 1;
            }
            (Section::Gpu, vendor) => {
                let (card, render) = (format!("/dev/dri/card{dri}"), 128 + dri);
                devices.node(format!("dri-card{dri}"), card, why.clone());
                if vendor.is_some() {
                    let path = format!("/dev/dri/renderD{render}");
                    devices.node(format!("dri-render{dri}"), path, why);
                } else {
                    let name = &one.resource;
                    devices.notes.push(format!(
                        "{name} names no vendor that is known (nvidia, amd, radeon, intel): gpu {} gets /dev/dri/card{dri} only",
                        one.name
                    ));
                }
                dri += 1;
            }
            (Section::HostDevice, _) => {
                devices.node("vfio", "/dev/vfio/vfio", why);
                devices.notes.push(format!(
                    "hostDevice {} needs the node of its IOMMU group too, which only the host tells: --devices=vfio",
                    one.name
                ));
            }
            // It gets passt.
            (Section::Interface, _) => {}
        }
    }
    devices
}
