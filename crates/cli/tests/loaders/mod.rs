//! The rows of the table of boot loaders in docs/doctor.md.

use crate::hosts::{self, Host};

/// A host for one row of the table.
pub struct Row {
    /// The name in the table.
    pub name: &'static str,
    /// Files; `@` stands for the options in them.
    pub files: &'static [(&'static str, &'static str)],
    /// What the loader told the firmware: variables of the Boot Loader Interface.
    pub said: &'static [(&'static str, &'static str)],
    /// What the doctor's script does.
    pub does: Does,
}

/// What a script does.
pub enum Does {
    /// It edits this file, and calls this program afterwards, if one is needed.
    Edits(&'static str, &'static str),
    /// It adds a line to the first file, and takes options away in the second.
    Appends(&'static str, &'static str, &'static str),
    /// It calls programs: to add, and to replace.
    Calls(&'static str, &'static [&'static str]),
    /// It calls a program to add; other changes are made by hand, as these words say.
    Adds(&'static str, &'static str),
    /// Nothing: the words say what to do.
    Words(&'static str),
}

use Does::{Adds, Appends, Calls, Edits, Words};

pub const GRUB: (&str, &str) =
    ("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"@\"\nGRUB_TIMEOUT=5\n");
const CMDLINE: (&str, &str) = ("etc/kernel/cmdline", "root=/dev/sda1 @\n");
const SYSTEMD: &[(&str, &str)] = &[("LoaderInfo", "systemd-boot 257.7")];
const IMAGE: (&str, &str) = ("efi/EFI/Linux/linux.efi", "");
const UNIFIED: &[(&str, &str)] =
    &[("LoaderInfo", "systemd-boot 257.7"), ("LoaderEntrySelected", "linux.efi")];
pub const INSTALLED: (&str, &str) = (
    "boot/loader/entries/0123-6.12.conf",
    "# Boot Loader Specification type#1 entry\n# File created by /usr/lib/kernel/install.d/90-loaderentry.install\n\
     title Linux\noptions root=/dev/sda1 @\n",
);
const PRESET: (&str, &str) = (
    "etc/mkinitcpio.d/linux.preset",
    "PRESETS=('default')\ndefault_uki=\"/efi/EFI/Linux/linux.efi\"\n",
);
const UUIDS: (&str, &str) = ("etc/kernel/proxmox-boot-uuids", "5FD5-32B8\n");
const OSTREE: (&str, &str) = ("run/ostree-booted", "");
const BLS: (&str, &str) =
    ("boot/loader/entries/ostree-1.conf", "options root=UUID=x ostree=/ostree/boot.1/x/0\n");

pub const ROWS: &[Row] = &[
    Row {
        name: "GRUB of Debian and Ubuntu",
        files: &[GRUB, ("usr/sbin/update-grub", "")],
        said: &[],
        does: Appends("etc/default/grub.d/zz-handover.cfg", "etc/default/grub", "update-grub"),
    },
    Row {
        name: "GRUB of Fedora and derivatives",
        files: &[GRUB, ("usr/sbin/grubby", "")],
        said: &[],
        does: Calls(
            "grubby --update-kernel=ALL --args=intel_iommu=on",
            &[
                "grubby --update-kernel=ALL --remove-args=intel_iommu=strict,off",
                "grubby --update-kernel=ALL --args=intel_iommu=strict",
            ],
        ),
    },
    Row {
        name: "the same without grubby",
        files: &[
            ("etc/default/grub", "GRUB_CMDLINE_LINUX=\"@\"\nGRUB_ENABLE_BLSCFG=true\n"),
            ("usr/sbin/grub2-mkconfig", ""),
            ("boot/loader/entries/a.conf", "options @\n"),
        ],
        said: &[],
        does: Words("install grubby"),
    },
    Row {
        name: "GRUB of Arch and others",
        files: &[GRUB, ("usr/bin/grub-mkconfig", "")],
        said: &[],
        does: Appends("etc/default/grub", "etc/default/grub", "grub-mkconfig -o "),
    },
    Row {
        name: "GRUB of openSUSE and others",
        files: &[GRUB, ("usr/sbin/grub2-mkconfig", "")],
        said: &[("LoaderInfo", "GRUB 2.14")],
        does: Appends("etc/default/grub", "etc/default/grub", "grub2-mkconfig -o "),
    },
    Row {
        name: "systemd-boot with your own entries",
        files: &[GRUB, ("efi/loader/entries/arch.conf", "title Arch\noptions root=/dev/sda1 @\n")],
        said: &[("LoaderInfo", "systemd-boot 257.7"), ("LoaderEntrySelected", "arch.conf")],
        does: Edits("efi/loader/entries/arch.conf", ""),
    },
    Row {
        name: "systemd-boot with entries of kernel-install",
        files: &[INSTALLED, CMDLINE],
        said: SYSTEMD,
        does: Edits("etc/kernel/cmdline", "kernel-install add 6.12.43-generic"),
    },
    Row {
        name: "unified images of kernel-install and ukify",
        files: &[
            IMAGE,
            CMDLINE,
            ("etc/kernel/install.conf", "layout=uki\n"),
            ("usr/bin/mkinitcpio", ""),
            ("etc/cmdline.d/unused.conf", "quiet\n"),
        ],
        said: UNIFIED,
        does: Edits("etc/kernel/cmdline", "kernel-install add 6.12.43-generic"),
    },
    Row {
        name: "unified images of mkinitcpio, with drop-ins",
        files: &[
            IMAGE,
            PRESET,
            ("usr/bin/mkinitcpio", ""),
            ("etc/cmdline.d/root.conf", "root=/dev/sda1 @\n"),
        ],
        said: SYSTEMD,
        does: Appends("etc/cmdline.d/handover.conf", "etc/cmdline.d/root.conf", "mkinitcpio -P"),
    },
    Row {
        name: "unified images of mkinitcpio",
        files: &[IMAGE, PRESET, ("usr/bin/mkinitcpio", ""), CMDLINE],
        said: &[("StubInfo", "systemd-stub 257.7")],
        does: Edits("etc/kernel/cmdline", "mkinitcpio -P"),
    },
    Row {
        name: "unified images of dracut",
        files: &[
            IMAGE,
            ("usr/bin/dracut", ""),
            ("etc/dracut.conf.d/uki.conf", "uefi=\"yes\"\nkernel_cmdline=\"root=/dev/sda1 @\"\n"),
        ],
        said: UNIFIED,
        does: Appends(
            "etc/dracut.conf.d/zz-handover.conf",
            "etc/dracut.conf.d/uki.conf",
            "dracut --force --regenerate-all",
        ),
    },
    Row {
        name: "systemd-boot or GRUB with sdbootutil",
        files: &[CMDLINE, ("usr/bin/sdbootutil", "")],
        said: SYSTEMD,
        does: Edits("etc/kernel/cmdline", "sdbootutil update-all-entries"),
    },
    Row {
        name: "systemd-boot with sdboot-manage",
        files: &[
            ("etc/sdboot-manage.conf", "# LINUX_OPTIONS=\"\"\nLINUX_OPTIONS=\"@\"\n"),
            ("usr/bin/sdboot-manage", ""),
            ("boot/loader/entries/a.conf", "options @\n"),
        ],
        said: SYSTEMD,
        does: Appends("etc/sdboot-manage.conf", "etc/sdboot-manage.conf", "sdboot-manage gen"),
    },
    Row {
        name: "systemd-boot of Pop!_OS",
        files: &[
            ("usr/bin/kernelstub", ""),
            ("boot/efi/loader/entries/Pop_OS-current.conf", "options @\n"),
        ],
        said: SYSTEMD,
        does: Calls(
            "kernelstub --add-options intel_iommu=on",
            &[
                "kernelstub --delete-options intel_iommu=strict,off",
                "kernelstub --add-options intel_iommu=strict",
            ],
        ),
    },
    Row {
        name: "systemd-boot of Solus",
        files: &[("usr/bin/clr-boot-manager", ""), ("etc/kernel/cmdline", "@\n")],
        said: SYSTEMD,
        does: Appends(
            "etc/kernel/cmdline.d/handover.conf",
            "etc/kernel/cmdline",
            "clr-boot-manager update",
        ),
    },
    Row {
        name: "systemd-boot or unified images of another program",
        files: &[IMAGE, GRUB, ("boot/loader/entries/a.conf", "# autogenerated\noptions @\n")],
        said: SYSTEMD,
        does: Words("not in these"),
    },
    Row {
        name: "Limine with limine-update",
        files: &[
            GRUB,
            ("usr/bin/grub-mkconfig", ""),
            ("etc/default/limine", "KERNEL_CMDLINE[default]+=\"@\"\n"),
        ],
        said: &[("LoaderInfo", "Limine 9.3.0")],
        does: Appends("etc/default/limine", "etc/default/limine", "limine-update"),
    },
    Row {
        name: "Limine",
        files: &[GRUB, ("usr/bin/grub-mkconfig", "")],
        said: &[("LoaderInfo", "Limine 9.3.0")],
        does: Words("limine.conf"),
    },
    Row {
        name: "rEFInd with refind_linux.conf",
        files: &[
            GRUB,
            ("boot/refind_linux.conf", "\"Boot with standard options\"  \"root=/dev/sda1 @\"\n"),
        ],
        said: &[("LoaderInfo", "rEFInd 0.14.2")],
        does: Edits("boot/refind_linux.conf", ""),
    },
    Row {
        name: "rEFInd",
        files: &[GRUB],
        said: &[("LoaderInfo", "rEFInd 0.14.2")],
        does: Words("refind.conf"),
    },
    Row {
        name: "GRUB that rEFInd started",
        files: &[
            GRUB,
            ("usr/sbin/update-grub", ""),
            ("boot/refind_linux.conf", "\"Boot with standard options\"  \"root=/dev/sda1 @\"\n"),
        ],
        said: &[("LoaderInfo", "rEFInd 0.14.2")],
        does: Appends("etc/default/grub.d/zz-handover.cfg", "etc/default/grub", "update-grub"),
    },
    Row {
        name: "another loader, such as ZFSBootMenu",
        files: &[GRUB, ("usr/sbin/update-grub", "")],
        said: &[("LoaderInfo", "ZFSBootMenu 3.0")],
        does: Words("not recognized"),
    },
    Row {
        name: "image-based Fedora",
        files: &[OSTREE, BLS, GRUB, ("usr/bin/rpm-ostree", ""), ("usr/bin/bootc", "")],
        said: &[],
        does: Calls(
            "rpm-ostree kargs --append-if-missing=intel_iommu=on",
            &[
                "rpm-ostree kargs --delete-if-present=intel_iommu=strict,off",
                "rpm-ostree kargs --append-if-missing=intel_iommu=strict",
            ],
        ),
    },
    Row {
        name: "bootc",
        files: &[
            OSTREE,
            BLS,
            GRUB,
            ("usr/bin/bootc", ""),
            ("usr/bin/ostree", ""),
            ("usr/sbin/grubby", ""),
        ],
        said: &[],
        does: Adds(
            "ostree admin kargs edit-in-place --append-if-missing=intel_iommu=on",
            "/usr/lib/bootc/kargs.d",
        ),
    },
    Row {
        name: "other systems with OSTree",
        files: &[OSTREE, BLS, ("usr/bin/ostree", "")],
        said: &[],
        does: Adds(
            "ostree admin kargs edit-in-place --append-if-missing=intel_iommu=on",
            "ostree admin instutil set-kargs",
        ),
    },
    Row {
        name: "Proxmox with proxmox-boot-tool and systemd-boot",
        files: &[UUIDS, CMDLINE, GRUB, ("usr/sbin/update-grub", "")],
        said: SYSTEMD,
        does: Edits("etc/kernel/cmdline", "proxmox-boot-tool refresh"),
    },
    Row {
        name: "Proxmox with proxmox-boot-tool and GRUB",
        files: &[UUIDS, CMDLINE, GRUB, ("usr/sbin/update-grub", ""), BOOT_CURRENT],
        said: &[],
        does: Appends(
            "etc/default/grub.d/zz-handover.cfg",
            "etc/default/grub",
            "proxmox-boot-tool refresh",
        ),
    },
    Row {
        name: "Proxmox without proxmox-boot-tool",
        files: &[GRUB, ("usr/sbin/update-grub", ""), ("usr/sbin/proxmox-boot-tool", "")],
        said: &[],
        does: Appends("etc/default/grub.d/zz-handover.cfg", "etc/default/grub", "update-grub"),
    },
    Row {
        name: "NixOS",
        files: &[("etc/NIXOS", ""), ("boot/loader/entries/nixos-generation-1.conf", "options @\n")],
        said: SYSTEMD,
        does: Words("boot.kernelParams"),
    },
    Row {
        name: "Unraid",
        files: &[
            ("etc/unraid-version", "version=\"7.1.4\"\n"),
            (
                "boot/syslinux/syslinux.cfg",
                "label Unraid OS\n  kernel /bzimage\n  append @ initrd=/bzroot\n",
            ),
        ],
        said: &[],
        does: Edits("boot/syslinux/syslinux.cfg", ""),
    },
    Row {
        name: "Unraid without that file",
        files: &[("etc/unraid-version", "version=\"7.3\"\n"), ("boot/grub/grub.cfg", "")],
        said: &[],
        does: Words("Unraid's page Main"),
    },
    Row {
        name: "extlinux of Alpine",
        files: &[
            ("etc/update-extlinux.conf", "overwrite=1\ndefault_kernel_opts=\"@\"\n"),
            ("sbin/update-extlinux", ""),
            ("boot/extlinux.conf", "# Generated by update-extlinux 6.04\nAPPEND @\n"),
        ],
        said: &[],
        does: Appends("etc/update-extlinux.conf", "etc/update-extlinux.conf", "update-extlinux"),
    },
    Row {
        name: "U-Boot of Debian",
        files: &[
            ("etc/default/u-boot", "U_BOOT_PARAMETERS=\"ro @\"\n"),
            ("usr/sbin/u-boot-update", ""),
            ("boot/extlinux/extlinux.conf", "## IMPORTANT: do not edit\nappend @\n"),
        ],
        said: &[],
        does: Appends("etc/default/u-boot", "etc/default/u-boot", "u-boot-update"),
    },
    Row {
        name: "Syslinux, extlinux, and U-Boot of Jetson",
        files: &[("boot/extlinux/extlinux.conf", "LABEL primary\n      APPEND ${cbootargs} @\n")],
        said: &[],
        does: Edits("boot/extlinux/extlinux.conf", ""),
    },
    Row {
        name: "Raspberry Pi",
        files: &[
            ("boot/firmware/cmdline.txt", "console=tty1 @\n"),
            ("boot/firmware/config.txt", ""),
            ("boot/cmdline.txt", "DO NOT EDIT THIS FILE\n"),
            ("boot/config.txt", ""),
        ],
        said: &[],
        does: Edits("boot/firmware/cmdline.txt", ""),
    },
    Row {
        name: "Xen with GRUB",
        files: &[GRUB, ("usr/sbin/update-grub", ""), ("proc/xen/capabilities", "control_d\n")],
        said: &[],
        does: Words("GRUB_CMDLINE_XEN_DEFAULT"),
    },
    Row {
        name: "XCP-ng and XenServer",
        files: &[("opt/xensource/libexec/xen-cmdline", ""), GRUB],
        said: &[],
        does: Calls(
            "xen-cmdline --set-dom0 intel_iommu=on",
            &["xen-cmdline --delete-dom0 intel_iommu", "xen-cmdline --set-dom0 intel_iommu=strict"],
        ),
    },
    Row { name: "not known", files: &[], said: &[], does: Words("not recognized") },
];

const BOOT_CURRENT: (&str, &str) = (
    "sys/firmware/efi/efivars/BootCurrent-8be4df61-93ca-11d2-aa0d-00e098032b8c",
    "\u{6}\0\0\0\0\0",
);

impl Row {
    /// The host, which was booted with these options.
    pub fn host(&self, options: &str) -> Host {
        let host = hosts::without_loader();
        for (path, text) in self.files {
            host.file(path, &text.replace('@', options));
        }
        for (name, text) in self.said {
            host.variable(name, text);
        }
        // GRUB tells the kernel its image; rEFInd does not.
        let image = if self.name.starts_with("rEFInd") { "" } else { "BOOT_IMAGE=/vmlinuz " };
        host.file("proc/cmdline", &format!("{image}root=/dev/sda1 {options}\n"));
        host
    }
}
