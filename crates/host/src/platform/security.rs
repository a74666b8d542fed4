//! Security modules that could block passthrough.

use model::doctor::{Platform, Security};

use rustix::io::Errno;

use super::unseen;
use crate::root::Root;

const ACTIVE: &str = "sys/kernel/security/lsm";

/// Reads the active modules.
pub fn read(root: &Root, platform: &mut Platform) {
    let active = root.text(ACTIVE);
    // Without the file, the kernel has no security modules, or securityfs is not mounted: no check needs more.
    if let Err(errno) = &active
        && *errno != Errno::NOENT
    {
        platform.unseen.push(unseen("active security modules", ACTIVE, *errno));
    }
    let enforce = root.text("sys/fs/selinux/enforce").ok();
    let lockdown = root.text("sys/kernel/security/lockdown").ok();
    platform.security = Security {
        modules: active
            .unwrap_or_default()
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        selinux_enforcing: enforce.map(|text| text == "1"),
        apparmor_libvirt: root.exists("etc/apparmor.d/libvirt"),
        // `none [integrity] confidentiality`
        lockdown: lockdown.as_deref().and_then(|text| {
            let chosen = text.split_once('[')?.1.split_once(']')?.0;
            Some(chosen.to_owned())
        }),
    };
}
