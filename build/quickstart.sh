#!/bin/sh
# Runs the whole product on this machine: a syncer that serves the manifests of deploy/quickstart, and
# CoreDNS on 127.0.0.1:1053. Ctrl-C stops both.
set -eu
cd "$(dirname "$0")/.."

manifests=deploy/quickstart
state=bin/quickstart
mkdir -p "$state"
syncer= coredns=

stop() {
	trap - EXIT INT TERM
	for pid in $coredns $syncer; do
		kill -TERM "$pid" 2>/dev/null || true
	done
	for pid in $coredns $syncer; do
		wait "$pid" 2>/dev/null || true
	done
	echo "stopped"
}
trap stop EXIT
trap 'exit 0' INT TERM

bin/meshvm-syncer --manifests "$manifests" --insecure \
	--listen 127.0.0.1:15054 --http-listen 127.0.0.1:15055 &
syncer=$!
bin/coredns -conf corefile/quickstart &
coredns=$!

cat <<TEXT

  meshvm is starting. In another terminal, try:

    dig -p 1053 @127.0.0.1 +short productpage.default.svc.cluster.local
    dig -p 1053 @127.0.0.1 +short mongodb.default.svc.cluster.local
    dig -p 1053 @127.0.0.1 +short payments.example.com
    dig -p 1053 @127.0.0.1 +short any.thing.storage.example.com
    dig -p 1053 @127.0.0.1 +short -x 10.96.10.1
    bin/meshvmctl lookup reviews.default.svc.cluster.local --http 127.0.0.1:15055

  The names come from $manifests: edit a file there and ask again. Ctrl-C stops.

TEXT

# Whichever ends first ends the other.
while kill -0 "$syncer" 2>/dev/null && kill -0 "$coredns" 2>/dev/null; do
	sleep 1
done
echo "one of the two ended by itself: see above" >&2
exit 1
