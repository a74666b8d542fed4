#!/bin/sh
[ -e "$NEWROOT/proc" ] || /lab/root "$NEWROOT"
