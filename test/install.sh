#!/bin/sh
# Installs packages that tests need, from Debian's archive: install.sh PACKAGE... It asks apt only for what is missing, so that a
# second run takes no time, and fails with apt's own words.
set -eu

missing=
for package; do
	case $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) in
	ii*) ;;
	*) missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "install.sh: want root, to install:$missing" >&2
	exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # each word is a package
if ! { apt-get -q -o DPkg::Lock::Timeout=600 update &&
	apt-get -q -o DPkg::Lock::Timeout=600 -y --no-install-recommends install $missing; } >"$log" 2>&1; then
	cat "$log" >&2
	echo "install.sh: apt could not install:$missing" >&2
	exit 1
fi
