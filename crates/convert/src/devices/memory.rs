//! Limits of a pod's GPU memory, which the kernel's `dmem` controller enforces (cgroup-v2.rst, "DMEM").

use std::str::FromStr;

use model::doctor::{MemoryRegion, Platform};
use model::{Address, Code, Refusal, shown};

use super::{Devices, Section, Wanted, Way};
use crate::instance::Instance;
use crate::quantity::Quantity;

/// The annotation of a machine that requests a limit.
pub const ANNOTATION: &str = "handover.dev/gpu-memory-limit";

/// The annotation of a pod for the hook: lines of `dmem.max`.
pub(crate) const DMEM_ANNOTATION: &str = "handover.dev/dmem-max";

/// The memory that a machine's pod may use of each of its GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit(u64);

impl MemoryLimit {
    /// The limit of a machine's annotation; `None` without one.
    ///
    /// # Errors
    /// The value is not a quantity.
    pub fn of(instance: &Instance) -> Result<Option<Self>, Refusal> {
        instance.annotation(ANNOTATION).map(str::parse).transpose()
    }
}

impl FromStr for MemoryLimit {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let bytes = text.parse::<Quantity>().ok().map(|quantity| quantity.value());
        let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
        bytes.map(Self).ok_or_else(|| {
            Refusal::new(
                Code::InvalidRequest,
                format!("invalid GPU memory limit {text:?}"),
                "use a Kubernetes quantity such as 4Gi, 512Mi or 2G",
            )
        })
    }
}

/// The limit of each machine: the common one for all machines with a GPU, otherwise the machine's own.
///
/// # Errors
/// A machine's own limit is not a quantity.
pub fn asked<'a>(
    machines: impl IntoIterator<Item = (&'a Instance, &'a [Wanted])>,
    said: Option<MemoryLimit>,
) -> Result<Vec<Option<MemoryLimit>>, Refusal> {
    let machines: Vec<(&Instance, &[Wanted])> = machines.into_iter().collect();
    let has_gpu = |wanted: &[Wanted]| wanted.iter().any(|one| one.section == Section::Gpu);
    // If no machine has a GPU, the common limit is refused for the first.
    let nobody = !machines.iter().any(|(_, wanted)| has_gpu(wanted));
    let one = |(instance, wanted): &(&Instance, &[Wanted])| {
        let own = MemoryLimit::of(instance)?;
        Ok(said.filter(|_| nobody || has_gpu(wanted)).or(own))
    };
    machines.iter().map(one).collect()
}

/// Limits the memory of GPUs that a machine gets through their drivers' nodes.
///
/// # Errors
/// Why the kernel would not enforce the limit: a pod must not seem limited without being so.
pub fn limit(
    devices: &mut Devices,
    wanted: &[Wanted],
    limit: MemoryLimit,
    way: Way,
    platform: &Platform,
) -> Result<(), Refusal> {
    let gpus: Vec<&Wanted> = wanted.iter().filter(|one| one.section == Section::Gpu).collect();
    if gpus.is_empty() {
        return Err(refusal(
            Code::InvalidRequest,
            "the machine requests no GPU",
            format!("request one in devices.gpus, or remove the limit ({ANNOTATION})"),
        ));
    }
    by_nodes(way, &gpus)?;
    let regions = platform.device_memory.as_deref().ok_or_else(no_controller)?;
    if !platform.memory_hook {
        return Err(no_hook());
    }
    // Missing GPUs were allowed.
    for address in devices.functions.clone() {
        let own: Vec<&MemoryRegion> =
            regions.iter().filter(|region| region.is_video_memory_of(address)).collect();
        if own.is_empty() {
            return Err(no_region(address));
        }
        for region in own {
            if limit.0 > region.capacity {
                return Err(too_much(limit, address, region));
            }
            devices.memory_limits.push((region.name.clone(), limit.0));
        }
    }
    Ok(())
}

/// Only the host's driver accounts for memory.
fn by_nodes(way: Way, gpus: &[&Wanted]) -> Result<(), Refusal> {
    let vgpu = gpus.iter().find_map(|one| Some((one, one.resource.profile()?)));
    if let Some((one, profile)) = vgpu {
        return Err(refusal(
            Code::InvalidRequest,
            &format!("gpu {} is a vGPU, and its profile {profile} is the limit", one.name),
            "choose a profile of the desired size, and remove the limit".to_owned(),
        ));
    }
    if way == Way::Vfio {
        return Err(refusal(
            Code::InvalidRequest,
            "the machine gets its GPUs through VFIO: the guest's driver has all of their memory, and the host cannot account for it",
            "use --devices=nodes, or remove the limit; for a part of a GPU's memory use a vGPU profile".to_owned(),
        ));
    }
    Ok(())
}

fn no_controller() -> Refusal {
    refusal(
        Code::InvalidState,
        "the kernel has no dmem controller",
        "boot Linux 6.14 or newer with CONFIG_CGROUP_DMEM and cgroup2 at /sys/fs/cgroup, or remove the limit".to_owned(),
    )
}

fn no_hook() -> Refusal {
    refusal(
        Code::InvalidState,
        "podman has no hook that sets the limit",
        "install packaging/oci-hook.json as /usr/share/containers/oci/hooks.d/handover.json"
            .to_owned(),
    )
}

fn no_region(address: Address) -> Refusal {
    refusal(
        Code::InvalidState,
        &format!("the driver of {address} has no region in /sys/fs/cgroup/dmem.capacity"),
        "amdgpu and xe have one, NVIDIA's driver does not; use another GPU, or remove the limit"
            .to_owned(),
    )
}

fn too_much(limit: MemoryLimit, address: Address, region: &MemoryRegion) -> Refusal {
    let (wanted, has) = (shown::bytes(limit.0), shown::bytes(region.capacity));
    refusal(
        Code::InsufficientResources,
        &format!("{wanted} is more than {address} has: {} is {has}", region.name),
        "lower the limit, or remove it".to_owned(),
    )
}

fn refusal(code: Code, why: &str, remedy: String) -> Refusal {
    Refusal::new(code, format!("cannot limit the GPU memory: {why}"), remedy)
}

/// The lines for the cgroup's `dmem.max`.
pub(crate) fn dmem_lines(devices: &Devices) -> Option<String> {
    let lines: Vec<String> =
        devices.memory_limits.iter().map(|(region, bytes)| format!("{region} {bytes}")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Resource;

    const GPU: &str = "0000:03:00.0";

    fn wanted(resource: &str) -> [Wanted; 1] {
        [Wanted { section: Section::Gpu, name: "g".into(), resource: Resource::new(resource) }]
    }

    fn host() -> Platform {
        let region = |name: &str, capacity| MemoryRegion { name: name.into(), capacity };
        let regions = vec![
            region("drm/0000:03:00.0/vram0", 8 << 30),
            region("drm/0000:03:00.0/vram1", 8 << 30),
            region("drm/0000:03:00.0/stolen", 1 << 20),
            region("drm/0000:04:00.0/vram", 4 << 30),
        ];
        Platform { device_memory: Some(regions), memory_hook: true, ..Platform::default() }
    }

    fn given(address: &str) -> Devices {
        Devices { functions: vec![address.parse().unwrap()], ..Devices::default() }
    }

    fn limited(
        devices: Devices,
        resource: &str,
        text: &str,
        on: &Platform,
    ) -> Result<Devices, String> {
        let mut devices = devices;
        let way = if devices.lock_memory { Way::Vfio } else { Way::Nodes };
        let asked = text.parse::<MemoryLimit>();
        let done = asked.and_then(|asked| limit(&mut devices, &wanted(resource), asked, way, on));
        done.map(|()| devices).map_err(|refusal| refusal.message)
    }

    #[test]
    fn each_of_a_gpus_memories_is_limited() {
        let devices = limited(given(GPU), "amd.com/gpu", "2Gi", &host()).unwrap();
        let lines = "drm/0000:03:00.0/vram0 2147483648\ndrm/0000:03:00.0/vram1 2147483648";
        assert_eq!(dmem_lines(&devices).as_deref(), Some(lines));
        assert_eq!(dmem_lines(&Devices::default()), None);
    }

    #[test]
    fn a_limit_that_would_not_be_kept_is_refused() {
        let refused = |devices, resource, text, on: &Platform| {
            limited(devices, resource, text, on).unwrap_err()
        };
        let amd = |text| refused(given("0000:04:00.0"), "amd.com/gpu", text, &host());
        for text in ["", "lots", "0", "-1Gi"] {
            assert!(amd(text).contains("invalid GPU memory limit"), "{text}");
        }
        assert!(amd("5Gi").contains("is more than 0000:04:00.0 has"));
        let other = refused(given("0000:05:00.0"), "nvidia.com/GPU", "1Gi", &host());
        assert!(other.contains("0000:05:00.0 has no region"));
        let vgpu = refused(Devices::default(), "nvidia.com/GRID_T4-1Q", "1Gi", &host());
        assert!(vgpu.contains("its profile GRID T4-1Q is the limit"));
        let by_vfio = Devices { lock_memory: true, ..given(GPU) };
        assert!(refused(by_vfio, "amd.com/gpu", "1Gi", &host()).contains("VFIO"));
        let old = Platform { device_memory: None, ..host() };
        assert!(refused(given(GPU), "amd.com/gpu", "1Gi", &old).contains("no dmem controller"));
        let bare = Platform { memory_hook: false, ..host() };
        assert!(refused(given(GPU), "amd.com/gpu", "1Gi", &bare).contains("no hook"));
        let one: MemoryLimit = "1Gi".parse().unwrap();
        let none = limit(&mut given(GPU), &[], one, Way::Nodes, &host()).unwrap_err();
        assert!(none.message.contains("requests no GPU"));
    }
}
