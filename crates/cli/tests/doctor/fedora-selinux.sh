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

# large-bars: 1 function with a BAR of 32 GB or more, such as 0000:01:00.0 with 64GB; Linux 6.11.4-301.fc41.x86_64 and QEMU 9.1.2
# use Linux 6.12 and QEMU 9.2 or newer, which use huge mappings
# No command can do this.

# bar-window (0000:01:00.0): the 64-bit BARs add up to 64 GiB
# Optional: for machines of other tools: `-global q35-pcihost.pci-hole64-size=131072M`, with OVMF also `-fw_cfg name=opt/ovmf/X-PciMmio64Mb,string=131072`, and a CPU with host-phys-bits=on
# No command can do this.

# iommu-mode: the IOMMU groups are of type DMA
# Optional: boot with iommu=pt on the kernel's command line
#   grubby --update-kernel=ALL --args=iommu=pt

# passt: no passt in the usual places
# Optional: install passt
#   dnf install -y passt

# selinux: /sys/fs/selinux/enforce is 1: SELinux enforces; podman is installed
# Optional: let containers use devices (SELinux boolean of container-selinux)
#   setsebool -P container_use_devices on

# swtpm: no swtpm in the usual places
# Optional: install swtpm
#   dnf install -y swtpm

# vfio-forbidden: /etc/modprobe.d/no-vfio.conf:2: blacklist vfio_iommu_type1
# Optional: let vfio_iommu_type1 be loaded: comment out the lines that blacklist it
#   [ ! -f /etc/modprobe.d/no-vfio.conf ] || sed -E -i -e '/^[[:space:]]*(blacklist|install)[[:space:]]+vfio[-_]iommu[-_]type1([[:space:]]|$)/s/^/# /' /etc/modprobe.d/no-vfio.conf

# Make the edits take effect.
#   dracut --force --regenerate-all

echo 'Done. Run handover doctor to check the result.'
