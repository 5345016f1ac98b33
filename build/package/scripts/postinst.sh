#!/bin/sh
# After files are in place: "configure [OLD-VERSION]" from dpkg, 1 (install) or 2 (upgrade) from rpm.
set -e

case "$1" in
configure | 1 | 2) ;;
*) exit 0 ;;
esac

systemd-sysusers /usr/lib/sysusers.d/meshvm.conf

# Nothing is enabled or started: a machine's names are taken over when its operator says so.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# Only what runs. The sockets stay open with systemd, so no query is lost, and the redirect stays where it is.
	systemctl try-restart meshvm.service || true
	systemctl try-restart meshvm-redirect-watch.service || true
fi
