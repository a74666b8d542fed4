//! Where the options of the kernel are set.

use serde::{Deserialize, Serialize};

/// How a system is booted: which file or tool sets the options of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootLoader {
    /// GRUB of Debian and Ubuntu: `/etc/default/grub.d` and `update-grub`.
    GrubDebian,
    /// GRUB of the Fedora family, with entries that `grubby` edits.
    GrubFedora,
    /// GRUB with entries of the Boot Loader Specification, without `grubby`.
    GrubBls,
    /// GRUB with `/etc/default/grub` and `grub-mkconfig` (Arch and others).
    Grub,
    /// The same with `grub2-mkconfig` (openSUSE and others).
    Grub2,
    /// systemd-boot with entries that no program writes.
    Entries {
        /// Their directory, such as `/boot/loader/entries`.
        directory: String,
    },
    /// systemd-boot with entries or unified images that kernel-install writes, from `/etc/kernel/cmdline`.
    KernelInstall {
        /// Whether that file exists; else kernel-install takes the options of the running kernel.
        file: bool,
    },
    /// Unified images that mkinitcpio builds, as its presets say.
    Mkinitcpio {
        /// Whether `/etc/cmdline.d` has files.
        drop_ins: bool,
        /// Whether `/etc/kernel/cmdline` exists.
        file: bool,
    },
    /// Unified images that dracut builds, with `kernel_cmdline` of its configuration.
    Dracut,
    /// openSUSE's `sdbootutil`, with `/etc/kernel/cmdline`.
    Sdbootutil,
    /// `sdboot-manage` of CachyOS and others, with `/etc/sdboot-manage.conf`.
    SdbootManage,
    /// Pop!_OS's `kernelstub`.
    Kernelstub,
    /// Solus's and Clear Linux's `clr-boot-manager`, with `/etc/kernel/cmdline.d`.
    ClrBootManager,
    /// systemd-boot or a unified image, with a command line from an unknown place.
    SystemdBoot,
    /// Limine.
    Limine {
        /// Whether its entries are written by `limine-update` from `/etc/default/limine`.
        tool: bool,
    },
    /// rEFInd.
    Refind {
        /// Whether there is a `/boot/refind_linux.conf`.
        file: bool,
    },
    /// An image-based Fedora: `rpm-ostree kargs`.
    RpmOstree,
    /// An image-based system with bootc.
    Bootc {
        /// Whether `ostree` is there.
        ostree: bool,
    },
    /// Another image-based system with OSTree.
    Ostree {
        /// Whether `ostree` is there.
        ostree: bool,
    },
    /// Proxmox with systemd-boot: `/etc/kernel/cmdline` and `proxmox-boot-tool refresh`.
    Proxmox,
    /// Proxmox with GRUB on several partitions: `/etc/default/grub.d` and `proxmox-boot-tool refresh`.
    ProxmoxGrub,
    /// NixOS: the options are a part of its configuration.
    Nixos,
    /// Unraid: Syslinux on its stick, mounted on `/boot`.
    Unraid {
        /// Whether there is a `/boot/syslinux/syslinux.cfg`.
        file: bool,
    },
    /// Alpine's `update-extlinux`.
    UpdateExtlinux,
    /// Debian's `u-boot-update`.
    UBootMenu,
    /// Syslinux, extlinux, or U-Boot with a file of that format, which no program writes.
    Syslinux {
        /// Its file, such as `/boot/extlinux/extlinux.conf`.
        file: String,
    },
    /// The firmware of a Raspberry Pi.
    RaspberryPi {
        /// Its file, such as `/boot/firmware/cmdline.txt`.
        file: String,
    },
    /// XCP-ng and XenServer: `xen-cmdline`.
    XcpNg,
    /// Not known.
    #[default]
    Unknown,
}

impl BootLoader {
    /// Whether the system, with its initial ramdisk, is an image that tools on the host cannot change.
    #[must_use]
    pub const fn is_image(&self) -> bool {
        matches!(self, Self::RpmOstree | Self::Bootc { .. } | Self::Ostree { .. })
    }
}
