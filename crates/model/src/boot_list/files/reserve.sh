# Written by Handover (`handover boot-list`): changes are lost.
# Binds the functions on the boot list (/etc/handover/reserve) to their vfio drivers before other drivers are loaded.
# A line of it is ADDRESS VENDOR DEVICE DRIVER. A function with other ids is skipped: addresses can change between boots.
# To undo: `handover boot-list --remove ADDRESS`, and rebuild the initial ramdisk.
functions=/sys/bus/pci/devices
while read -r address vendor device driver; do
    case $address in '' | '#'*) continue ;; esac
    [ -e "$functions/$address/driver_override" ] || continue
    read -r have_vendor < "$functions/$address/vendor" || continue
    read -r have_device < "$functions/$address/device" || continue
    [ "$have_vendor $have_device" = "$vendor $device" ] || continue
    echo "$driver" > "$functions/$address/driver_override" || continue
    modprobe "$driver" || continue
    [ -e "$functions/$address/driver" ] || echo "$address" > /sys/bus/pci/drivers_probe || continue
done < /etc/handover/reserve
