#!/bin/sh
# Builds the VM's packages: build.sh DIRECTORY VERSION [ARCH...]. The same sources and SOURCE_DATE_EPOCH give the same bytes.
set -eu
cd "$(dirname "$0")/../.."

out=$1
version=$2
shift 2
[ $# -gt 0 ] || set -- amd64 arm64
: "${GO:=go}"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH

VERSION=$(sh build/package/version.sh "$version")
RELEASE=1
export VERSION RELEASE

build() { # architecture, program, file
	CGO_ENABLED=0 GOOS=linux GOARCH=$1 $GO build -trimpath -tags grpcnotrace -buildvcs=false \
		-ldflags "-s -w -X main.version=$version" -o "$3" "./build/$2"
}

# What is the same for all architectures: what the programs say of themselves on this machine, and of what they are made.
rm -rf bin/package
documents=bin/package/documents
mkdir -p "$documents" "$out"
build "$($GO env GOHOSTARCH)" meshvmctl bin/package/meshvmctl
GOFLAGS='' $GO run ./build/man -meshvmctl bin/package/meshvmctl -out "$documents/man"
for shell in bash zsh fish; do
	bin/package/meshvmctl completion $shell >"$documents/meshvmctl.$shell"
done
$GO run ./build/licenses -out bin/package/licenses >/dev/null
find bin/package/licenses/coredns bin/package/licenses/meshvmctl -type f | LC_ALL=C sort | while read -r file; do
	printf '\n==== %s\n\n' "${file#bin/package/licenses/}"
	cat "$file"
done >"$documents/licenses"
gzip -9n "$documents"/man/* "$documents/licenses"
sed "s/@VERSION@/$VERSION/; s/@RELEASE@/$RELEASE/; s/@DATE@/$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)/" build/package/changelog.yaml >"$documents/changelog.yaml"

for ARCH in "$@"; do
	export ARCH
	BINARIES=bin/package/$ARCH
	export BINARIES
	mkdir -p "$BINARIES"
	for program in coredns meshvmctl; do
		build "$ARCH" $program "$BINARIES/$program"
	done
	for packager in deb rpm; do
		$GO tool -modfile=build/package/nfpm/go.mod nfpm package --config build/package/nfpm.yaml --packager "$packager" --target "$out/"
	done
done
