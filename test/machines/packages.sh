#!/bin/sh
# Builds the packages that machines of the tests install, for this machine's architecture: one, and one that is newer.
set -eu
cd "$(dirname "$0")/../.."

architecture=$(dpkg --print-architecture)
rm -rf bin/machines
sh build/package/build.sh bin/machines/current v1.0.0 "$architecture" >/dev/null
sh build/package/build.sh bin/machines/newer v1.0.1 "$architecture" >/dev/null
