//! Block devices of the host as disks of instances: found by name, and checked before a machine gets them.

use std::path::Path;

use model::{
    BlockDevice, BlockFile, BlockUse, Code, DiskBus, DiskContent, DiskFile, DiskFormat, GuestDisk,
    HostBlock, Refusal, block_has_data, block_in_use,
};

use super::Instances;
use crate::refusals;
use crate::store::{StoredClaim, StoredInstance};
use crate::{DiskWish, Instance};

/// A block device that a machine is to get.
pub struct WantedBlock {
    /// How it is recorded.
    pub block: HostBlock,
    /// Whether it has no data, so that a guest may make a file system on it.
    pub is_blank: bool,
}

impl Instances {
    /// A block device of the host, by its name below a directory of block devices.
    ///
    /// # Errors
    /// `device_not_found`, `invalid_request`, `not_assignable`.
    pub fn block_device(&self, name: &str) -> Result<BlockDevice, Refusal> {
        Ok(self.hardware.host.block_device(&self.config.block_dirs, name)?)
    }

    fn recorded_block(&self, path: &Path) -> Result<BlockDevice, Refusal> {
        self.block_device(&path.to_string_lossy())
    }

    /// Checks that a block device can become a disk of a machine that has these.
    pub(super) fn wanted_block(
        &self,
        name: &str,
        allow_data: bool,
        wish: &DiskWish,
        taken: &[GuestDisk],
    ) -> Result<WantedBlock, Refusal> {
        let device = self.block_device(name)?;
        for other in taken.iter().filter_map(GuestDisk::block) {
            let same = other.path == device.path
                || self.recorded_block(&other.path).is_ok_and(|other| other.overlaps(&device));
            if same {
                let (one, two) = (other.path.display(), device.path.display());
                return Err(invalid(
                    format!("the machine would have {two} twice: it has {one}"),
                    "give it each disk once, and not also a partition of it",
                ));
            }
        }
        if device.is_read_only && !wish.read_only {
            return Err(invalid(
                format!("{} cannot be written to", device.path.display()),
                "ask for it read-only: `ro` (`readonly`)",
            ));
        }
        if wish.bus == Some(DiskBus::Sata) && device.sector != 512 {
            return Err(invalid(
                format!(
                    "{} has blocks of {} bytes, and a disk connected by sata has 512",
                    device.path.display(),
                    device.sector
                ),
                "use virtio, scsi or nvme",
            ));
        }
        let BlockUse { data, is_blank, .. } = self.unused(&device)?;
        if !data.is_empty() && !allow_data {
            return Err(block_has_data(&device, &data));
        }
        let BlockDevice { path, identity, functions, .. } = device;
        let block = HostBlock { path, allow_data, identity: Some(identity), functions };
        Ok(WantedBlock { block, is_blank })
    }

    /// What is on a block device, if it is not in use.
    fn unused(&self, device: &BlockDevice) -> Result<BlockUse, Refusal> {
        let found = self.hardware.host.block_use(device);
        let found = found.map_err(|error| refusals::unreadable(&error))?;
        if found.users.is_empty() {
            return Ok(found);
        }
        Err(block_in_use(&device.path, &found.users))
    }

    /// The device of a disk, for the launcher, which opens it exclusively. It must be there, and unused.
    pub(super) fn block_file(
        &self,
        instance: &Instance,
        disk: &GuestDisk,
        block: &HostBlock,
    ) -> Result<DiskFile, Refusal> {
        let device = self.recorded_block(&block.path).or_else(|refusal| {
            // A claim of its drive is why there is none.
            self.claims.expect_unclaimed(&block.path, &block.functions, &[])?;
            Err(refusal)
        })?;
        expect_same(instance, block, &device)?;
        self.unused(&device)?;
        let BlockDevice { path, number, sector, .. } = device;
        let block = Some(BlockFile { number, sector });
        Ok(DiskFile { disk: disk.clone(), path, format: DiskFormat::Raw, block })
    }

    /// Checks that no other instance has a block device of this one, or a part of it, and that no claim has its drive, also none
    /// of the instance's `new` ones. Call it under the allocation lock.
    pub(super) fn expect_free_blocks(
        &self,
        instance: &Instance,
        new: &[StoredClaim],
    ) -> Result<(), Refusal> {
        let own: Vec<&HostBlock> =
            instance.options.disks.iter().filter_map(GuestDisk::block).collect();
        if own.is_empty() {
            return Ok(());
        }
        let own: Vec<BlockDevice> =
            own.iter().map(|block| self.recorded_block(&block.path)).collect::<Result<_, _>>()?;
        for device in &own {
            self.claims.expect_unclaimed(&device.path, &device.functions, new)?;
        }
        for row in self.store.read(StoredInstance::all)? {
            if row.instance.id == instance.id {
                continue;
            }
            for other in row.instance.options.disks.iter().filter_map(GuestDisk::block) {
                // One that is not there now can come back as the same device.
                let there = self.recorded_block(&other.path).ok();
                let mut same = own.iter().filter(|device| {
                    device.path == other.path
                        || there.as_ref().is_some_and(|there| there.overlaps(device))
                });
                if let Some(device) = same.next() {
                    return Err(taken(device, &row.instance.name, other));
                }
            }
        }
        Ok(())
    }
}

/// Checks that the name leads to the device that the instance was given.
fn expect_same(
    instance: &Instance,
    block: &HostBlock,
    device: &BlockDevice,
) -> Result<(), Refusal> {
    let Some(before) = block.identity.as_ref().filter(|before| !before.is_same(&device.identity))
    else {
        return Ok(());
    };
    let (name, path) = (&instance.name, block.path.display());
    Err(Refusal::new(
        Code::FingerprintChanged,
        format!(
            "{path} is not the device that the instance {name:?} was given: that was {before}, and this is {} ({})",
            device.identity, device.name
        ),
        format!(
            "connect the earlier device, or give it by a name that stays (`ls /dev/disk/by-id`); if the new one is meant: \
             `handover instance detach {name} {path}`, then `handover instance attach {name} --block {path}`"
        ),
    ))
}

/// Whether a disk is the block device of this name.
pub fn is_block(disk: &GuestDisk, name: &str) -> bool {
    matches!(&disk.content, DiskContent::Block(block)
        if block.path == Path::new(name) || block.path.file_name() == Some(name.as_ref()))
}

pub fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidRequest, message, remedy)
}

fn taken(device: &BlockDevice, instance: &str, other: &HostBlock) -> Refusal {
    let (own, other) = (device.path.display(), other.path.display());
    let what = if device.path.as_os_str() == other.to_string().as_str() {
        format!("the instance {instance:?} has {other}")
    } else {
        format!(
            "the instance {instance:?} has {other}, which is {own} or a part of it, or has it as a part"
        )
    };
    Refusal::new(
        Code::InUse,
        what,
        format!(
            "`handover instance detach {instance} {other}` takes it away from the stopped instance"
        ),
    )
}
