#!/bin/sh
# Builds the Kubernetes API server and etcd that tests run against.
#
#   build.sh DIRECTORY
#
# leaves DIRECTORY/kube-apiserver and DIRECTORY/etcd, of the versions that the
# go.mod beside this script names. Run it as often as you like: where nothing
# changed it ends at once. Concurrent callers build once, and an interrupted
# build leaves the former binaries, or none, but never half of one.
set -eu

# The version the API server reports is set by its linker flags; it is the one
# of the module, and clients parse it.
kubernetes_package=k8s.io/kubernetes/cmd/kube-apiserver
etcd_package=go.etcd.io/etcd/server/v3

fail() {
	echo "build.sh: $*" >&2
	exit 1
}

[ $# -eq 1 ] && [ -n "$1" ] || fail "usage: build.sh DIRECTORY"
for tool in go flock sha256sum; do
	command -v "$tool" >/dev/null || fail "$tool is not installed"
done

source=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
mkdir -p -- "$1"
output=$(CDPATH= cd -- "$1" && pwd)
cd -- "$source"

# The servers run on the machine that builds them, whatever the caller is
# cross-compiling, and a go.work above this folder has no say.
unset GOOS GOARCH
export CGO_ENABLED=0 GOWORK=off

stamp=$output/.test-servers
inputs=$({ cat go.mod go.sum build.sh && go env GOVERSION GOOS GOARCH; } | sha256sum)

fresh() {
	[ -x "$output/kube-apiserver" ] && [ -x "$output/etcd" ] &&
		[ -f "$stamp" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$inputs" ]
}

fresh && exit 0

exec 9>"$output/.test-servers.lock"
if ! flock -n 9; then
	echo "build.sh: waiting for another build of the test servers in $output" >&2
	flock 9
fi
fresh && exit 0

version=$(go list -mod=readonly -m -f '{{.Version}}' k8s.io/kubernetes)
[ -n "$version" ] || fail "go.mod names no version of k8s.io/kubernetes"
minor=${version#v*.}
minor=${minor%%.*}
major=${version#v}
major=${major%%.*}
variable=k8s.io/component-base/version

echo "build.sh: building kube-apiserver $version and etcd into $output; the first time this takes minutes" >&2

# Holding the lock, whatever an earlier, killed build left is nobody's.
work=$output/.test-servers.build
rm -rf -- "$work"
mkdir -- "$work"
trap 'rm -rf -- "$work"' EXIT

# The compiler runs in the background, so that a signal stops it at once and
# not after the minutes that it may have left.
compiler=
interrupted() {
	[ -z "$compiler" ] || kill -INT "$compiler" 2>/dev/null || :
	wait
	exit "$1"
}
trap 'interrupted 129' HUP
trap 'interrupted 130' INT
trap 'interrupted 143' TERM

build() {
	go build -mod=readonly -trimpath "$@" &
	compiler=$!
	wait "$compiler"
	compiler=
}
build -o "$work/etcd" -ldflags "-s -w" "$etcd_package"
build -o "$work/kube-apiserver" \
	-ldflags "-s -w -X $variable.gitVersion=$version -X $variable.gitMajor=$major -X $variable.gitMinor=$minor" \
	"$kubernetes_package"

# The stamp goes first and comes last: while it stands, both binaries are its own.
rm -f -- "$stamp"
mv -f -- "$work/etcd" "$output/etcd"
mv -f -- "$work/kube-apiserver" "$output/kube-apiserver"
printf '%s\n' "$inputs" >"$work/stamp"
mv -f -- "$work/stamp" "$stamp"
echo "build.sh: done" >&2
