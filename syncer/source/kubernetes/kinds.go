package kubernetes

import (
	"context"
	"encoding/json"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/source"
)

// kind is a kind of object that is watched.
type kind struct {
	name     string
	resource schema.GroupVersionResource
	// definition is the custom resource definition that must be there. Empty: built in.
	definition string
	// versions are those that a kind with a definition is read in, the preferred first. See inVersion.
	versions []string
	// feed numbers the feed that the objects come from.
	feed     int
	selector selector
	// of tells it from the main kind of the same resource. Empty: it is that.
	of string
	// example is an object as the API server delivers it.
	example   runtime.Object
	listWatch func(*clients) *cache.ListWatch
	// trim keeps of an object what names depend on. It may modify and return its argument.
	trim func(runtime.Object) metav1.Object
}

// title names the kind for people.
func (k kind) title() string {
	title := k.resource.GroupResource().String()
	if k.of != "" {
		title += " " + k.of
	}
	return title
}

// selector limits what is listed and watched.
type selector struct{ label, field string }

func (s selector) apply(options *metav1.ListOptions) {
	options.LabelSelector, options.FieldSelector = s.label, s.field
}

// kinds that feed the registry.
var kinds = []kind{{
	name:     source.KindNamespace,
	resource: corev1.SchemeGroupVersion.WithResource("namespaces"),
	example:  &corev1.Namespace{},
	listWatch: func(c *clients) *cache.ListWatch {
		client := c.core.Namespaces()
		return listWatch(client.List, client.Watch)
	},
	trim: trimNamespace,
}, {
	name:     source.KindService,
	resource: corev1.SchemeGroupVersion.WithResource("services"),
	example:  &corev1.Service{},
	listWatch: func(c *clients) *cache.ListWatch {
		client := c.core.Services(metav1.NamespaceAll)
		return listWatch(client.List, client.Watch)
	},
	trim: trimService,
}, endpointSliceKind, workloadEntryKind, customKind(source.KindServiceEntry,
	schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"},
	decodeServiceEntry),
}

// endpointSliceKind is the slices that Kubernetes makes for headless Services. Those of all other Services
// would be most of what a cluster has, and yield nothing.
var endpointSliceKind = kind{
	name:     source.KindEndpointSlice,
	resource: discoveryv1.SchemeGroupVersion.WithResource("endpointslices"),
	example:  &discoveryv1.EndpointSlice{},
	selector: selector{label: corev1.IsHeadlessService},
	listWatch: func(c *clients) *cache.ListWatch {
		client := c.discovery.EndpointSlices(metav1.NamespaceAll)
		return listWatch(client.List, client.Watch)
	},
	trim: trimEndpointSlice,
}

// customKind is a kind backed by a custom resource definition. Its objects are read one by one:
// where a typed client fails a whole list for one object that does not decode, here that one object
// is named. Of Istio's kinds whichever version is served is read, see istioVersions; the version that is
// given here is that of the others.
func customKind(name string, resource schema.GroupVersionResource, decode func(*unstructured.Unstructured) (metav1.Object, *fieldFault)) kind {
	return kind{
		name:       name,
		resource:   resource,
		definition: resource.Resource + "." + resource.Group,
		versions:   versionsOf(resource),
		example:    &unstructured.Unstructured{},
		listWatch: func(c *clients) *cache.ListWatch {
			client := c.dynamic.Resource(resource)
			return listWatch(client.List, client.Watch)
		},
		trim: func(object runtime.Object) metav1.Object {
			raw, ok := object.(*unstructured.Unstructured)
			if !ok {
				return nil
			}
			decoded, fault := decode(raw)
			if fault != nil {
				return &undecodable{identity(raw), fault}
			}
			return decoded
		},
	}
}

func listWatch[L runtime.Object](
	list func(context.Context, metav1.ListOptions) (L, error),
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return list(ctx, options)
		},
		WatchFuncWithContext: watch,
	}
}

// undecodable stands for an object that could not be decoded.
type undecodable struct {
	metav1.ObjectMeta
	fault *fieldFault
}

// fieldFault is what is wrong with one field of an object.
type fieldFault struct {
	field string
	err   error
}

// identity is the metadata that every object keeps: its names, and what informers and precedence
// need.
func identity(object metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:         object.GetNamespace(),
		Name:              object.GetName(),
		UID:               object.GetUID(),
		ResourceVersion:   object.GetResourceVersion(),
		CreationTimestamp: object.GetCreationTimestamp(),
	}
}

// keep is one entry of labels or annotations, nil when it is not there.
func keep(all map[string]string, key string) map[string]string {
	if value, found := all[key]; found {
		return map[string]string{key: value}
	}
	return nil
}

func trimNamespace(object runtime.Object) metav1.Object {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return nil
	}
	return &corev1.Namespace{ObjectMeta: identity(namespace)}
}

// someSelector stands for any: of a Service with cluster IPs, that there is one is all that counts.
var someSelector = map[string]string{"": ""}

func trimService(object runtime.Object) metav1.Object {
	service, ok := object.(*corev1.Service)
	if !ok {
		return nil
	}
	trimmed := &corev1.Service{
		ObjectMeta: identity(service),
		Spec: corev1.ServiceSpec{
			Type:         service.Spec.Type,
			ClusterIP:    service.Spec.ClusterIP,
			ClusterIPs:   service.Spec.ClusterIPs,
			ExternalName: service.Spec.ExternalName,
		},
	}
	trimmed.Annotations = keep(service.Annotations, source.ExportToAnnotation)
	switch {
	case len(service.Spec.Selector) == 0:
	case source.Headless(service):
		trimmed.Spec.Selector = service.Spec.Selector
		trimmed.Spec.PublishNotReadyAddresses = service.Spec.PublishNotReadyAddresses
	default:
		trimmed.Spec.Selector = someSelector
	}
	for _, port := range service.Spec.Ports {
		trimmed.Spec.Ports = append(trimmed.Spec.Ports, corev1.ServicePort{
			Name: port.Name, Protocol: port.Protocol, Port: port.Port, TargetPort: port.TargetPort,
		})
	}
	return trimmed
}

func trimEndpointSlice(object runtime.Object) metav1.Object {
	slice, ok := object.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil
	}
	trimmed := &discoveryv1.EndpointSlice{
		ObjectMeta:  identity(slice),
		AddressType: slice.AddressType,
		Ports:       slice.Ports,
		Endpoints:   make([]discoveryv1.Endpoint, 0, len(slice.Endpoints)),
	}
	trimmed.Labels = keep(slice.Labels, discoveryv1.LabelServiceName)
	for _, endpoint := range slice.Endpoints {
		trimmed.Endpoints = append(trimmed.Endpoints, discoveryv1.Endpoint{
			Addresses: endpoint.Addresses, Conditions: endpoint.Conditions, Hostname: endpoint.Hostname,
			NodeName: endpoint.NodeName, Zone: endpoint.Zone,
		})
	}
	return trimmed
}

func decodeServiceEntry(raw *unstructured.Unstructured) (metav1.Object, *fieldFault) {
	entry := &networkingv1.ServiceEntry{ObjectMeta: identity(raw)}
	entry.Labels = keep(raw.GetLabels(), source.AutoAllocateLabel)
	if fault := decodeField(raw, "spec", &entry.Spec); fault != nil {
		return nil, fault
	}
	if fault := decodeField(raw, "status", &entry.Status); fault != nil {
		return nil, fault
	}
	for _, endpoint := range entry.Spec.GetEndpoints() {
		endpoint.Labels, endpoint.Ports = nil, nil
	}
	entry.Spec.SubjectAltNames = nil
	entry.Status.Conditions, entry.Status.ValidationMessages = nil, nil
	return entry, nil
}

// decodeField decodes a member of an object as Istio's types do: unknown fields are those of a
// newer Istio.
func decodeField(raw *unstructured.Unstructured, field string, into json.Unmarshaler) *fieldFault {
	content, found := raw.Object[field]
	if !found || content == nil {
		return nil
	}
	encoded, err := json.Marshal(content)
	if err == nil {
		err = into.UnmarshalJSON(encoded)
	}
	if err != nil {
		return &fieldFault{field, err}
	}
	return nil
}
