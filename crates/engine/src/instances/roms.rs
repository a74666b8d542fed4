//! The ROMs of an instance's devices that are not the devices' own.

use model::{Address, Code, GuestSlot, Refusal, Rom, check_rom};

use super::Instances;
use crate::store::StoredClaim;
use crate::{Instance, RomWish, registrations};

/// The most ROMs of a machine.
const MOST: usize = 32;

impl Instances {
    /// The ROMs of a request, for devices of these claims.
    pub(super) fn roms(
        &self,
        wishes: &[RomWish],
        claims: &[StoredClaim],
    ) -> Result<Vec<Rom>, Refusal> {
        let invalid = |message: String, remedy: &str| {
            Err(Refusal::new(Code::InvalidRequest, message, remedy))
        };
        if wishes.len() > MOST {
            return invalid(format!("more than {MOST} ROMs"), "leave some out");
        }
        let parts = claims.iter().flat_map(|claim| &claim.claim.parts);
        let devices: Vec<Address> = parts
            .flat_map(|part| GuestSlot::for_part(part).addresses().collect::<Vec<_>>())
            .collect();
        let mut roms: Vec<Rom> = Vec::new();
        for wish in wishes {
            let device = registrations::address_of(&self.store, &wish.device)?;
            if !devices.contains(&device) {
                return invalid(
                    format!(
                        "{device} is not among the devices of the machine, so it has no ROM there"
                    ),
                    "name a device that the machine gets, by its address: `handover ls` shows the addresses",
                );
            }
            if roms.iter().any(|rom| rom.device == device) {
                return invalid(format!("{device} has two ROMs"), "give each device one");
            }
            if let Some(content) = &wish.content {
                check_rom(content)?;
            }
            roms.push(Rom {
                device,
                bar: wish.content.is_some(),
                has_file: wish.content.is_some(),
                content: wish.content.clone().unwrap_or_default(),
            });
        }
        Ok(roms)
    }

    /// The content of a ROM of an instance; `None` if it has none, or it cannot be read.
    #[must_use]
    pub fn rom(&self, instance: &Instance, rom: &Rom) -> Option<Vec<u8>> {
        let launcher = self.launcher(&instance.hypervisor).ok()?;
        launcher.rom(instance.id, rom).unwrap_or_else(|error| {
            tracing::warn!(instance = %instance.name, %error, "a ROM cannot be read");
            None
        })
    }
}
