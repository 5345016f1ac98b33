package conformance

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// objectName is where a namespaced object is.
type objectName struct{ namespace, name string }

// world is what a cluster holds at one time.
type world struct {
	namespaces map[string]*corev1.Namespace
	services   map[objectName]*corev1.Service
	slices     map[objectName]*discoveryv1.EndpointSlice
	// of is the slices of each Service, known or not.
	of map[objectName][]*discoveryv1.EndpointSlice
	// clusterIPs and endpoints are the Services of each address: of cluster IPs, and of ready endpoints.
	clusterIPs, endpoints map[netip.Addr][]objectName
}

// world is what the cluster holds now.
func (c *cluster) world() *world {
	c.t.Helper()
	w := &world{
		namespaces: map[string]*corev1.Namespace{},
		services:   map[objectName]*corev1.Service{},
		slices:     map[objectName]*discoveryv1.EndpointSlice{},
		of:         map[objectName][]*discoveryv1.EndpointSlice{},
		clusterIPs: map[netip.Addr][]objectName{},
		endpoints:  map[netip.Addr][]objectName{},
	}
	namespaces, err := c.clients.CoreV1().Namespaces().List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range namespaces.Items {
		w.namespaces[namespaces.Items[i].Name] = &namespaces.Items[i]
	}
	services, err := c.clients.CoreV1().Services("").List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range services.Items {
		w.addService(&services.Items[i])
	}
	slices, err := c.clients.DiscoveryV1().EndpointSlices("").List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range slices.Items {
		w.addSlice(&slices.Items[i])
	}
	return w
}

func (w *world) addService(service *corev1.Service) {
	name := objectName{service.Namespace, service.Name}
	w.services[name] = service
	for _, text := range service.Spec.ClusterIPs {
		if address, err := netip.ParseAddr(text); err == nil {
			w.clusterIPs[address] = append(w.clusterIPs[address], name)
		}
	}
}

func (w *world) addSlice(slice *discoveryv1.EndpointSlice) {
	w.slices[objectName{slice.Namespace, slice.Name}] = slice
	service := objectName{slice.Namespace, slice.Labels[discoveryv1.LabelServiceName]}
	w.of[service] = append(w.of[service], slice)
	for _, endpoint := range slice.Endpoints {
		if !isReady(endpoint) {
			continue
		}
		for _, text := range endpoint.Addresses {
			address := netip.MustParseAddr(text)
			if !slices.Contains(w.endpoints[address], service) {
				w.endpoints[address] = append(w.endpoints[address], service)
			}
		}
	}
}

func isReady(endpoint discoveryv1.Endpoint) bool {
	return endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
}

func isHeadless(service *corev1.Service) bool {
	return service != nil && service.Spec.Type != corev1.ServiceTypeExternalName && service.Spec.ClusterIP == corev1.ClusterIPNone
}

// endpointNames is the labels of a Service's ready endpoints.
func (w *world) endpointNames(service objectName) []string {
	var labels []string
	for _, slice := range w.of[service] {
		for _, endpoint := range slice.Endpoints {
			if !isReady(endpoint) {
				continue
			}
			for _, address := range endpoint.Addresses {
				labels = append(labels, endpointLabel(endpoint, address))
			}
		}
	}
	return labels
}

// endpointLabel is an endpoint's hostname, or else its address with dashes.
func endpointLabel(endpoint discoveryv1.Endpoint, address string) string {
	if endpoint.Hostname != nil && *endpoint.Hostname != "" {
		return *endpoint.Hostname
	}
	label := strings.NewReplacer(".", "-", ":", "-").Replace(address)
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	return label
}

// portOf is a port as names have it. Both are empty where a slice has no ports.
type portOf struct{ name, protocol string }

// ports is the ports that a Service can be asked for: its own, or those that its ready endpoints have.
func (w *world) ports(service objectName) []portOf {
	var ports []portOf
	of := w.services[service]
	if !isHeadless(of) {
		for _, port := range of.Spec.Ports {
			ports = append(ports, portOf{port.Name, strings.ToLower(string(port.Protocol))})
		}
		return ports
	}
	for _, slice := range w.of[service] {
		if !slices.ContainsFunc(slice.Endpoints, isReady) {
			continue
		}
		if len(slice.Ports) == 0 {
			ports = append(ports, portOf{})
		}
		for _, port := range slice.Ports {
			ports = append(ports, portOf{*port.Name, strings.ToLower(string(*port.Protocol))})
		}
	}
	return ports
}
