//! No host makes the doctor panic.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn any_platform()(
        texts in proptest::collection::vec("[ -~]{0,40}", 8),
        numbers in proptest::collection::vec(any::<u64>(), 4),
        flags in proptest::collection::vec(any::<bool>(), 10),
        loader in 0..30_usize,
        tool in 0..4_usize,
    ) -> Platform {
        let file = || texts[5].clone();
        let loaders = [
            BootLoader::GrubDebian, BootLoader::GrubFedora, BootLoader::GrubBls, BootLoader::Grub, BootLoader::Grub2,
            BootLoader::Entries { directory: file() }, BootLoader::KernelInstall { file: flags[6] },
            BootLoader::Mkinitcpio { drop_ins: flags[6], file: flags[7] }, BootLoader::Dracut, BootLoader::Sdbootutil,
            BootLoader::SdbootManage,
            BootLoader::Kernelstub, BootLoader::ClrBootManager, BootLoader::SystemdBoot,
            BootLoader::Limine { tool: flags[6] }, BootLoader::Refind { file: flags[6] }, BootLoader::RpmOstree,
            BootLoader::Bootc { ostree: flags[6] }, BootLoader::Ostree { ostree: flags[6] }, BootLoader::Proxmox,
            BootLoader::ProxmoxGrub,
            BootLoader::Nixos, BootLoader::Unraid { file: flags[6] }, BootLoader::UpdateExtlinux,
            BootLoader::UBootMenu, BootLoader::Syslinux { file: file() }, BootLoader::RaspberryPi { file: file() },
            BootLoader::XcpNg, BootLoader::Unknown,
        ];
        let tools = [
            InitramfsTool::InitramfsTools, InitramfsTool::Dracut, InitramfsTool::Mkinitcpio,
            InitramfsTool::Unknown,
        ];
        let text = |n: usize| texts[n].clone();
        let module = Module { loaded: flags[0], available: flags[1], blacklisted: vec![text(0)], version: None };
        let framebuffer = Framebuffer { name: text(1), start: numbers[0], end: numbers[1] };
        Platform {
            kernel: Some(text(2)),
            cmdline: Some(text(3)),
            cpu: Cpu { vendor: text(4), ..Default::default() },
            firmware: FirmwareTables { dmar: flags[2], ivrs: flags[3], ..Default::default() },
            interrupt_remapping: Some(flags[4]),
            unsafe_interrupts: Some(flags[5]),
            iommufd_unsafe_interrupts: Some(flags[0]),
            modules: BTreeMap::from([("vfio_pci".into(), module)]),
            boot_loader: loaders[loader % loaders.len()].clone(),
            xen_dom0: flags[8],
            initramfs: tools[tool],
            framebuffers: vec![framebuffer],
            huge_pages: vec![HugePages { size: numbers[2], total: numbers[3], free: 0 }],
            memlock_limit: flags[7].then_some(numbers[0]),
            memory: numbers[1],
            tools: BTreeMap::from([("qemu-kvm".into(), Tool { path: text(6), version: Some(text(7)) })]),
            unseen: vec![text(0)],
            ..Platform::default()
        }
    }
}

proptest! {
    #[test]
    fn no_host_makes_the_doctor_panic(platform in any_platform()) {
        let host = Host { platform, ..Host::good() };
        let patient = Patient { inventory: &host.inventory, holders: &[], platform: &host.platform, own: &crate::OwnState::default() };
        let verdict = examine(patient, None);
        let script = remedy::script(&verdict);
        prop_assert!(script.starts_with("#!/bin/sh\n"));
        let sorted = verdict.findings.is_sorted_by_key(|one| std::cmp::Reverse(one.severity));
        prop_assert!(sorted);
    }
}
