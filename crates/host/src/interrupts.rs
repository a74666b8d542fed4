//! Whether interrupts are remapped, and whether VFIO refuses devices because they are not.

use crate::modprobe;
use crate::root::Root;

/// The interrupts of the host, each with its chip.
pub const INTERRUPTS: &str = "proc/interrupts";

/// How much is read of [`INTERRUPTS`] for a hand-over. The first lines are the IO-APIC's: they name the remapped chip if there
/// is one.
const FIRST_LINES: usize = 64 << 10;

/// The most that is read of it: on a large server it has megabytes.
const LONGEST: usize = 16 << 20;

/// The modules with a parameter [`ALLOW`].
const MODULES: [&str; 2] = ["vfio_iommu_type1", "iommufd"];
const ALLOW: &str = "allow_unsafe_interrupts";

/// Whether VFIO refuses every device: interrupts are not remapped, and neither module may go on without that
/// (`vfio_iommu_type1_attach_group` in drivers/vfio/vfio_iommu_type1.c, "No interrupt remapping support";
/// `iommufd_device_bind` in drivers/iommu/iommufd/device.c). False if it is not known.
pub fn are_refused(root: &Root) -> bool {
    let Ok(first) = root.first(INTERRUPTS, FIRST_LINES, LONGEST) else { return false };
    remapping(&String::from_utf8_lossy(&first)) == Some(false) && !are_allowed_unsafe(root)
}

/// Whether a module allows unsafe interrupts, or would if it was loaded: Handover loads it only for a claim.
fn are_allowed_unsafe(root: &Root) -> bool {
    MODULES.iter().any(|module| match allows_unsafe(root, module) {
        Some(allowed) => allowed,
        None => is_configured(root, module),
    })
}

/// The parameter of a loaded module; `None` if it is not loaded.
pub fn allows_unsafe(root: &Root, module: &str) -> Option<bool> {
    flag(&root.text(&format!("sys/module/{module}/parameters/{ALLOW}")).ok()?)
}

/// Whether the kernel's command line or modprobe's configuration sets the parameter.
fn is_configured(root: &Root, module: &str) -> bool {
    let sets = |word: &str| {
        let (option, value) = word.split_once('=').unwrap_or((word, "Y"));
        option == ALLOW && !matches!(value, "0" | "n" | "N" | "off" | "no")
    };
    let same = |name: &str| name.replace('-', "_") == module;
    let cmdline = root.text("proc/cmdline").unwrap_or_default();
    let by_kernel = cmdline
        .split_ascii_whitespace()
        .any(|word| word.split_once('.').is_some_and(|(name, option)| same(name) && sets(option)));
    by_kernel
        || modprobe::lines(root).iter().any(|line| {
            let mut words = line.split_ascii_whitespace();
            words.next() == Some("options") && words.next().is_some_and(same) && words.any(sets)
        })
}

/// Whether interrupt chips are named `IR-...` (`irq_chip.name` in drivers/iommu/{intel,amd}); `None` if there are no
/// x86 chips.
pub fn remapping(text: &str) -> Option<bool> {
    let chips = || text.split_ascii_whitespace();
    if chips().any(|word| word.starts_with("IR-")) {
        return Some(true);
    }
    chips().any(|word| word.contains("PCI-MSI") || word.starts_with("IO-APIC")).then_some(false)
}

/// Parses a boolean kernel parameter.
fn flag(text: &str) -> Option<bool> {
    match text {
        "Y" | "1" => Some(true),
        "N" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_remapped_where_their_chip_says_so() {
        let with = " 24:  0  IR-PCI-MSI-0000:00:1f.2  0-edge  ahci[0000:00:1f.2]";
        let without = "  1:  9  IO-APIC   1-edge  i8042\n 24: 0 PCI-MSIX-0000:00:04.0 0-edge nvme";
        assert_eq!(remapping(with), Some(true));
        assert_eq!(remapping(without), Some(false));
        assert_eq!(remapping(" 11:  1  GICv3  27 Level  arch_timer"), None);
        assert_eq!(remapping(""), None);
    }

    #[test]
    fn vfio_refuses_devices_unless_a_module_allows_them() {
        let unmapped = " 1:  9  IO-APIC   1-edge  i8042\n";
        let type1 = "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
        let iommufd = "sys/module/iommufd/parameters/allow_unsafe_interrupts";
        let conf = "etc/modprobe.d/vfio.conf";
        let option = "options vfio-iommu-type1 allow_unsafe_interrupts=1\n";
        let cases: [(&[(&str, &str)], bool); 8] = [
            (&[], false),
            (&[(INTERRUPTS, " 1: 9 IR-IO-APIC 1-edge i8042\n")], false),
            (&[(INTERRUPTS, unmapped)], true),
            (&[(INTERRUPTS, unmapped), (type1, "N\n"), (iommufd, "N\n")], true),
            (&[(INTERRUPTS, unmapped), (type1, "N\n"), (iommufd, "Y\n")], false),
            (&[(INTERRUPTS, unmapped), (conf, option)], false),
            (&[(INTERRUPTS, unmapped), (conf, option), (type1, "N\n"), (iommufd, "N\n")], true),
            (
                &[
                    (INTERRUPTS, unmapped),
                    ("proc/cmdline", "quiet vfio_iommu_type1.allow_unsafe_interrupts=1\n"),
                ],
                false,
            ),
        ];
        for (files, refused) in cases {
            let place = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = place.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            let root = Root::open(place.path()).unwrap();
            assert_eq!(are_refused(&root), refused, "{files:?}");
        }
    }
}
