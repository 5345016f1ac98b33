package manifest

import (
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/source"
)

// sidecarKind is how Istio's Sidecars are read, where anybody goes by them.
func sidecarKind() kind {
	return kind{source.KindSidecar, istioVersions, true, decodeSidecar}
}

func decodeSidecar(v value) (metav1.Object, []fault) {
	sidecar := &networkingv1.Sidecar{}
	meta, faults := decodeIstio(v, &sidecar.Spec, &sidecar.Status)
	sidecar.ObjectMeta = meta
	return sidecar, faults
}
