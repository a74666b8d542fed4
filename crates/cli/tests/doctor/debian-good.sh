#!/bin/sh
# Fixes what `handover doctor` found on this host. Read it before you run it. It is idempotent.
# Optional fixes are comments: uncomment those that you want.
set -eu
if [ "$(id -u)" -ne 0 ]; then
    echo 'run this script as root' >&2
    exit 1
fi

echo 'Done. Run handover doctor to check the result.'
