#!/bin/sh
# Fixes what `handover doctor` found on this host. Read it before you run it. It is idempotent.
# Optional fixes are comments: uncomment those that you want.
set -eu
if [ "$(id -u)" -ne 0 ]; then
    echo 'run this script as root' >&2
    exit 1
fi
trap '[ "$?" -eq 0 ] || echo "this script stopped before its end: until it has run to its end, what it edited may not take effect; run it again" >&2' EXIT

# iommu: no DMAR, IVRS or VIOT among /sys/firmware/acpi/tables; there are no IOMMU groups
# enable VT-d (Intel VT for Directed I/O) in the firmware setup; boot with intel_iommu=on on the kernel's command line
found=
for file in /boot/loader/entries/*.conf; do
    if [ -f "$file" ] && grep -qE -e '^[[:space:]]*options[[:space:]]' "$file"; then
        sed -E -i -e '/^[[:space:]]*options[[:space:]]/{/(^|[[:space:]])intel_iommu=on([[:space:]]|$)/!s/[[:space:]]*$/ intel_iommu=on/}' "$file"
        found=1
    fi
done
[ "$found" ] || { echo 'cannot add intel_iommu=on: no such line in /boot/loader/entries/*.conf; find what sets the kernel'\''s command line' >&2; false; }

# qemu: no qemu-system-x86_64 and no qemu-kvm in the usual places
# install QEMU
pacman -S --needed --noconfirm qemu-base

# gpu-programs: Xorg (pid 812, gdm.service) runs
# Optional: hand over a GPU without a screen, or boot without a desktop: systemctl set-default multi-user.target
# No command can do this.

# gpu-programs: nvidia-persistenced (pid 903, nvidia-persistenced.service) runs
# Optional: switch it off for one GPU at a time: nvidia-smi -i ADDRESS -pm 0
# No command can do this.

# memlock: /proc/self/limits: 8MB of memory may be locked
# Optional: let the group kvm lock memory, from the next login on (limits.conf(5))
#   grep -qsxF -e '@kvm - memlock unlimited' /etc/security/limits.d/handover.conf || { [ -z "$(tail -c 1 /etc/security/limits.d/handover.conf 2>/dev/null)" ] || echo >> /etc/security/limits.d/handover.conf; printf '%s\n' '@kvm - memlock unlimited' >> /etc/security/limits.d/handover.conf; }

# native-driver (0000:01:00.0): 0000:01:00.0 is on nvidia
# Optional: add 0000:01:00.0 to the boot list /etc/handover/reserve, as `handover boot-list` does (`--remove` undoes it)
#   mkdir -p /etc/handover
#   grep -qsxF -e '0000:01:00.0 0x10de 0x2820 vfio-pci' /etc/handover/reserve || { [ -z "$(tail -c 1 /etc/handover/reserve 2>/dev/null)" ] || echo >> /etc/handover/reserve; printf '%s\n' '0000:01:00.0 0x10de 0x2820 vfio-pci' >> /etc/handover/reserve; }
#   mkdir -p /etc/handover
#   cat > /etc/handover/reserve.sh <<'END_OF_FILE'
#   # Written by Handover (`handover boot-list`): changes are lost.
#   # Binds the functions on the boot list (/etc/handover/reserve) to their vfio drivers before other drivers are loaded.
#   # A line of it is ADDRESS VENDOR DEVICE DRIVER. A function with other ids is skipped: addresses can change between boots.
#   # To undo: `handover boot-list --remove ADDRESS`, and rebuild the initial ramdisk.
#   functions=/sys/bus/pci/devices
#   while read -r address vendor device driver; do
#       case $address in '' | '#'*) continue ;; esac
#       [ -e "$functions/$address/driver_override" ] || continue
#       read -r have_vendor < "$functions/$address/vendor" || continue
#       read -r have_device < "$functions/$address/device" || continue
#       [ "$have_vendor $have_device" = "$vendor $device" ] || continue
#       echo "$driver" > "$functions/$address/driver_override" || continue
#       modprobe "$driver" || continue
#       [ -e "$functions/$address/driver" ] || echo "$address" > /sys/bus/pci/drivers_probe || continue
#   done < /etc/handover/reserve
#   END_OF_FILE
#   chmod 644 /etc/handover/reserve.sh
#   mkdir -p /etc/handover
#   cat > /etc/handover/handover-reserve.service <<'END_OF_FILE'
#   # Written by Handover (`handover boot-list`): changes are lost.
#   [Unit]
#   Description=Bind the PCI functions on Handover's boot list to vfio drivers
#   DefaultDependencies=no
#   Before=systemd-udevd.service systemd-modules-load.service sysinit.target
#
#   [Service]
#   Type=oneshot
#   ExecStart=/usr/bin/sh /etc/handover/reserve.sh
#   END_OF_FILE
#   chmod 644 /etc/handover/handover-reserve.service
#   mkdir -p /etc/initcpio/hooks
#   cat > /etc/initcpio/hooks/handover <<'END_OF_FILE'
#   #!/usr/bin/ash
#   # Written by Handover (`handover boot-list`): changes are lost.
#   run_earlyhook() {
#       [ ! -s /etc/handover/reserve ] || . /etc/handover/reserve.sh
#   }
#   END_OF_FILE
#   chmod 644 /etc/initcpio/hooks/handover
#   mkdir -p /etc/initcpio/install
#   cat > /etc/initcpio/install/handover <<'END_OF_FILE'
#   #!/bin/bash
#   # Written by Handover (`handover boot-list`): changes are lost.
#   # Adds Handover's boot list to the initial ramdisk, for busybox's init and for systemd.
#   build() {
#       [ -s /etc/handover/reserve ] || return 0
#       while read -r address vendor device driver; do
#           case $address in '' | '#'*) continue ;; esac
#           add_module "$driver"
#       done < /etc/handover/reserve
#       add_file /etc/handover/reserve
#       add_file /etc/handover/reserve.sh
#       add_file /etc/handover/handover-reserve.service /usr/lib/systemd/system/handover-reserve.service
#       add_symlink /usr/lib/systemd/system/sysinit.target.wants/handover-reserve.service ../handover-reserve.service
#       add_runscript
#   }
#   help() {
#       echo "Binds the functions on the boot list in /etc/handover/reserve to vfio drivers."
#   }
#   END_OF_FILE
#   chmod 644 /etc/initcpio/install/handover
#   mkdir -p /etc/mkinitcpio.conf.d
#   cat > /etc/mkinitcpio.conf.d/handover.conf <<'END_OF_FILE'
#   # Written by Handover (`handover boot-list`): changes are lost.
#   # Inserts Handover's hook after the first hook (base) and before udev or systemd.
#   case " ${HOOKS[*]} " in
#       *" handover "*) ;;
#       *) HOOKS=("${HOOKS[0]}" handover "${HOOKS[@]:1}") ;;
#   esac
#   END_OF_FILE
#   chmod 644 /etc/mkinitcpio.conf.d/handover.conf

# ovmf: no OVMF image in the usual places
# Optional: install OVMF
#   pacman -S --needed --noconfirm edk2-ovmf

# passt: no passt in the usual places
# Optional: install passt
#   pacman -S --needed --noconfirm passt

# Make the edits take effect.
#   mkinitcpio -P

echo 'Done. Reboot this host for all changes to take effect.'
