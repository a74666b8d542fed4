//! Nodes with default names, without reading a host.

use super::{Devices, Section, Vendor, Wanted, share_nvidia, usb};

/// The default nodes of GPUs: counted from 0 within each vendor.
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
                        "{name} names no known vendor (nvidia, amd, radeon, intel): gpu {} gets only /dev/dri/card{dri}",
                        one.name
                    ));
                }
                dri += 1;
            }
            (Section::HostDevice, _) if one.resource.is_usb_device() => {
                devices.missing.push(usb(one));
            }
            (Section::HostDevice, _) => {
                devices.node("vfio", "/dev/vfio/vfio", why);
                devices.notes.push(format!(
                    "hostDevice {} also needs the node of its IOMMU group, which depends on the host: use --devices=vfio",
                    one.name
                ));
            }
            // It gets passt.
            (Section::Interface, _) => {}
        }
    }
    devices
}
