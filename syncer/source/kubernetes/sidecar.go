package kubernetes

import (
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshvm/meshvm/syncer/source"
)

// sidecarKind is what narrows the view of VMs, where that is asked for.
var sidecarKind = customKind(source.KindSidecar,
	schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "sidecars"},
	decodeSidecar)

// kinds that are followed.
func (s *Source) kinds() []kind {
	if s.config.Translation.Sidecars == nil {
		return kinds
	}
	return append(slices.Clone(kinds), sidecarKind)
}

func decodeSidecar(raw *unstructured.Unstructured) (metav1.Object, *fieldFault) {
	sidecar := &networkingv1.Sidecar{ObjectMeta: identity(raw)}
	if fault := decodeField(raw, "spec", &sidecar.Spec); fault != nil {
		return nil, fault
	}
	spec := &sidecar.Spec
	spec.Ingress, spec.InboundConnectionPool, spec.OutboundTrafficPolicy = nil, nil, nil
	for _, egress := range spec.GetEgress() {
		egress.Bind = ""
	}
	return sidecar, nil
}
