#!/bin/sh
# Fixes what `handover doctor` found on this host. Read it before you run it. It is idempotent.
# Optional fixes are comments: uncomment those that you want.
set -eu
if [ "$(id -u)" -ne 0 ]; then
    echo 'run this script as root' >&2
    exit 1
fi

# acs-override: /proc/cmdline has pcie_acs_override=downstream,multifunction
# boot without pcie_acs_override on the kernel's command line
[ ! -f /etc/kernel/cmdline ] || sed -E -i -e 's/(^|[^[:alnum:]_.,-])pcie_acs_override=?[[:alnum:]_.,:/=-]*([[:space:]"'\'']|$)/\1\2/g' /etc/kernel/cmdline

# unsafe-interrupts: /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts is Y
# disable it now; load vfio_iommu_type1 without allow_unsafe_interrupts
echo N > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
for file in /etc/modprobe.d/*.conf; do
    [ ! -f "$file" ] || sed -E -i -e '/^[[:space:]]*options[[:space:]]+vfio[-_]iommu[-_]type1[[:space:]]/s/[[:space:]]+allow_unsafe_interrupts(=[^[:space:]]*)?//g' -e '/^[[:space:]]*options[[:space:]]+vfio[-_]iommu[-_]type1[[:space:]]*$/d' "$file"
done

# iommu-mode: the IOMMU groups are of type DMA
# Optional: boot with iommu=pt on the kernel's command line
#   [ ! -f /etc/kernel/cmdline ] || sed -E -i -e '1{/(^|[[:space:]])iommu=pt([[:space:]]|$)/!s/[[:space:]]*$/ iommu=pt/}' /etc/kernel/cmdline

# Make the edits take effect.
proxmox-boot-tool refresh
update-initramfs -u -k all

echo 'Done. Reboot this host for all changes to take effect.'
