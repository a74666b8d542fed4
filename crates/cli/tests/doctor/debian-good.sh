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

# swtpm: no swtpm in the usual places
# Optional: install swtpm
#   apt-get install -y swtpm

echo 'Done. Run handover doctor to check the result.'
