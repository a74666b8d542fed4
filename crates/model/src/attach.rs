//! What a virtual machine monitor must be told to use what a claim holds. Text for any monitor, ours or a person's own.

use serde::{Deserialize, Serialize};

use crate::{Address, Claim, GuestSlot, GuestSource, Mechanism, Part};

/// A claim's things in the words of those who use them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// QEMU's `-device` arguments, in its JSON form (QEMU 6.2).
    pub qemu: Vec<String>,
    /// Cloud Hypervisor's devices, as `vm.add-device` and `devices` in its configuration take them, in JSON. Empty for
    /// NVIDIA's vGPUs, which need QEMU.
    pub cloud_hypervisor: Vec<String>,
    /// libvirt's `<hostdev>` elements. `managed='no'`: Handover has done it, and takes it back.
    pub libvirt: Vec<String>,
    /// The name for container tools (Container Device Interface).
    pub cdi: String,
}

impl Attachment {
    /// Of a claim.
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
                // QEMU takes no domain of more than four digits by `host`, but any path.
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

/// A function, where libvirt only passes it on.
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
