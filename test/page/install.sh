#!/bin/sh
# Installs the browser of the tests where there is none.
set -eu
command -v chromium >/dev/null && exit 0
apt-get update
apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 chromium fonts-dejavu-core
