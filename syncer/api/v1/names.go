package registryv1

import (
	"iter"
	"strings"
)

// WildcardPrefix starts a host that stands for every name below it.
const WildcardPrefix = "*."

// CandidateHosts yields the hosts that may answer a name, the strongest first: the name itself,
// then wildcards, the longest suffix first, at any depth and never the apex. This is how Istio and
// Envoy match hosts. The name is fully qualified, lower case, without a trailing dot.
func CandidateHosts(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(name) {
			return
		}
		for {
			_, suffix, found := strings.Cut(name, ".")
			if !found || !yield(WildcardPrefix+suffix) {
				return
			}
			name = suffix
		}
	}
}

// ServiceKey is the key of the resource that a Kubernetes Service yields.
func ServiceKey(cluster, namespace, name string) string {
	return resourceKey("Service", cluster, namespace, name)
}

// ServiceEntryKey is the key of the resource that one host of a ServiceEntry yields.
func ServiceEntryKey(cluster, namespace, name, host string) string {
	return resourceKey("ServiceEntry", cluster, namespace, name, host)
}

// WorkloadEntryHostKey is the key of the resource by which a WorkloadEntry adds its addresses to a host of a
// ServiceEntry that selects it.
func WorkloadEntryHostKey(cluster, namespace, name, serviceEntry, host string) string {
	return resourceKey("WorkloadEntry", cluster, namespace, name, "host", serviceEntry, host)
}

// WorkloadEntryNameKey is the key of the resource that is a WorkloadEntry's own name below such a host.
func WorkloadEntryNameKey(cluster, namespace, name, serviceEntry, host string) string {
	return resourceKey("WorkloadEntry", cluster, namespace, name, "name", serviceEntry, host)
}

// WorkloadEntrySliceKey is the key of the resource by which a WorkloadEntry is an endpoint of a headless
// Service that selects it.
func WorkloadEntrySliceKey(cluster, namespace, name, service string) string {
	return resourceKey("WorkloadEntry", cluster, namespace, name, "slice", service)
}

// EndpointSliceKey is the key of the resource that an EndpointSlice yields.
func EndpointSliceKey(cluster, namespace, name string) string {
	return resourceKey("EndpointSlice", cluster, namespace, name)
}

// NamespaceKey is the key of the resource that a Namespace yields.
func NamespaceKey(cluster, name string) string {
	return resourceKey("Namespace", cluster, name)
}

// resourceKey joins with a slash, which no Kubernetes name and no host contains.
func resourceKey(kind, cluster string, parts ...string) string {
	key := kind
	if cluster != "" {
		key += "@" + cluster
	}
	return key + "/" + strings.Join(parts, "/")
}
