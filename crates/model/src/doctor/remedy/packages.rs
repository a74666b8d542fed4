//! Packages by their names in each distribution.

use super::super::{BootLoader, Platform, Remedy};
use super::shell::quoted;

/// What a package provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// QEMU for machines with devices.
    Qemu,
    /// UEFI firmware for machines.
    Ovmf,
    /// The network of machines.
    Passt,
    /// The TPM of machines.
    Swtpm,
    /// Kernel modules that a minimal kernel package leaves out.
    KernelModules,
}

/// Families of distributions with the same package names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Debian,
    Ubuntu,
    Proxmox,
    Fedora,
    Arch,
    Suse,
}

/// Installs a package with the system's package manager.
#[must_use]
pub fn install(platform: &Platform, package: Package) -> Remedy {
    let what = match package {
        Package::Qemu => "QEMU",
        Package::Ovmf => "OVMF",
        Package::Passt => "passt",
        Package::Swtpm => "swtpm",
        Package::KernelModules => "the kernel modules with vfio-pci",
    };
    let words = format!("install {what}");
    let Some(family) = family(platform) else {
        return Remedy::words(format!("{words} from your distribution's packages"));
    };
    let Some(name) = name(platform, family, package) else {
        return Remedy::words(format!("{words}: boot a kernel that has CONFIG_VFIO_PCI"));
    };
    match platform.boot_loader {
        BootLoader::RpmOstree => {
            let commands = vec![format!("rpm-ostree install --idempotent {}", quoted(&name))];
            return Remedy { words, commands, reboot: true };
        }
        BootLoader::Bootc { .. } | BootLoader::Ostree { .. } => {
            return Remedy::words(format!("{words}: add {name} to the system's image"));
        }
        _ => {}
    }
    let tool = match family {
        Family::Debian | Family::Ubuntu | Family::Proxmox => "apt-get install -y",
        Family::Fedora => "dnf install -y",
        Family::Arch => "pacman -S --needed --noconfirm",
        Family::Suse => "zypper --non-interactive install",
    };
    Remedy { words, commands: vec![format!("{tool} {}", quoted(&name))], reboot: false }
}

fn family(platform: &Platform) -> Option<Family> {
    let distribution = platform.distribution.as_deref()?;
    let name = distribution.split(' ').next()?;
    if platform.kernel.as_deref().is_some_and(|kernel| kernel.contains("-pve")) {
        return Some(Family::Proxmox);
    }
    match name {
        "debian" | "raspbian" | "devuan" => Some(Family::Debian),
        "ubuntu" | "linuxmint" | "pop" => Some(Family::Ubuntu),
        "fedora" | "rhel" | "centos" | "rocky" | "almalinux" | "ol" => Some(Family::Fedora),
        "arch" | "manjaro" | "endeavouros" | "cachyos" => Some(Family::Arch),
        name if name.contains("suse") || name == "sles" => Some(Family::Suse),
        _ => None,
    }
}

fn name(platform: &Platform, family: Family, package: Package) -> Option<String> {
    let name = match (package, family) {
        (Package::Qemu, Family::Debian | Family::Ubuntu) => "qemu-system-x86",
        (Package::Qemu, Family::Proxmox) => "pve-qemu-kvm",
        (Package::Qemu, Family::Fedora) => "qemu-kvm",
        (Package::Qemu, Family::Arch) => "qemu-base",
        (Package::Qemu, Family::Suse) => "qemu-x86",
        (Package::Ovmf, Family::Debian | Family::Ubuntu) => "ovmf",
        (Package::Ovmf, Family::Proxmox) => "pve-edk2-firmware-ovmf",
        (Package::Ovmf, Family::Fedora | Family::Arch) => "edk2-ovmf",
        (Package::Ovmf, Family::Suse) => "qemu-ovmf-x86_64",
        (Package::Passt, _) => "passt",
        (Package::Swtpm, _) => "swtpm",
        (Package::KernelModules, Family::Ubuntu) => {
            return platform.kernel.as_ref().map(|kernel| format!("linux-modules-extra-{kernel}"));
        }
        (Package::KernelModules, Family::Fedora) => "kernel-modules",
        // Debian's `-cloud` kernels have no vfio-pci; the others, as those of other distributions, have all modules.
        (Package::KernelModules, Family::Debian)
            if platform.kernel.as_deref().is_some_and(|kernel| kernel.ends_with("cloud-amd64")) =>
        {
            "linux-image-amd64"
        }
        (Package::KernelModules, _) => return None,
    };
    Some(name.to_owned())
}
