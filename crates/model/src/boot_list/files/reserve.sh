# Written by Handover (`handover reserve`): changes are lost.
# Gives the functions listed in /etc/handover/reserve to their vfio drivers before other drivers are loaded.
# A line there is ADDRESS VENDOR DEVICE DRIVER. A function whose ids are others now is left alone: addresses can change
# between boots. To undo: `handover reserve --remove ADDRESS`, and make the initial ramdisk again.
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
