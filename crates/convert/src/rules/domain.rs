//! Rules of memory, CPUs, firmware and devices (vmi-create-admitter.go, and the files of pkg/virt-api/webhooks for each
//! architecture).

use serde_json::Value;

use super::{Found, Spec, join, short};
use crate::quantity::Quantity;
use crate::values::Below as _;
use crate::{overhead, preference};

/// Rules that need no other object and no default.
pub fn written(spec: &Spec<'_>, found: &mut Found) {
    memory(spec, found);
    cpu_amounts(spec, found);
    machine_type(spec, found);
    kernel_boot(spec, found);
    hyperv(spec, found);
    video(spec, found);
    let displays = spec.value.list("domain.devices.gpus").iter().filter(|gpu| has_ramfb(gpu));
    if displays.count() > 1 {
        let remedy = "set `ramFB: {enabled: false}` for the others";
        found.add(
            &spec.path("domain.devices.gpus"),
            "has more than one display with ramFB",
            remedy,
        );
    }
}

/// Rules of an instance with all its defaults.
pub fn complete(spec: &Spec<'_>, found: &mut Found) {
    memory(spec, found);
    cpu_amounts(spec, found);
    machine_type(spec, found);
    hyperv(spec, found);
    video(spec, found);
    cpu(spec, found);
    if spec.value.switch("domain.cpu.dedicatedCpuPlacement") == Some(true) {
        dedicated_cpus(spec, found);
    }
    secure_boot(spec, found);
    launch_security(spec, found);
    architecture(spec, found);
    let pool = spec.value.text("domain.ioThreadsPolicy") == "supplementalPool";
    if pool && spec.value.number("domain.ioThreads.supplementalPoolThreadCount") < 1 {
        let remedy = "set domain.ioThreads.supplementalPoolThreadCount";
        let what = "is supplementalPool without a number of threads";
        found.add(&spec.path("domain.ioThreadsPolicy"), what, remedy);
    }
}

/// An amount of memory or CPUs, if it is not zero.
fn amount(spec: &Spec<'_>, path: &str) -> Option<Quantity> {
    spec.value.quantity(path).filter(|amount| !amount.is_zero())
}

const GUEST: &str = "domain.memory.guest";
const MEMORY_REQUEST: &str = "domain.resources.requests.memory";
const MEMORY_LIMIT: &str = "domain.resources.limits.memory";

fn memory(spec: &Spec<'_>, found: &mut Found) {
    let [guest, request, limit] =
        [GUEST, MEMORY_REQUEST, MEMORY_LIMIT].map(|path| amount(spec, path));
    for (path, amount) in [(GUEST, guest), (MEMORY_REQUEST, request), (MEMORY_LIMIT, limit)] {
        if let Some(amount) = amount.filter(|amount| *amount < Quantity::ZERO) {
            found.add(&spec.path(path), format!("is {amount}"), "use a positive amount");
        }
    }
    let least = Quantity::decimal(1_000_000);
    if let Some(request) = request.filter(|one| *one > Quantity::ZERO && *one < least) {
        found.add(&spec.path(MEMORY_REQUEST), format!("is {request}"), "use at least 1M");
    }
    if let Some(limit) = limit.filter(|limit| *limit > Quantity::ZERO) {
        for (path, amount) in [(GUEST, guest), (MEMORY_REQUEST, request)] {
            if let Some(amount) = amount.filter(|amount| *amount > limit) {
                let what = format!("is {amount}, which is more than the limit {limit}");
                let remedy = format!("raise {MEMORY_LIMIT}, or use less");
                found.add(&spec.path(path), what, remedy);
            }
        }
    }
    let most = amount(spec, "domain.memory.maxGuest");
    if let (Some(guest), Some(most)) = (guest, most)
        && most < guest
    {
        let what = format!("is {most}, which is less than the guest's memory {guest}");
        found.add(&spec.path("domain.memory.maxGuest"), what, "use at least the guest's memory");
    }
    huge_pages(spec, request.or(guest).or(limit), found);
}

/// Sizes of huge pages on amd64, as KubeVirt's schema has them.
const AMD64_PAGES: &[&str] = &["2Mi", "1Gi"];

/// Sizes on any architecture (Linux, arch/*/mm/hugetlbpage.c). KubeVirt does not check them.
const PAGES: &[&str] = &["64Ki", "1Mi", "2Mi", "32Mi", "512Mi", "1Gi", "2Gi", "16Gi"];

fn huge_pages(spec: &Spec<'_>, memory: Option<Quantity>, found: &mut Found) {
    let path = "domain.memory.hugepages.pageSize";
    let Some(size) = spec.value.quantity(path).filter(|size| *size > Quantity::ZERO) else {
        return;
    };
    let sizes = if spec.value.text("architecture") == "amd64" { AMD64_PAGES } else { PAGES };
    if !sizes.iter().any(|known| known.parse() == Ok(size)) {
        let what = format!("is {size}, which is no size of huge pages");
        return found.add(&spec.path(path), what, format!("use one of: {}", sizes.join(", ")));
    }
    if let Some(memory) = memory.filter(|memory| memory.value() % size.value() != 0) {
        let what = format!("is {size}, but the memory {memory} is no multiple of it");
        found.add(&spec.path(path), what, "change the memory, or use smaller pages");
    }
}

fn cpu_amounts(spec: &Spec<'_>, found: &mut Found) {
    let [request, limit] = [REQUEST, LIMIT].map(|path| amount(spec, path));
    for (path, amount) in [(REQUEST, request), (LIMIT, limit)] {
        if let Some(amount) = amount.filter(|amount| *amount < Quantity::ZERO) {
            found.add(&spec.path(path), format!("is {amount}"), "use a positive number");
        }
    }
    if let (Some(request), Some(limit)) = (request, limit)
        && limit > Quantity::ZERO
        && request > limit
    {
        let what = format!("is {request}, which is more than the limit {limit}");
        found.add(&spec.path(REQUEST), what, "raise the limit, or request less");
    }
    let [sockets, most] =
        ["sockets", "maxSockets"].map(|field| spec.value.number(&format!("domain.cpu.{field}")));
    if most > 0 && sockets > most {
        let what = format!("is {sockets}, which is more than maxSockets {most}");
        found.add(&spec.path("domain.cpu.sockets"), what, "raise maxSockets, or use fewer sockets");
    }
}

const REQUEST: &str = "domain.resources.requests.cpu";
const LIMIT: &str = "domain.resources.limits.cpu";

/// The machine types of an unconfigured cluster (pkg/virt-config/virt-config.go).
const MACHINES: [(&str, &[&str]); 3] =
    [("amd64", &["q35", "pc-q35"]), ("arm64", &["virt"]), ("s390x", &["s390-ccw-virtio"])];

fn machine_type(spec: &Spec<'_>, found: &mut Found) {
    let path = "domain.machine.type";
    let (given, own) = (spec.value.text(path), spec.value.text("architecture"));
    let prefixes: Vec<&str> = MACHINES
        .iter()
        .filter(|(architecture, _)| own.is_empty() || own == *architecture)
        .flat_map(|(_, prefixes)| prefixes.iter().copied())
        .collect();
    let known = prefixes.iter().any(|prefix| given.starts_with(prefix));
    if !given.is_empty() && !known && !prefixes.is_empty() {
        let what = format!("is \"{}\", which is no known machine type", short(given));
        let remedy = format!("use a type that starts with: {}", prefixes.join(", "));
        found.add(&spec.path(path), what, remedy);
    }
}

fn kernel_boot(spec: &Spec<'_>, found: &mut Found) {
    const BOOT: &str = "domain.firmware.kernelBoot";
    let Some(boot) = spec.value.at(BOOT) else { return };
    if !boot.has("container") && !boot.text("kernelArgs").is_empty() {
        let what = "is set without a kernel";
        found.add(&spec.path(&format!("{BOOT}.kernelArgs")), what, "add `container`");
    }
    let paths = ["kernelPath", "initrdPath"].map(|field| boot.text(&format!("container.{field}")));
    if boot.has("container") && paths == ["", ""] {
        let remedy = "KubeVirt refuses it; add one of them";
        let path = spec.path(&format!("{BOOT}.container"));
        found.note(&path, "has neither kernelPath nor initrdPath", remedy);
    }
}

/// Features of Hyper-V need others (pkg/virt-api/webhooks/hyperv.go).
fn hyperv(spec: &Spec<'_>, found: &mut Found) {
    const HYPERV: &str = "domain.features.hyperv";
    for (feature, needed) in crate::hyperv::NEEDS {
        let needed_path = format!("{HYPERV}.{needed}");
        let off = spec.value.switch(&format!("{needed_path}.enabled")) == Some(false);
        if off && spec.enabled(&format!("{HYPERV}.{feature}")) {
            let what = format!("is disabled, but {feature} needs it");
            let remedy = format!("enable it, or disable {feature}");
            found.add(&spec.path(&needed_path), what, remedy);
        }
    }
    if spec.value.has(HYPERV) && spec.value.has("domain.features.hypervPassthrough") {
        let what = "is set beside `hyperv`";
        found.add(&spec.path("domain.features.hypervPassthrough"), what, "keep one of them");
    }
}

fn video(spec: &Spec<'_>, found: &mut Found) {
    const VIDEO: &str = "domain.devices.video";
    let off = spec.value.switch("domain.devices.autoattachGraphicsDevice") == Some(false);
    if off && spec.value.has(VIDEO) {
        let what = "is set, but autoattachGraphicsDevice is false";
        found.add(&spec.path(VIDEO), what, "remove one of them");
    }
}

fn has_ramfb(gpu: &Value) -> bool {
    const DISPLAY: &str = "virtualGPUOptions.display";
    let on = |path: &str| gpu.switch(&join(path, "enabled")) != Some(false);
    gpu.has(DISPLAY) && on(DISPLAY) && on(&join(DISPLAY, "ramFB"))
}

fn cpu(spec: &Spec<'_>, found: &mut Found) {
    let dedicated = spec.value.switch("domain.cpu.dedicatedCpuPlacement") == Some(true);
    let numa = "domain.cpu.numa.guestMappingPassthrough";
    let mut needs = |path: &str, what: &str| {
        found.add(&spec.path(path), format!("needs {what}"), format!("set {what}, or remove it"));
    };
    if spec.value.switch("domain.cpu.isolateEmulatorThread") == Some(true) && !dedicated {
        needs("domain.cpu.isolateEmulatorThread", "dedicatedCpuPlacement");
    }
    if spec.value.has(numa) {
        if !dedicated {
            needs(numa, "dedicatedCpuPlacement");
        }
        if !spec.value.has("domain.memory.hugepages") {
            needs(numa, "memory.hugepages");
        }
    }
    if spec.value.has("domain.cpu.realtime") {
        if !dedicated {
            needs("domain.cpu.realtime", "dedicatedCpuPlacement");
        }
        if !spec.value.has(numa) {
            needs("domain.cpu.realtime", "numa.guestMappingPassthrough");
        }
    }
}

fn dedicated_cpus(spec: &Spec<'_>, found: &mut Found) {
    let path = "domain.cpu.dedicatedCpuPlacement";
    let [request, limit] = [REQUEST, LIMIT].map(|path| amount(spec, path));
    for (path, amount) in [(REQUEST, request), (LIMIT, limit)] {
        if let Some(amount) = amount.filter(|one| Quantity::decimal(one.value()) != *one) {
            let what = format!("is {amount}, but dedicated CPUs are whole");
            found.add(&spec.path(path), what, "use a whole number");
        }
    }
    let vcpus = overhead::vcpus(spec.value);
    let [requested, limited] = [request, limit].map(|one| one.map_or(0, Quantity::value));
    if requested > 0 && limited > 0 && requested != limited {
        let what = format!("needs the CPU request {requested} to be the limit {limited}");
        found.add(&spec.path(path), what, "set one of them only");
    } else if requested.max(limited) > 0 && vcpus > 0 && requested != vcpus && limited != vcpus {
        let what = format!("needs a CPU request of the guest's {vcpus} CPUs");
        found.add(&spec.path(path), what, "remove the CPU request and limit, or change them");
    }
    let [request, limit] = [MEMORY_REQUEST, MEMORY_LIMIT].map(|path| amount(spec, path));
    if request.is_some() && limit.is_some() && request != limit {
        let what = "needs the memory request to be the memory limit";
        found.add(&spec.path(path), what, "set one of them only");
    }
    let most = if spec.value.text("architecture") == "arm64" { 1 } else { 2 };
    if spec.value.number("domain.cpu.threads") > most {
        let what = format!("is more than {most}, but the CPUs are dedicated");
        found.add(&spec.path("domain.cpu.threads"), what, "use more cores instead");
    }
}

const EFI: &str = "domain.firmware.bootloader.efi";

/// Secure boot is on unless it is switched off.
fn is_secure(spec: &Spec<'_>) -> bool {
    spec.value.has(EFI) && spec.value.switch(&format!("{EFI}.secureBoot")) != Some(false)
}

fn secure_boot(spec: &Spec<'_>, found: &mut Found) {
    let tdx = spec.value.has("domain.launchSecurity.tdx");
    if is_secure(spec) && !spec.enabled("domain.features.smm") && !tdx {
        let remedy = "add domain.features.smm, or set `secureBoot: false`";
        found.add(&spec.path(EFI), "has secure boot, which needs SMM", remedy);
    }
}

/// Encrypted guests (pkg/virt-api/webhooks/amd64.go).
fn launch_security(spec: &Spec<'_>, found: &mut Found) {
    const SECURITY: &str = "domain.launchSecurity";
    let architecture = spec.value.text("architecture");
    if !spec.value.has(SECURITY) || architecture == "s390x" {
        return;
    }
    let has = |technology: &str| spec.value.has(&format!("{SECURITY}.{technology}"));
    let [sev, snp, tdx] = ["sev", "snp", "tdx"].map(has);
    let nic = spec.value.list("domain.devices.interfaces").iter().any(|one| one.has("bootOrder"));
    let persistent = spec.value.switch(&format!("{EFI}.persistent")) == Some(true);
    let paused = spec.value.text("startStrategy") == "Paused";
    let rules = [
        (architecture == "arm64", "is not available on arm64", "remove it"),
        (!sev && !snp && !tdx, "names no technology", "add one of: sev, snp, tdx"),
        (!spec.value.has(EFI), "needs EFI", "add domain.firmware.bootloader.efi"),
        ((sev || snp) && is_secure(spec), "excludes secure boot", "set `secureBoot: false`"),
        ((snp || tdx) && persistent, "excludes a persistent EFI", "remove `persistent`"),
        (tdx && spec.enabled("domain.features.smm"), "excludes SMM with TDX", "disable smm"),
        (nic, "excludes interfaces with a bootOrder", "remove the bootOrder"),
        (
            sev && spec.value.has("domain.launchSecurity.sev.attestation") && !paused,
            "has an attestation, which needs a paused start",
            "set `startStrategy: Paused`",
        ),
    ];
    for (_, what, remedy) in rules.iter().filter(|(broken, ..)| *broken) {
        found.add(&spec.path(SECURITY), *what, *remedy);
    }
}

/// What an architecture does not have (pkg/virt-api/webhooks/{amd64,arm64,s390x}.go).
fn architecture(spec: &Spec<'_>, found: &mut Found) {
    let own = spec.value.text("architecture");
    let videos: &[&str] = match own {
        "arm64" => &["virtio", "ramfb"],
        "s390x" => &["virtio"],
        _ => return amd64(spec, found),
    };
    let video = spec.value.text("domain.devices.video.type");
    let mut lacks = |path: &str, remedy: String| {
        found.add(&spec.path(path), format!("is not available on {own}"), remedy);
    };
    if spec.value.has("domain.devices.video") && !videos.contains(&video) {
        lacks("domain.devices.video", format!("use one of: {}", videos.join(", ")));
    }
    let absent: &[&str] = match own {
        "arm64" => {
            &["domain.firmware.bootloader.bios", "domain.devices.watchdog", "domain.devices.sound"]
        }
        _ => &["domain.devices.watchdog.i6300esb", "domain.devices.panicDevices"],
    };
    for path in absent.iter().filter(|path| spec.value.has(path)) {
        lacks(path, "remove it".to_owned());
    }
    if own != "arm64" {
        return;
    }
    if !matches!(spec.value.text("domain.cpu.model"), "" | "host-passthrough") {
        lacks("domain.cpu.model", "use host-passthrough".to_owned());
    }
    for (path, disk) in spec.items("domain.devices.disks") {
        for target in ["disk", "cdrom", "lun"] {
            let path = format!("{path}.{target}.bus");
            let bus = disk.text(&format!("{target}.bus"));
            if !matches!(bus, "" | "virtio" | "scsi") {
                let what = format!("is {bus}, which is not available on arm64");
                found.add(&path, what, "use virtio or scsi");
            }
        }
    }
}

fn amd64(spec: &Spec<'_>, found: &mut Found) {
    let video = "domain.devices.video";
    if spec.value.has(video) && spec.value.text("domain.devices.video.type").is_empty() {
        found.add(&spec.path(video), "has no type", "add `type`, such as virtio");
    }
    let path = "domain.devices.watchdog.diag288";
    if spec.value.text("architecture") == "amd64" && spec.value.has(path) {
        found.add(&spec.path(path), "is not available on amd64", "use i6300esb");
    }
}

/// Rules of an instance type (pkg/instancetype/webhooks).
pub fn instancetype(object: &Value, found: &mut Found) {
    let percent = object.number("spec.memory.overcommitPercent");
    if percent > 0 && object.has("spec.memory.hugepages") {
        let what = "is set beside `hugepages`";
        found.add("spec.memory.overcommitPercent", what, "keep one of them");
    }
}

/// Rules of a preference (pkg/instancetype/preference/webhooks).
pub fn preference(object: &Value, found: &mut Found) {
    let Some(spec) = object.at("spec") else { return };
    let spread = matches!(preference::topology(Some(spec)), "spread" | "preferSpread");
    let (ratio, across) = preference::spread(Some(spec));
    if spread && across == "CoresThreads" && ratio != 2 {
        let what = format!("is {ratio}, but a core has 2 threads");
        found.add("spec.cpu.spreadOptions.ratio", what, "use the ratio 2");
    }
}
