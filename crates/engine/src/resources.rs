//! What the host has, and what is given away.

use std::path::Path;

use model::{Code, Kind, Refusal};

use crate::core::Core;
use crate::refusals;
use crate::store::{StoredImage, StoredInstance};
use crate::{ResourceUse, Resources};

impl Core {
    pub fn resources(&self) -> Result<Resources, Refusal> {
        let capacity = self.host.capacity().map_err(|error| refusals::unreadable(&error))?;
        let (instances, images) =
            self.store.read(|from| Ok((StoredInstance::all(from)?, StoredImage::all(from)?)))?;
        let devices = self.devices(&std::collections::BTreeMap::new())?;
        let disk_images = images.iter().filter_map(|stored| stored.image.size_bytes).sum();
        let disk_overlays = allocated_below(&self.config.state_dir.join("machines"));
        Ok(Resources {
            cpu: ResourceUse {
                capacity: u64::from(capacity.cpus),
                allocated: instances.iter().map(|row| u64::from(row.instance.vcpus)).sum(),
            },
            memory: ResourceUse {
                capacity: capacity.memory,
                allocated: instances.iter().map(|row| row.instance.memory).sum(),
            },
            disk: ResourceUse {
                capacity: disk_size(&self.config.state_dir)?,
                allocated: disk_images + disk_overlays,
            },
            disk_images,
            disk_overlays,
            gpus: devices
                .into_iter()
                .filter(|device| device.kind == Kind::Gpu)
                .map(|device| (device.name, device.attached_to.is_none()))
                .collect(),
        })
    }
}

fn disk_size(dir: &Path) -> Result<u64, Refusal> {
    let found = rustix::fs::statvfs(dir).map_err(|error| {
        Refusal::new(
            Code::Internal,
            format!("cannot look at the disk below {}: {error}", dir.display()),
            "check the directory",
        )
    })?;
    Ok(found.f_blocks.saturating_mul(found.f_frsize))
}

/// Bytes that the files below a directory take on disk; layers are sparse. What vanishes meanwhile does not count.
fn allocated_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => allocated_below(&entry.path()),
            Ok(found) => found.blocks().saturating_mul(512),
            Err(_) => 0,
        })
        .sum()
}
