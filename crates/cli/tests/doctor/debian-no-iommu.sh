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

# iommu: the firmware has DMAR (Intel VT-d); /proc/cmdline has no intel_iommu=on; there are no IOMMU groups
# boot with intel_iommu=on on the kernel's command line
mkdir -p /etc/default/grub.d
grep -qsxF -e 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT intel_iommu=on"' /etc/default/grub.d/zz-handover.cfg || { [ -z "$(tail -c 1 /etc/default/grub.d/zz-handover.cfg 2>/dev/null)" ] || echo >> /etc/default/grub.d/zz-handover.cfg; printf '%s\n' 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT intel_iommu=on"' >> /etc/default/grub.d/zz-handover.cfg; }

# swtpm: no swtpm in the usual places
# Optional: install swtpm
#   apt-get install -y swtpm

# Make the edits take effect.
update-grub
rm -f /etc/handover/to-rebuild

echo 'Done. Reboot this host for all changes to take effect.'
