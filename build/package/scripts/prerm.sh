#!/bin/sh
# Before files go: "remove" from dpkg, 0 from rpm. An upgrade stops nothing.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac

# An image, in which systemd does not run, has units enabled too.
now=
if [ -d /run/systemd/system ]; then
	now=--now
fi
systemctl --no-reload disable $now meshvm-redirect.service meshvm.service meshvm-redirect-recover.service || true
# Also where the units do not run, or somebody has redirected by hand.
meshvmctl redirect revert
