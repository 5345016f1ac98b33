#!/bin/sh
# Installs what the tests on booted machines need.
set -eu
exec sh "$(dirname "$0")/../install.sh" \
	systemd-container mmdebstrap debian-archive-keyring util-linux \
	nftables iproute2 dnsmasq-base bind9-dnsutils \
	gcc musl-tools \
	qemu-system-x86 qemu-utils e2fsprogs busybox-static cpio kmod \
	lintian rpm rpmlint
