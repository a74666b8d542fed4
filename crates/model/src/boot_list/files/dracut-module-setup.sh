#!/bin/bash
# Written by Handover (`handover boot-list`): changes are lost.
# Adds Handover's boot list to the initial ramdisk.
check() { [ -s /etc/handover/reserve ]; }
depends() { return 0; }
installkernel() {
    while read -r address vendor device driver; do
        case $address in '' | '#'*) continue ;; esac
        hostonly='' instmods "$driver"
    done < /etc/handover/reserve
}
install() {
    inst_simple /etc/handover/reserve
    inst_hook pre-udev 00 /etc/handover/reserve.sh
}
