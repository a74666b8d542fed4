//! Device memory that cgroups can limit, and whether podman has the hook that sets the limit.

use model::doctor::{MemoryRegion, Platform};
use rustix::io::Errno;

use super::unseen;
use crate::memory_limit::ANNOTATION;
use crate::root::Root;

/// Exists in the root cgroup only (kernel/cgroup/dmem.c). Only cgroup2 has the controller, and it is mounted here.
const CAPACITY: &str = "sys/fs/cgroup/dmem.capacity";

/// Podman's default directory for hooks: containers.conf(5), `hooks_dir`. Podman does not search the directory in
/// `/etc` that oci-hooks(5) names by default (libpod/container_internal.go, `setupOCIHooks`).
const HOOKS: &str = "usr/share/containers/oci/hooks.d";

/// Reads the facts about device memory.
pub fn read(root: &Root, platform: &mut Platform) {
    match root.text(CAPACITY) {
        Ok(text) => platform.device_memory = Some(regions(&text)),
        Err(Errno::NOENT) => {}
        Err(errno) => platform.unseen.push(unseen("regions of device memory", CAPACITY, errno)),
    }
    platform.memory_hook = has_hook(root);
}

/// Parses lines such as `drm/0000:03:00.0/vram0 8589934592`, one per region.
fn regions(text: &str) -> Vec<MemoryRegion> {
    let region = |line: &str| {
        let (name, capacity) = line.trim_end().rsplit_once(' ')?;
        Some(MemoryRegion { name: name.to_owned(), capacity: capacity.parse().ok()? })
    };
    text.lines().filter_map(region).collect()
}

/// Whether a hook names our annotation, a regular expression whose dots may be escaped.
fn has_hook(root: &Root) -> bool {
    let names = root.names(HOOKS).unwrap_or_default();
    let mut files = names.iter().filter(|name| name.ends_with(".json"));
    files.any(|name| {
        let text = root.text(&format!("{HOOKS}/{name}")).unwrap_or_default();
        text.replace('\\', "").contains(ANNOTATION)
    })
}
