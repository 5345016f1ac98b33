package source

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// Headless reports whether a Service is answered by its endpoints.
func Headless(service *corev1.Service) bool {
	return service.Spec.Type != corev1.ServiceTypeExternalName && slices.Contains(clusterIPsOf(service), corev1.ClusterIPNone)
}

// service translates a Kubernetes Service, as CoreDNS's kubernetes plugin reads it.
func (t *Translator) service(d *draft, service *corev1.Service) {
	name := objectName{d.object.Namespace, d.object.Name}
	d.rejectName("metadata.name", name.name, wantLabel, validation.IsDNS1123Label(name.name))
	d.rejectName("metadata.namespace", name.namespace, wantLabel, validation.IsDNS1123Label(name.namespace))

	body := &registryv1.Service{
		Host:      name.name + "." + name.namespace + ".svc." + t.options.ClusterDomain,
		Namespace: name.namespace,
		Name:      name.name,
		Cluster:   t.options.Cluster,
		Origin:    registryv1.Origin_ORIGIN_KUBERNETES,
		Ports:     servicePorts(d, service.Spec.Ports),
		CreatedAt: createdAt(service.CreationTimestamp),
	}
	nameless := false
	switch {
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		body.ExternalName = externalName(d, service.Spec.ExternalName)
		nameless = body.GetExternalName() == ""
	case Headless(service):
		body.Headless = true
	default:
		body.Addresses = clusterAddresses(d, clusterIPsOf(service))
		body.AddressKind = registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP
	}

	visibility := t.visibility(d, "metadata.annotations["+ExportToAnnotation+"]", exportToOf(service))
	key, whole := registryv1.ServiceKey(t.options.Cluster, name.namespace, name.name), &registryv1.Body{Body: &registryv1.Body_Service{Service: body}}
	if !d.rejected {
		d.check(key, whole)
	}
	if d.rejected {
		return
	}
	delete(t.linked.gone, d.object)
	t.holdService(name, selectingServiceOf(service, body, visibility))
	t.services[name] = link{known: true, headless: body.GetHeadless(), visibility: visibility}
	if nameless {
		return
	}
	d.yield(key, visibility, whole)
}

// selectingServiceOf is a Service that selects WorkloadEntries, nil where it selects none: only those of
// headless ones are answered.
func selectingServiceOf(service *corev1.Service, body *registryv1.Service, visibility registry.Visibility) *selectingService {
	if !body.GetHeadless() || len(service.Spec.Selector) == 0 {
		return nil
	}
	return &selectingService{
		labels:          maps.Clone(service.Spec.Selector),
		visibility:      visibility,
		ports:           selectingPorts(service.Spec.Ports, body.GetPorts()),
		publishNotReady: service.Spec.PublishNotReadyAddresses,
	}
}

func clusterIPsOf(service *corev1.Service) []string {
	if len(service.Spec.ClusterIPs) > 0 {
		return service.Spec.ClusterIPs
	}
	if service.Spec.ClusterIP != "" {
		return []string{service.Spec.ClusterIP}
	}
	return nil
}

func clusterAddresses(d *draft, clusterIPs []string) [][]byte {
	if len(clusterIPs) == 0 {
		d.report(Served, "spec.clusterIP", "it is not set, so the name has no address", "a cluster IP, or None for a headless Service")
	}
	var addresses []netip.Addr
	for i, text := range clusterIPs {
		address, err := parseAddress(text)
		if err != nil {
			d.reject(fmt.Sprintf("spec.clusterIPs[%d]", i), fmt.Sprintf("%q: %v", text, err), wantAddress)
			continue
		}
		addresses = append(addresses, address)
	}
	return encodeAddresses(addresses)
}

// externalName is the target of a CNAME. An IP address is allowed by Kubernetes but is no target:
// there is no such name then, as in CoreDNS.
func externalName(d *draft, name string) string {
	const field = "spec.externalName"
	if _, err := netip.ParseAddr(strings.TrimSuffix(name, ".")); err == nil {
		d.report(Nameless, field, fmt.Sprintf("%q: an IP address is no target of a CNAME", name), "a DNS name")
		return ""
	}
	target, err := canonicalName(name)
	if err != nil {
		d.reject(field, fmt.Sprintf("%q: %v", name, err), "a DNS name")
	}
	return target
}

// exportToOf is the annotation's values. An empty annotation is none, as in Istio.
func exportToOf(service *corev1.Service) []string {
	annotation := strings.TrimSpace(service.Annotations[ExportToAnnotation])
	if annotation == "" {
		return nil
	}
	return strings.Split(annotation, ",")
}

// namespace translates a Namespace. One that is terminating still exists.
func (t *Translator) namespace(d *draft, state *corev1.Namespace) {
	d.rejectName("metadata.name", d.object.Name, wantLabel, validation.IsDNS1123Label(d.object.Name))
	if d.rejected {
		return
	}
	t.label(d.object.Name, state)
	d.yield(registryv1.NamespaceKey(t.options.Cluster, d.object.Name), registry.Public(),
		&registryv1.Body{Body: &registryv1.Body_Namespace{Namespace: &registryv1.Namespace{
			Name:    d.object.Name,
			Cluster: t.options.Cluster,
		}}})
}
