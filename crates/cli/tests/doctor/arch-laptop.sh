#!/bin/sh
# Fixes what `handover doctor` found on this host. Read it before you run it. It is idempotent.
# Optional fixes are comments: uncomment those that you want, and with them the comments after the last edit (`Make the
# edits take effect`).
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
# Optional: add 0000:01:00.0 to the boot list /etc/handover/reserve (`--remove` undoes it)
#   handover boot-list 0000:01:00.0 --rebuild

# ovmf: no OVMF image in the usual places
# Optional: install OVMF
#   pacman -S --needed --noconfirm edk2-ovmf

# passt: no passt in the usual places
# Optional: install passt
#   pacman -S --needed --noconfirm passt

# swtpm: no swtpm in the usual places
# Optional: install swtpm
#   pacman -S --needed --noconfirm swtpm

echo 'Done. Reboot this host for all changes to take effect.'
