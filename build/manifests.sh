#!/bin/sh
# Renders the chart into plain manifests, for those who have kubectl or kustomize and no Helm.
#
#   manifests.sh HELM DIRECTORY
#
# Each file is what one mode of the syncer needs; all that a role can have is in it.
set -eu
cd "$(dirname "$0")/.."
[ $# -eq 2 ] || { echo "usage: manifests.sh HELM DIRECTORY" >&2; exit 2; }
helm=$1 directory=$2
chart=deploy/kubernetes/meshvm-syncer

# render FILE TEMPLATES [FLAGS]: no label says that Helm manages what kubectl applies.
render() {
	file=$1 templates=$2
	shift 2
	for template in $templates; do
		set -- "$@" --show-only "templates/$template.yaml"
	done
	"$helm" template meshvm-syncer "$chart" --namespace meshvm --set tls.mode=secret "$@" >"$directory/.rendered"
	{
		echo "# Rendered from the chart in deploy/kubernetes/meshvm-syncer by \`make manifests\`: edit that."
		cat -s "$directory/.rendered" | sed -e "1 { /^---\$/d }" -e "/^# Source: /d" -e "/^ *app.kubernetes.io\/managed-by: /d" -e "/^ *helm.sh\/chart: /d" -e "\$ { /^$/d }"
	} >"$directory/$file"
	rm "$directory/.rendered"
}

mkdir -p "$directory"
render rbac.yaml "serviceaccount rbac" --set istio.sidecarScope=true
render rbac-identity.yaml rbac-identity --set identity.tokenJWKS=cluster
render rbac-vip.yaml rbac-vip --set vip.mode=allocate
render rbac-istio-mesh-config.yaml rbac-istio-mesh-config --set istio.meshConfig=istio-system/istio
render watcher-role.yaml watcher-role
render syncer.yaml "deployment service disruption networkpolicy" --set service.type=LoadBalancer
