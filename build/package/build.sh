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

# A package's version begins with a digit. What is between two releases is newer than the first: 1.2.3+4.g5678abc.
case $version in
v[0-9]*) VERSION=${version#v} ;;
[0-9]*.[0-9]*) VERSION=$version ;;
*) VERSION=0.0.0+$version ;;
esac
VERSION=$(printf %s "$VERSION" | tr - .)
RELEASE=1
export VERSION RELEASE

mkdir -p "$out"
for ARCH in "$@"; do
	export ARCH
	BINARIES=bin/package/$ARCH
	export BINARIES
	mkdir -p "$BINARIES"
	for program in coredns meshvmctl; do
		CGO_ENABLED=0 GOOS=linux GOARCH=$ARCH $GO build -trimpath -tags grpcnotrace -buildvcs=false \
			-ldflags "-s -w -X main.version=$version" -o "$BINARIES/$program" "./build/$program"
	done
	for packager in deb rpm; do
		$GO tool -modfile=build/package/nfpm/go.mod nfpm package --config build/package/nfpm.yaml --packager "$packager" --target "$out/"
	done
done
