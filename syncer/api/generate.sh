#!/bin/sh
# Generates the Go of registry.proto, into the folder given or in place.
set -eu
output=${1:-$(dirname "$0")}
mkdir -p "$output"
output=$(cd "$output" && pwd)
cd "$(dirname "$0")"
exec go tool -modfile=../../build/tools/go.mod buf generate --output "$output"
