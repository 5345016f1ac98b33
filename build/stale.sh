#!/bin/sh
# Fails when committed generated code is not what its sources generate.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
sh syncer/api/generate.sh "$fresh"
for file in registry.pb.go registry_grpc.pb.go; do
	if ! diff -u "syncer/api/v1/$file" "$fresh/v1/$file"; then
		echo "syncer/api/v1/$file is stale: run 'make generate'" >&2
		exit 1
	fi
done
