// Package source turns Kubernetes and Istio objects into registry resources: what a Service, an
// EndpointSlice, a Namespace, a ServiceEntry or a WorkloadEntry means to DNS. The packages below it feed it, from an
// API server or from a folder of manifests, so that both give the same answers.
package source

// Kinds of objects that yield names, as Kubernetes spells them.
const (
	KindService       = "Service"
	KindEndpointSlice = "EndpointSlice"
	KindNamespace     = "Namespace"
	KindServiceEntry  = "ServiceEntry"
	KindWorkloadEntry = "WorkloadEntry"
	KindPod           = "Pod"
)

const (
	// ExportToAnnotation says who sees a Kubernetes Service, as spec.exportTo does for a
	// ServiceEntry: a comma separated list.
	ExportToAnnotation = "networking.istio.io/exportTo"
	// AutoAllocateLabel set to "false" opts a ServiceEntry out of virtual IPs.
	AutoAllocateLabel = "networking.istio.io/enable-autoallocate-ip"
)
