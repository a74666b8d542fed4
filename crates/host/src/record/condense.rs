//! Removes from a recording what is unrelated to the host's devices: most lines of the distribution's large files, and
//! unrelated processes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use model::Inventory;

use crate::archive::{Entries, Kind};
use crate::inventory::{Modalias, builtin, matches};

/// What to keep.
#[derive(Debug)]
pub struct Interest<'a> {
    /// The functions.
    pub inventory: &'a Inventory,
    /// The processes that use a device, or that matter to the doctor.
    pub processes: &'a BTreeSet<u32>,
    /// The modules that matter to the doctor.
    pub modules: BTreeSet<String>,
}

/// Condenses a recording.
pub fn condense(entries: &mut Entries, interest: &Interest<'_>) {
    processes(entries, interest.processes);
    let functions = interest.inventory.functions.values();
    let modaliases: BTreeSet<String> = functions.map(|f| Modalias::of(f).to_string()).collect();
    let mut modules = interest.modules.clone();
    edit(entries, "/modules.alias", |text| aliases(text, &modaliases, &mut modules));
    edit(entries, "/modules.builtin.modinfo", |text| built_in(text, &modaliases));
    edit(entries, "/modules.dep", |text| lines(text, |line| is_kept_module(line, &modules)));
    edit(entries, "/modules.builtin", |text| lines(text, |line| is_kept_module(line, &modules)));
    edit(entries, "/pci.ids", |text| names(text, interest.inventory));
    edit(entries, "/net/route", routes);
    edit(entries, "/net/ipv6_route", routes_v6);
    for table in ["/net/tcp", "/net/tcp6"] {
        edit(entries, table, connections);
    }
    boot_entries(entries);
    let is_used = |line: &str| MOUNTS.iter().any(|part| line.contains(part));
    edit(entries, "/mountinfo", |text| lines(text, is_used));
    edit(entries, "/maps", |text| lines(text, |line| line.contains(" /dev/")));
}

/// The port 10809 of the network block device protocol (IANA), as /proc/net/tcp shows it.
const NBD_PORT: &str = ":2A39";

/// The mounts to keep: of disks, of what a host around this one shares, and of file servers.
const MOUNTS: [&str; 8] =
    [" /dev/", " - 9p ", " - virtiofs ", " - nfs ", " - nfs4 ", " - cifs ", " - smb3 ", " - ceph "];

/// Changes the text of the files whose paths have this suffix.
fn edit(entries: &mut Entries, end: &str, mut change: impl FnMut(&str) -> String) {
    for (path, entry) in &mut entries.files {
        if let Kind::File(Some(content)) = &mut entry.kind
            && path.ends_with(end)
        {
            *content = change(&String::from_utf8_lossy(content)).into_bytes();
        }
    }
}

/// Removes all processes except these, and all their open files except devices.
fn processes(entries: &mut Entries, wanted: &BTreeSet<u32>) {
    let own = entries.files.get("proc/self").and_then(|entry| entry.target());
    let keep = |path: &str| {
        let Some(rest) = path.strip_prefix("proc/") else { return true };
        let mut names = rest.split('/');
        let pid = names.next().unwrap_or_default();
        let Ok(number) = pid.parse::<u32>() else { return true };
        match (names.next(), names.next()) {
            // Of this process itself only mounts, routes and limits are read.
            _ if own.as_deref() == Some(pid) && !wanted.contains(&number) => {
                !rest.contains("/fd") && !rest.ends_with("/maps")
            }
            _ => wanted.contains(&number),
        }
    };
    entries.files.retain(|path, _| keep(path));
    entries.open_devices.retain(|path, _| keep(path));
    entries.files.retain(|path, entry| match &entry.kind {
        Kind::Link(target) if is_open_file(path) => target.starts_with("/dev/"),
        _ => true,
    });
}

/// Whether a path is an open file such as `proc/4711/fd/3`.
fn is_open_file(path: &str) -> bool {
    path.starts_with("proc/") && path.contains("/fd/")
}

/// Removes the machine's id from the entries of systemd-boot: that there is one says which program wrote them.
fn boot_entries(entries: &mut Entries) {
    for (path, entry) in &mut entries.files {
        if let Kind::File(Some(content)) = &mut entry.kind
            && path.contains("/loader/entries/")
        {
            let text = String::from_utf8_lossy(content);
            let mut kept = String::with_capacity(text.len());
            for line in text.lines() {
                let id = line.starts_with("machine-id");
                kept.push_str(if id { "machine-id -" } else { line });
                kept.push('\n');
            }
            *content = kept.into_bytes();
        }
    }
}

fn lines(text: &str, keep: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| keep(line)).flat_map(|line| [line, "\n"]).collect()
}

/// Keeps the aliases of the host's functions, and adds their modules to `modules`.
fn aliases(text: &str, functions: &BTreeSet<String>, modules: &mut BTreeSet<String>) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let Some((kind, rest)) = line.split_once(':') else { continue };
        let Some((pattern, module)) = rest.split_once(' ') else { continue };
        if matches!(kind, "alias pci" | "alias vfio_pci")
            && functions.iter().any(|function| matches(pattern, function))
        {
            modules.insert(module.trim().replace('-', "_"));
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Keeps the aliases of built-in modules for the host's functions.
fn built_in(text: &str, functions: &BTreeSet<String>) -> String {
    let mut kept = String::new();
    for kind in ["pci:", "vfio_pci:"] {
        for (pattern, module) in builtin::aliases(text.as_bytes(), kind) {
            if functions.iter().any(|function| matches(pattern, function)) {
                let _ = write!(kept, "{module}.alias={kind}{pattern}\0");
            }
        }
    }
    kept
}

/// Whether a line `kernel/drivers/vfio/pci/vfio-pci.ko.xz: ...` has a module to keep.
fn is_kept_module(line: &str, modules: &BTreeSet<String>) -> bool {
    let path = line.split(':').next().unwrap_or_default();
    let name = path.rsplit('/').next().and_then(|file| file.split_once(".ko"));
    let name = name.map(|(name, _)| name.replace('-', "_")).unwrap_or_default();
    modules.contains(&name) || name.contains("vfio") || name.contains("iommu")
}

/// Keeps the names of the host's vendors, devices and classes.
fn names(text: &str, inventory: &Inventory) -> String {
    let functions = || inventory.functions.values();
    let mut ids: BTreeSet<(String, String)> = BTreeSet::new();
    for function in functions() {
        ids.insert((function.vendor.to_string(), function.device.to_string()));
        if let (Some(vendor), Some(device)) = (function.subsystem_vendor, function.subsystem_device)
        {
            ids.insert((vendor.to_string(), device.to_string()));
        }
    }
    let (mut vendor, mut device, mut class) = (None, false, false);
    text.lines()
        .filter(|line| {
            if line.starts_with("C ") {
                (vendor, device, class) = (None, false, true);
                return true;
            }
            // Comments also occur between the devices of a vendor.
            if line.starts_with('#') || line.is_empty() {
                return false;
            }
            if class {
                return true;
            }
            let id = |text: &str| text.get(..4).map(str::to_ascii_lowercase);
            if line.starts_with("\t\t") {
                return device;
            }
            if let Some(rest) = line.strip_prefix('\t') {
                let (Some(of), Some(own)) = (&vendor, id(rest)) else { return false };
                device = ids.contains(&(String::clone(of), own));
                return device;
            }
            (vendor, device) = (None, false);
            let Some(own) = id(line).filter(|id| id.bytes().all(|b| b.is_ascii_hexdigit())) else {
                return false;
            };
            let known = ids.iter().any(|(vendor, _)| *vendor == own);
            vendor = known.then_some(own);
            known
        })
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Removes the addresses of gateways.
fn routes(text: &str) -> String {
    let mut kept = String::new();
    for (number, line) in text.lines().enumerate() {
        let mut fields: Vec<&str> = line.split_whitespace().collect();
        if let Some(gateway) = fields.get_mut(2).filter(|_| number > 0) {
            *gateway = "00000000";
        }
        kept.push_str(&fields.join("\t"));
        kept.push('\n');
    }
    kept
}

/// Removes the addresses of gateways, and what each interface has.
fn routes_v6(text: &str) -> String {
    let none = "0".repeat(32);
    let mut kept = String::new();
    for line in text.lines() {
        let mut fields: Vec<&str> = line.split_whitespace().collect();
        if fields.first().is_none_or(|to| to.starts_with("fe8") || to.starts_with("ff")) {
            continue;
        }
        if let Some(gateway) = fields.get_mut(4) {
            *gateway = &none;
        }
        kept.push_str(&fields.join(" "));
        kept.push('\n');
    }
    kept
}

/// Keeps the connections to servers of network block devices, without our own address.
fn connections(text: &str) -> String {
    let mut kept = String::new();
    for (number, line) in text.lines().enumerate() {
        let mut fields: Vec<&str> = line.split_whitespace().collect();
        let to_server = fields.get(2).is_some_and(|peer| peer.ends_with(NBD_PORT));
        if number > 0 && !to_server {
            continue;
        }
        let own = if fields.get(1).is_some_and(|own| own.len() > 13) { 32 } else { 8 };
        let own = format!("{}:0000", "0".repeat(own));
        if let Some(address) = fields.get_mut(1).filter(|_| number > 0) {
            *address = &own;
        }
        kept.push_str(&fields.join(" "));
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_lose_their_gateways() {
        let text = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t0102A8C0\t0003\n\
                    eth0\t0002A8C0\t00000000\t0001\n";
        let kept = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t00000000\t0003\n\
                    eth0\t0002A8C0\t00000000\t0001\n";
        assert_eq!(routes(text), kept);
        let (any, own) = ("0".repeat(32), "fe80".to_owned() + &"0".repeat(28));
        let line = |to: &str, gateway: &str| format!("{to} 00 {any} 00 {gateway} 1 0 0 3 eth0\n");
        let text = line(&any, &own) + &line(&own, &any);
        assert_eq!(routes_v6(&text), line(&any, &any));
    }

    #[test]
    fn only_connections_to_block_servers_are_kept() {
        let text = "sl local rem st\n0: 0100007F:1F90 0201A8C0:2A39 01 x\n1: 0100007F:1F90 0201A8C0:0016 01 x\n";
        let kept = "sl local rem st\n0: 00000000:0000 0201A8C0:2A39 01 x\n";
        assert_eq!(connections(text), kept);
    }

    #[test]
    fn the_aliases_of_the_hosts_functions_are_kept() {
        let text = "alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau\nalias usb:v1 x\n\
                    alias pci:v00008086d*sv*sd*bc*sc*i* other\n";
        let function = "v000010DEd00002204sv000010DEsd00001455bc03sc00i00";
        let mut modules = BTreeSet::new();
        let kept = aliases(text, &BTreeSet::from([function.to_owned()]), &mut modules);
        assert_eq!(kept, "alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau\n");
        assert!(is_kept_module("kernel/drivers/gpu/drm/nouveau/nouveau.ko.xz: a.ko", &modules));
        assert!(!is_kept_module("kernel/drivers/other.ko.xz:", &modules));
        let text = "nova.license=GPL\0nova.alias=pci:v000010DEd*sv*sd*bc03sc*i*\0e1000.alias=pci:v00008086d*\0";
        let kept = built_in(text, &BTreeSet::from([function.to_owned()]));
        assert_eq!(kept, "nova.alias=pci:v000010DEd*sv*sd*bc03sc*i*\0");
    }
}
