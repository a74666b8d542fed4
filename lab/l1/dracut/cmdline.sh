#!/bin/sh
# The root is known, though no root= says so.
# shellcheck disable=SC2034 # dracut reads them
root=lab rootok=1
