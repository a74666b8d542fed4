//! Configuration snippets with which a virtual machine monitor uses the devices of a claim.

use serde::{Deserialize, Serialize};

use crate::{Address, Claim, GuestSlot, GuestSource, Mechanism, Part};

/// The devices of a claim in the syntax of each tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// QEMU's `-device` arguments, in its JSON form (QEMU 6.2).
    pub qemu: Vec<String>,
    /// Cloud Hypervisor's devices in JSON, for `vm.add-device` and `devices` in its configuration. Empty for NVIDIA's
    /// vGPUs, which need QEMU.
    pub cloud_hypervisor: Vec<String>,
    /// libvirt's `<hostdev>` elements. `managed='no'`: Handover binds and returns the devices.
    pub libvirt: Vec<String>,
    /// The CDI device name for container tools (Container Device Interface).
    pub cdi: String,
}

impl Attachment {
    /// The snippets for a claim.
    #[must_use]
    pub fn of(claim: &Claim) -> Self {
        let mut all = Self { cdi: format!("handover.dev/claim={}", claim.id), ..Self::default() };
        for (number, part) in claim.parts.iter().enumerate() {
            all.add(number, part);
        }
        all
    }

    fn add(&mut self, number: usize, part: &Part) {
        let slot = GuestSlot::for_part(part);
        for function in &slot.functions {
            let name = format!("handover{number}f{}", function.function);
            let sysfs = match function.source {
                GuestSource::Function(address) => format!("/sys/bus/pci/devices/{address}"),
                GuestSource::Mdev(uuid) => format!("/sys/bus/mdev/devices/{uuid}"),
            };
            self.qemu.push(match function.source {
                // QEMU's `host` accepts only domains of four digits; `sysfsdev` accepts any path.
                GuestSource::Function(address) if address.domain() <= 0xffff => {
                    format!(r#"{{"driver":"vfio-pci","host":"{address}","id":"{name}"}}"#)
                }
                _ => format!(r#"{{"driver":"vfio-pci","sysfsdev":"{sysfs}","id":"{name}"}}"#),
            });
            let vgpu = part
                .partition
                .as_ref()
                .is_some_and(|partition| matches!(partition.how, Mechanism::Vgpu { .. }));
            if !vgpu {
                let device = format!(r#"{{"id":"{name}","path":"{sysfs}"}}"#);
                self.cloud_hypervisor.push(device);
            }
            self.libvirt.push(match function.source {
                GuestSource::Function(address) => pci_hostdev(address),
                GuestSource::Mdev(uuid) => format!(
                    "<hostdev mode='subsystem' type='mdev' model='vfio-pci'>\
                     <source><address uuid='{uuid}'/></source></hostdev>"
                ),
            });
        }
    }
}

/// A PCI function that libvirt does not manage.
fn pci_hostdev(address: Address) -> String {
    format!(
        "<hostdev mode='subsystem' type='pci' managed='no'><driver name='vfio'/><source>\
         <address domain='0x{:04x}' bus='0x{:02x}' slot='0x{:02x}' function='0x{:x}'/></source></hostdev>",
        address.domain(),
        address.bus(),
        address.device(),
        address.function()
    )
}
