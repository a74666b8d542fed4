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

# Until it is removed below, the doctor reports that a script stopped before its end.
mkdir -p /etc/handover
: > /etc/handover/to-rebuild

# acs-override: /proc/cmdline has pcie_acs_override=downstream,multifunction
# boot without pcie_acs_override on the kernel's command line
found=
for file in /etc/kernel/cmdline; do
    if [ -f "$file" ] && grep -E -e '^[[:space:]]*[^#[:space:]]' "$file" | grep -qE -e '(^|[^[:alnum:]_.,-])pcie_acs_override(=[^[:space:]"'\'']*)?([[:space:]"'\'']|$)'; then
        mkdir -p /etc/handover
        grep -qsxF -e pcie_acs_override /etc/handover/removed-options || printf '%s\n' pcie_acs_override >> /etc/handover/removed-options
        sed -E -i -e 's/(^|[^[:alnum:]_.,-])pcie_acs_override(=[^[:space:]"'\'']*)?([[:space:]"'\'']|$)/\1\3/g' "$file"
        found=1
    fi
done
[ "$found" ] || grep -qsxF -e pcie_acs_override /etc/handover/removed-options || { echo 'cannot take pcie_acs_override away: no such line in /etc/kernel/cmdline; find what sets the kernel'\''s command line' >&2; false; }

# unsafe-interrupts: /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts is Y
# disable it now; load vfio_iommu_type1 without allow_unsafe_interrupts
echo N > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
for file in /etc/modprobe.d/*.conf; do
    [ ! -f "$file" ] || sed -E -i -e '/^[[:space:]]*options[[:space:]]+vfio[-_]iommu[-_]type1[[:space:]]/s/[[:space:]]+allow_unsafe_interrupts(=[^[:space:]]*)?//g' -e '/^[[:space:]]*options[[:space:]]+vfio[-_]iommu[-_]type1[[:space:]]*$/d' "$file"
done

# iommu-mode: the IOMMU groups are of type DMA
# Optional: boot with iommu=pt on the kernel's command line
#   found=
#   for file in /etc/kernel/cmdline; do
#       if [ -f "$file" ] && sed -n 1p "$file" | grep -qE -e '^[[:space:]]*[^#[:space:]]'; then
#           sed -E -i -e '1{/(^|[[:space:]])iommu=pt([[:space:]]|$)/!s/[[:space:]]*$/ iommu=pt/}' "$file"
#           found=1
#       fi
#   done
#   [ "$found" ] || { echo 'cannot add iommu=pt: no such line in /etc/kernel/cmdline; find what sets the kernel'\''s command line' >&2; false; }

# passt: no passt in the usual places
# Optional: install passt
#   apt-get install -y passt

# swtpm: no swtpm in the usual places
# Optional: install swtpm
#   apt-get install -y swtpm

# Make the edits take effect.
proxmox-boot-tool refresh
update-initramfs -u -k all
rm -f /etc/handover/to-rebuild

echo 'Done. Reboot this host for all changes to take effect.'
