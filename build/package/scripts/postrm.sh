#!/bin/sh
# After files have gone: "remove" and "purge" from dpkg, 0 from rpm.
set -e

case "$1" in
purge | 0)
	rm -rf /var/lib/meshvm /var/lib/meshvm-redirect /run/meshvm /run/meshvm-redirect
	;;
esac
case "$1" in
purge)
	# Also what is no conffile: the bundle.
	rm -rf /etc/meshvm
	;;
esac
case "$1" in
purge | 0)
	# What rpm leaves there, such as the token, is not for whoever gets the numbers of the user and the group next.
	if [ -d /etc/meshvm ] && getent group meshvm >/dev/null; then
		chown -hR --from=:meshvm :root /etc/meshvm
	fi
	if [ -d /etc/meshvm ] && getent passwd meshvm >/dev/null; then
		chown -hR --from=meshvm root /etc/meshvm
	fi
	if getent passwd meshvm >/dev/null; then
		userdel meshvm || true
	fi
	if getent group meshvm >/dev/null; then
		groupdel meshvm || true
	fi
	;;
esac
case "$1" in
remove | purge | 0 | 1)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload || true
	fi
	;;
esac
