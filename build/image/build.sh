#!/bin/sh
# Builds the images: build.sh DIRECTORY VERSION. The same commit and version, built by the same Go, give the same digests.
set -eu
cd "$(dirname "$0")/../.."

out=$1
version=$2
: "${GO:=go}"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# What would change what the compiler makes.
unset GOFLAGS GOEXPERIMENT GOAMD64 GOARM64

parts=bin/image
rm -rf "$parts"
mkdir -p "$parts" "$out"
$GO run ./build/licenses -out "$parts/licenses" >/dev/null
for architecture in amd64 arm64; do
	for program in meshvm-syncer coredns; do
		CGO_ENABLED=0 GOOS=linux GOARCH=$architecture $GO build -trimpath -tags grpcnotrace -buildvcs=false \
			-ldflags "-s -w -X main.version=$version" -o "$parts/$architecture/$program" "./build/$program"
		$GO run ./build/sbom -version "$version" "$parts/$architecture/$program" >/dev/null
	done
done
$GO run ./build/image -parts "$parts" -out "$out" -version "$version" -revision "$revision"
