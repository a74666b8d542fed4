#!/bin/sh
# Sets the root, which is not on the command line.
# shellcheck disable=SC2034 # dracut reads them
root=lab rootok=1
