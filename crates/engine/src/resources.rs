//! The host's resources, and what of them is allocated.

use std::path::Path;

use model::{Code, Refusal};

use crate::devices::Devices;
use crate::hardware::Hardware;
use crate::refusals;
use crate::store::{Store, StoredInstance};
use crate::{Config, DiskUse, ResourceUse, Resources, Volume};

pub fn resources(
    store: &Store,
    hardware: &Hardware,
    devices: &Devices,
    config: &Config,
) -> Result<Resources, Refusal> {
    let capacity = hardware.host.capacity().map_err(|error| refusals::unreadable(&error))?;
    let (instances, volumes) =
        store.read(|from| Ok((StoredInstance::all(from)?, Volume::all(from)?)))?;
    let used = disk_use(&config.state_dir, &volumes);
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
            capacity: disk_size(&config.state_dir)?,
            allocated: used.images + used.layers + used.overlays + used.volumes,
        },
        disk_use: used,
        gpus: devices.whole_gpus()?,
        pci: devices.pci_resources()?,
        vgpus: devices.vgpus()?,
    })
}

/// What takes space below the state directory.
fn disk_use(state_dir: &Path, volumes: &[Volume]) -> DiskUse {
    let images = allocated_below(&state_dir.join("images"));
    let layers = allocated_below(&state_dir.join("images/blobs"));
    let of = |is_wanted: &dyn Fn(&Volume) -> bool| -> u64 {
        let wanted = volumes.iter().filter(|volume| is_wanted(volume));
        wanted
            .map(|volume| allocated_below(&state_dir.join("volumes").join(volume.id.to_string())))
            .sum()
    };
    DiskUse {
        images: images.saturating_sub(layers),
        layers,
        overlays: allocated_below(&state_dir.join("machines")) + of(&|one| one.made_with.is_some()),
        volumes: of(&|one| one.made_with.is_none()),
    }
}

fn disk_size(dir: &Path) -> Result<u64, Refusal> {
    let found = rustix::fs::statvfs(dir).map_err(|error| {
        Refusal::new(
            Code::Internal,
            format!("cannot get the disk size of {}: {error}", dir.display()),
            "check that the directory exists and is mounted",
        )
    })?;
    Ok(found.f_blocks.saturating_mul(found.f_frsize))
}

/// Bytes on disk of the files below a directory (disk layers are sparse). Files that vanish meanwhile are not counted.
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
