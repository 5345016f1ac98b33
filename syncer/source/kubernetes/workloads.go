package kubernetes

import (
	"maps"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/source"
)

// workloadEntryKind is the workloads outside the cluster: virtual machines, mostly.
var workloadEntryKind = customKind(source.KindWorkloadEntry,
	schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "workloadentries"},
	decodeWorkloadEntry)

func decodeWorkloadEntry(raw *unstructured.Unstructured) (metav1.Object, *fieldFault) {
	entry := &networkingv1.WorkloadEntry{ObjectMeta: identity(raw)}
	entry.Labels = raw.GetLabels()
	entry.Annotations = keep(raw.GetAnnotations(), source.HealthCheckAnnotation)
	if fault := decodeField(raw, "spec", &entry.Spec); fault != nil {
		return nil, fault
	}
	if fault := decodeField(raw, "status", &entry.Status); fault != nil {
		return nil, fault
	}
	entry.Spec.Network, entry.Spec.Locality, entry.Spec.ServiceAccount = "", "", ""
	entry.Status.ValidationMessages = nil
	for _, condition := range entry.Status.GetConditions() {
		condition.LastProbeTime, condition.LastTransitionTime = nil, nil
		condition.Reason, condition.Message = "", ""
	}
	return entry, nil
}

// podKind is the Pods of one namespace.
func podKind(namespace string) kind {
	return kind{
		name:     source.KindPod,
		of:       "in namespace " + namespace,
		resource: corev1.SchemeGroupVersion.WithResource("pods"),
		example:  &corev1.Pod{},
		// One that has ended has no address any more, and there may be very many.
		selector: selector{field: "status.phase!=Succeeded,status.phase!=Failed"},
		listWatch: func(c *clients) *cache.ListWatch {
			client := c.core.Pods(namespace)
			return listWatch(client.List, client.Watch)
		},
		trim: trimPod,
	}
}

func trimPod(object runtime.Object) metav1.Object {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil
	}
	trimmed := &corev1.Pod{
		ObjectMeta: identity(pod),
		Status:     corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP, PodIPs: pod.Status.PodIPs},
	}
	trimmed.Labels, trimmed.DeletionTimestamp = maps.Clone(pod.Labels), pod.DeletionTimestamp
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			trimmed.Status.Conditions = []corev1.PodCondition{{Type: condition.Type, Status: condition.Status}}
		}
	}
	return trimmed
}
