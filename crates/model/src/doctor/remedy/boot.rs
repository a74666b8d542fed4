//! Options on the kernel's command line: where they are set, for each boot loader.
//!
//! A file that a program writes is never edited: its source is, and then the program runs. Where the source is not known,
//! the remedy is in words.

use super::super::{BootLoader, InitramfsTool, Platform, Remedy};
use super::rebuild_initramfs;
use super::shell::{Lines, append_line, quoted};

/// Debian's and Ubuntu's grub-mkconfig sources these files after `/etc/default/grub`, in the order of their names: ours comes
/// last, so that no other sets the variable again. Options are taken out of all of them, also of `handover.cfg`, which earlier
/// versions wrote.
const GRUB_DROP_IN: &str = "/etc/default/grub.d/zz-handover.cfg";
const GRUB_FILE: &str = "/etc/default/grub";
/// One line, the whole command line (kernel-install(8)).
const CMDLINE_FILE: &str = "/etc/kernel/cmdline";
const CMDLINE_DROP_IN: &str = "/etc/cmdline.d/handover.conf";
const CLEAR_DROP_IN: &str = "/etc/kernel/cmdline.d/handover.conf";
/// Read after the others, so that none of them sets the variable again (dracut.conf(5)).
const DRACUT_DROP_IN: &str = "/etc/dracut.conf.d/zz-handover.conf";
const LIMINE_FILE: &str = "/etc/default/limine";
const REFIND_FILE: &str = "/boot/refind_linux.conf";
const EXTLINUX_FILE: &str = "/etc/update-extlinux.conf";
const U_BOOT_FILE: &str = "/etc/default/u-boot";
const UNRAID_FILE: &str = "/boot/syslinux/syslinux.cfg";
const XEN_CMDLINE: &str = "/opt/xensource/libexec/xen-cmdline";

const SDBOOT_FILE: &str = "/etc/sdboot-manage.conf";

/// Syslinux ignores the case of its keys.
const APPEND: &str = "(append|APPEND|Append)";

const UPDATE_GRUB: &str = "update-grub";
const GRUB_MKCONFIG: &str = "grub-mkconfig -o /boot/grub/grub.cfg";
const GRUB2_MKCONFIG: &str = "grub2-mkconfig -o /boot/grub2/grub.cfg";
const PROXMOX_REFRESH: &str = "proxmox-boot-tool refresh";
const MKINITCPIO: &str = "mkinitcpio -P";
const DRACUT: &str = "dracut --force --regenerate-all";
const LIMINE_UPDATE: &str = "limine-update";
const SDBOOT_MANAGE: &str = "sdboot-manage gen";
const SDBOOTUTIL: &str = "sdbootutil update-all-entries";
const CLR_BOOT_MANAGER: &str = "clr-boot-manager update";
const UPDATE_EXTLINUX: &str = "update-extlinux";
const U_BOOT_UPDATE: &str = "u-boot-update";
/// Rewrites the entries of all kernels with the command line of `/etc/kernel/cmdline`.
const KERNEL_INSTALL: &str = "made=
for modules in /lib/modules/*; do
    version=${modules##*/}
    for image in \"$modules/vmlinuz\" \"/boot/vmlinuz-$version\"; do
        [ ! -f \"$image\" ] || { kernel-install add \"$version\" \"$image\"; made=1; break; }
    done
done
[ \"$made\" ] || { echo 'no kernel found in /lib/modules and /boot: no entry was written' >&2; false; }";
/// Without the file, kernel-install takes the options of the running kernel, without those of the loader
/// (90-loaderentry.install).
const WRITE_CMDLINE: &str = "mkdir -p /etc/kernel
[ -s /etc/kernel/cmdline ] || tr -s ' ' '\\n' < /proc/cmdline | grep -v -e '^BOOT_IMAGE=' -e '^initrd=' | tr '\\n' ' ' > /etc/kernel/cmdline.new
[ ! -s /etc/kernel/cmdline.new ] || mv -f /etc/kernel/cmdline.new /etc/kernel/cmdline";

/// Commands that make edits of the command line effective at the next boot.
pub(super) const REBUILDS: [&str; 11] = [
    UPDATE_GRUB,
    GRUB_MKCONFIG,
    GRUB2_MKCONFIG,
    PROXMOX_REFRESH,
    KERNEL_INSTALL,
    LIMINE_UPDATE,
    SDBOOT_MANAGE,
    SDBOOTUTIL,
    CLR_BOOT_MANAGER,
    UPDATE_EXTLINUX,
    U_BOOT_UPDATE,
];

/// A change of the command line.
#[derive(Clone, Copy)]
enum Change<'a> {
    /// This option is added.
    Add(&'a str),
    /// This option is taken away; with any value, if none is given.
    Take(&'a str),
    /// The first option becomes the second.
    Replace(&'a str, &'a str),
}

impl Change<'_> {
    /// Whether the options can be in a command: they may come from the host's command line.
    fn is_plain(self) -> bool {
        let plain = |option: &str| option.chars().all(|c| c.is_ascii_graphic());
        match self {
            Self::Add(option) | Self::Take(option) => plain(option),
            Self::Replace(old, new) => plain(old) && plain(new),
        }
    }
}

/// Adds an option, such as `intel_iommu=on`, to the kernel's command line.
#[must_use]
pub fn kernel_option(platform: &Platform, option: &str) -> Remedy {
    let words = format!("boot with {option} on the kernel's command line");
    remedy(platform, words, Change::Add(option))
}

/// Removes an option from the kernel's command line, with any value if none is given: `pcie_acs_override` or
/// `amd_iommu=off`.
#[must_use]
pub fn without_kernel_option(platform: &Platform, option: &str) -> Remedy {
    let words = format!("boot without {option} on the kernel's command line");
    remedy(platform, words, Change::Take(option))
}

/// Replaces an option on the kernel's command line: `amd_iommu=fullflush,off` by `amd_iommu=fullflush`.
#[must_use]
pub fn other_kernel_option(platform: &Platform, old: &str, new: &str) -> Remedy {
    let words = format!("boot with {new} instead of {old} on the kernel's command line");
    remedy(platform, words, Change::Replace(old, new))
}

/// The command that makes edits of the command line effective, if one is needed.
pub(super) fn rebuild_loader(platform: &Platform) -> Option<&'static str> {
    match way(platform, Change::Add("quiet")) {
        Way::Commands(_, rebuild) => rebuild,
        Way::ByHand(_) => None,
    }
}

/// The command that rebuilds the initial ramdisks, with which the system boots.
pub(super) fn rebuild_ramdisk(platform: &Platform) -> Option<&'static str> {
    match (&platform.boot_loader, platform.initramfs) {
        (loader, _) if loader.is_image() => None,
        // Its plugin for dracut writes the ramdisk beside the entry, where dracut alone does not look for it.
        (BootLoader::KernelInstall { .. }, InitramfsTool::Dracut) => Some(KERNEL_INSTALL),
        (_, tool) => rebuild_initramfs(tool),
    }
}

fn remedy(platform: &Platform, words: String, change: Change<'_>) -> Remedy {
    let way = if change.is_plain() {
        way(platform, change)
    } else {
        Way::ByHand("the option has unusual characters, so no command is given for it".into())
    };
    match way {
        Way::Commands(commands, rebuild) => {
            let rebuild = rebuild.map(str::to_owned);
            let commands = commands.into_iter().chain(rebuild).collect();
            Remedy { words, commands, reboot: true }
        }
        Way::ByHand(how) => {
            Remedy { words: format!("{words}: {how}"), commands: Vec::new(), reboot: true }
        }
    }
}

/// How a change is made.
enum Way {
    /// By commands, and then one that makes them effective.
    Commands(Vec<String>, Option<&'static str>),
    /// By hand, as the words say.
    ByHand(String),
}

fn way(platform: &Platform, change: Change<'_>) -> Way {
    use BootLoader as B;
    let all = Way::Commands;
    match &platform.boot_loader {
        B::GrubDebian => all(grub(GRUB_DROP_IN, change), Some(UPDATE_GRUB)),
        // `update-grub` alone does not write to the partitions that boot.
        B::ProxmoxGrub => all(grub(GRUB_DROP_IN, change), Some(PROXMOX_REFRESH)),
        B::Grub => all(grub(GRUB_FILE, change), Some(GRUB_MKCONFIG)),
        B::Grub2 => all(grub(GRUB_FILE, change), Some(GRUB2_MKCONFIG)),
        B::Entries { directory } => {
            let files = format!("{}/*.conf", quoted(directory));
            all(vec![edit(&Lines::after_key(&files, "options"), change)], None)
        }
        B::KernelInstall { file } => {
            let write = (!file).then(|| WRITE_CMDLINE.to_owned());
            let edit = edit(&Lines::first(CMDLINE_FILE), change);
            all(write.into_iter().chain([edit]).collect(), Some(KERNEL_INSTALL))
        }
        B::Mkinitcpio { drop_ins, file } => {
            all(mkinitcpio(*drop_ins, *file, change), Some(MKINITCPIO))
        }
        B::Dracut => all(vec![dracut(change)], Some(DRACUT)),
        B::Sdbootutil => all(vec![edit(&Lines::first(CMDLINE_FILE), change)], Some(SDBOOTUTIL)),
        B::Proxmox => all(vec![edit(&Lines::first(CMDLINE_FILE), change)], Some(PROXMOX_REFRESH)),
        B::SdbootManage => {
            all(vec![sourced(SDBOOT_FILE, "LINUX_OPTIONS", "", change)], Some(SDBOOT_MANAGE))
        }
        B::ClrBootManager => clear(change),
        B::Limine { tool: true } => all(vec![limine(change)], Some(LIMINE_UPDATE)),
        B::Refind { file: true } => all(
            vec![edit(&Lines::last_quoted(REFIND_FILE, "\"[^\"]*\"[[:space:]]+"), change)],
            None,
        ),
        B::Unraid { file: true } => {
            all(vec![edit(&Lines::after_key(UNRAID_FILE, APPEND), change)], None)
        }
        B::UpdateExtlinux => all(
            vec![sourced(EXTLINUX_FILE, "default_kernel_opts", "", change)],
            Some(UPDATE_EXTLINUX),
        ),
        B::UBootMenu => {
            // Its default is lost if the variable is set.
            let command = sourced(U_BOOT_FILE, "U_BOOT_PARAMETERS", "ro quiet", change);
            all(vec![command], Some(U_BOOT_UPDATE))
        }
        B::Syslinux { file } => {
            all(vec![edit(&Lines::after_key(&quoted(file), APPEND), change)], None)
        }
        B::RaspberryPi { file } => all(vec![edit(&Lines::first(&quoted(file)), change)], None),
        B::GrubFedora | B::RpmOstree | B::Kernelstub | B::XcpNg => {
            all(by_tool(platform, change), None)
        }
        B::Bootc { ostree } | B::Ostree { ostree } => image(&platform.boot_loader, *ostree, change),
        other => Way::ByHand(by_hand(other).to_owned()),
    }
}

/// Where the options are, for systems on which no command sets them.
const fn by_hand(loader: &BootLoader) -> &'static str {
    match loader {
        BootLoader::GrubBls => {
            "install grubby, which edits the entries in /boot/loader/entries, and run `handover doctor` again"
        }
        BootLoader::SystemdBoot => {
            "this system boots with systemd-boot or a unified kernel image, but where its command line comes from is not \
             known: change it in the configuration of the program that writes the entries or the image, not in these"
        }
        BootLoader::Limine { .. } => {
            "edit the `cmdline:` lines in limine.conf on the EFI partition, or the configuration of the program that \
             writes it"
        }
        BootLoader::Refind { .. } => {
            "edit the `options` lines in refind.conf on the EFI partition, or refind_linux.conf beside the kernel"
        }
        BootLoader::Nixos => {
            "set it in `boot.kernelParams` of the system's configuration, then `nixos-rebuild boot`; files that NixOS \
             writes do not keep changes"
        }
        BootLoader::Unraid { .. } => {
            "edit the boot options of the boot device on Unraid's page Main; the rest of the system is in memory, and \
             does not keep changes"
        }
        _ => "edit the configuration of your boot loader (not recognized)",
    }
}

/// `/etc/default/grub` and its drop-ins are shell scripts: a line at the end can extend the variable.
fn grub(file: &str, change: Change<'_>) -> Vec<String> {
    let line =
        |option| format!("GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {option}\"");
    match change {
        Change::Add(option) => vec![append_line(file, &line(option))],
        other => {
            let files = format!("{GRUB_FILE} {GRUB_FILE}.d/*.cfg");
            vec![edit(&Lines::after(&files, "GRUB_CMDLINE_LINUX"), other)]
        }
    }
}

/// A file that a tool reads as a shell script: a line at the end extends the variable, whatever sets it before. Where nothing
/// sets it, the tool has this default.
fn sourced(file: &str, variable: &str, default: &str, change: Change<'_>) -> String {
    match change {
        Change::Add(option) if default.is_empty() => {
            append_line(file, &format!("{variable}=\"${variable} {option}\""))
        }
        Change::Add(option) => {
            append_line(file, &format!("{variable}=\"${{{variable}:-{default}}} {option}\""))
        }
        other => edit(&Lines::after(file, &format!("{variable}=")), other),
    }
}

/// Where both are, mkinitcpio takes one of them or both, by version: so both are changed.
fn mkinitcpio(drop_ins: bool, file: bool, change: Change<'_>) -> Vec<String> {
    let option = match change {
        Change::Add(option) => option,
        other => {
            // One command for all files, which fails only if none of them has the option.
            let files = ["/etc/kernel/cmdline", "/etc/cmdline.d/*.conf"];
            return vec![edit(&Lines::any(&files.join(" ")), other)];
        }
    };
    let drop_in = drop_ins.then(|| append_line(CMDLINE_DROP_IN, option));
    let by_file = file.then(|| edit(&Lines::first(CMDLINE_FILE), change));
    drop_in.into_iter().chain(by_file).collect()
}

fn dracut(change: Change<'_>) -> String {
    match change {
        Change::Add(option) => {
            append_line(DRACUT_DROP_IN, &format!("kernel_cmdline+=\" {option} \""))
        }
        other => {
            let files = "/etc/dracut.conf /etc/dracut.conf.d/*.conf";
            edit(&Lines::after(files, "kernel_cmdline"), other)
        }
    }
}

fn limine(change: Change<'_>) -> String {
    match change {
        Change::Add(option) => {
            append_line(LIMINE_FILE, &format!("KERNEL_CMDLINE[default]+=\" {option}\""))
        }
        other => edit(&Lines::after(LIMINE_FILE, "KERNEL_CMDLINE"), other),
    }
}

/// The tool adds the options of all files, and its own.
fn clear(change: Change<'_>) -> Way {
    let command = match change {
        Change::Add(option) => append_line(CLEAR_DROP_IN, option),
        other => edit(&Lines::any("/etc/kernel/cmdline /etc/kernel/cmdline.d/*.conf"), other),
    };
    Way::Commands(vec![command], Some(CLR_BOOT_MANAGER))
}

/// Systems with a tool for single options.
fn by_tool(platform: &Platform, change: Change<'_>) -> Vec<String> {
    let (command, add, take) = match platform.boot_loader {
        BootLoader::RpmOstree => {
            ("rpm-ostree kargs", "--append-if-missing=", "--delete-if-present=")
        }
        BootLoader::Kernelstub => ("kernelstub", "--add-options ", "--delete-options "),
        BootLoader::XcpNg => (XEN_CMDLINE, "--set-dom0 ", "--delete-dom0 "),
        _ => ("grubby --update-kernel=ALL", "--args=", "--remove-args="),
    };
    // xen-cmdline takes the name only.
    let named = |option: &str| match &platform.boot_loader {
        BootLoader::XcpNg => quoted(option.split('=').next().unwrap_or(option)),
        _ => quoted(&value_on_cmdline(platform, option)),
    };
    match change {
        Change::Add(option) => vec![format!("{command} {add}{}", quoted(option))],
        Change::Take(option) => vec![format!("{command} {take}{}", named(option))],
        Change::Replace(old, new) => vec![
            format!("{command} {take}{}", named(old)),
            format!("{command} {add}{}", quoted(new)),
        ],
    }
}

/// rpm-ostree and kernelstub take away an option only with its value; grubby accepts it too.
fn value_on_cmdline(platform: &Platform, option: &str) -> String {
    let whole = |word: &&str| word.split_once('=').is_some_and(|(name, _)| name == option);
    let word = platform.cmdline_words().find(whole).filter(|_| !option.contains('='));
    word.unwrap_or(option).to_owned()
}

/// ostree can add an option to the existing deployments, and keeps it for later ones; it cannot take one away.
fn image(loader: &BootLoader, ostree: bool, change: Change<'_>) -> Way {
    let bootc = matches!(loader, BootLoader::Bootc { .. });
    match change {
        Change::Add(option) if ostree => {
            let command = "ostree admin kargs edit-in-place --append-if-missing=";
            Way::Commands(vec![format!("{command}{}", quoted(option))], None)
        }
        _ if bootc => Way::ByHand(
            "set the image's options in /usr/lib/bootc/kargs.d when the image is built, then `bootc upgrade`".into(),
        ),
        _ => Way::ByHand(
            "set the options of the deployment: `ostree admin instutil set-kargs` replaces all of them".into(),
        ),
    }
}

fn edit(lines: &Lines, change: Change<'_>) -> String {
    match change {
        Change::Add(option) => lines.add(option),
        Change::Take(option) => lines.replace(option, None),
        Change::Replace(old, new) => lines.replace(old, Some(new)),
    }
}
