#!/bin/bash
# Mounts L1's root in dracut's initial ramdisk (dracut.modules(7)).
check() { return 0; }
depends() { return 0; }
install() {
    inst_hook cmdline 99 "$moddir/cmdline.sh"
    inst_hook mount 00 "$moddir/mount.sh"
}
