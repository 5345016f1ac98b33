#!/bin/sh
# Builds the program that runs Istio's own code for tests.
#
#   build.sh DIRECTORY
#
# leaves DIRECTORY/istio, of the version that the go.mod beside this script names. The go command does no more
# than is needed; an interrupted build leaves the former program, or none.
set -eu

[ $# -eq 1 ] && [ -n "$1" ] || {
	echo "build.sh: usage: build.sh DIRECTORY" >&2
	exit 1
}
source=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
mkdir -p -- "$1"
output=$(CDPATH= cd -- "$1" && pwd)
cd -- "$source"

# It runs on the machine that builds it, and a go.work above this folder has no say.
unset GOOS GOARCH
export CGO_ENABLED=0 GOWORK=off

stamp=$output/.istio
inputs=$({ cat -- *.go go.mod go.sum build.sh && go env GOVERSION GOOS GOARCH; } | sha256sum)

fresh() {
	[ -x "$output/istio" ] && [ -f "$stamp" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$inputs" ]
}

fresh && exit 0
exec 9>"$output/.istio.lock"
flock 9
fresh && exit 0

echo "build.sh: building Istio's code into $output; the first time this takes minutes" >&2
rm -f -- "$stamp"
go build -mod=readonly -trimpath -ldflags "-s -w" -o "$output/istio.new" .
mv -f -- "$output/istio.new" "$output/istio"
printf '%s\n' "$inputs" >"$stamp"
