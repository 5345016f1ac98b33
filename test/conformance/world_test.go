package conformance

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
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

// kind is what a name stands for.
type kind string

// A name exists if it is of any kind but kindNothing, kindHidden, kindHiddenReverse and kindBelowPod.
const (
	kindForeign kind = "outside the zones"
	kindNothing kind = "nothing"
	kindApex    kind = "apex"
	// kindSection is svc.ZONE, pod.ZONE, and a namespace's name below them.
	kindSection    kind = "section"
	kindVersion    kind = "dns-version"
	kindNameServer kind = "name server"
	kindService    kind = "Service"
	kindHeadless   kind = "headless Service"
	kindAlias      kind = "alias"
	// kindEndless is an alias that leads to more aliases than a query may follow, perhaps in a circle.
	kindEndless kind = "endless alias"
	// kindBelowAlias is `_._.ALIAS`, any port of what has none.
	kindBelowAlias kind = "below an alias"
	kindEndpoint   kind = "endpoint"
	kindPort       kind = "port"
	// kindProtocol is `_tcp.SERVICE` of a Service with named ports, and nothing but the way to them.
	kindProtocol kind = "protocol"
	// kindWayToNameServer is dns.ZONE.
	kindWayToNameServer kind = "dns"
	kindPod             kind = "pod"
	kindBelowPod        kind = "below a pod"
	// kindHidden is an endpoint of a Service that is not headless.
	kindHidden  kind = "hidden endpoint"
	kindReverse kind = "reverse"
	// kindHiddenReverse is the address of endpoints of which none is a headless Service's.
	kindHiddenReverse kind = "hidden reverse"
	// kindBelowAddress is a reverse name of an address that CoreDNS knows, with one to three labels more.
	kindBelowAddress kind = "below an address"
	// kindForeignReverse is the address of a headless Service's endpoints in none of the zones.
	kindForeignReverse kind = "reverse outside the zones"
	// kindStray is a name in a reverse zone that means something in the cluster's.
	kindStray kind = "stray"
	// kindNetwork is a reverse name with fewer labels than an address has.
	kindNetwork kind = "network"
)

// node is what is at a name.
type node struct {
	kind kind
	// zone is the zone that the name is in, with the trailing dot.
	zone string
	// labels is the rest of the name, lower case.
	labels []string
	// service is the Service that the name belongs to, known or not.
	service objectName
	// address is what a reverse name stands for.
	address netip.Addr
	// spread tells types for which it matters that an endpoint has addresses in several slices; nil: none.
	spread func(qtype uint16) bool
	// behind is the Services with endpoints at the address, if one of them is not a headless Service that is
	// known and there is no cluster IP of this address.
	behind []objectName
}

func (n node) inReverseZone() bool { return strings.HasSuffix(n.zone, ".arpa.") }

const clusterZone = "cluster.local."

// zoneNames is zones as names, with the trailing dot.
var zoneNames = []string{
	clusterZone,
	"96.10.in-addr.arpa.",
	"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.",
	"244.10.in-addr.arpa.",
	"0.0.0.0.4.4.2.0.0.1.0.0.0.0.d.f.ip6.arpa.",
}

// at is what is at a name, in the plugin's own reading of Kubernetes' naming and of DNS.
func (w *world) at(name string) node {
	name = strings.ToLower(name)
	for _, zone := range zoneNames {
		if !dns.IsSubDomain(zone, name) {
			continue
		}
		labels := dns.SplitDomainName(name)
		n := node{kind: kindNothing, zone: zone, labels: labels[:len(labels)-dns.CountLabel(zone)]}
		switch {
		case len(n.labels) == 0:
			n.kind = kindApex
		case n.inReverseZone():
			w.readReverse(&n, labels)
		default:
			w.readForward(&n)
			if at := n; isHeadless(w.services[n.service]) {
				n.spread = func(qtype uint16) bool { return w.spreadAt(at, qtype).shows(qtype) }
			}
		}
		return n
	}
	n := node{kind: kindForeign}
	if labels := dns.SplitDomainName(name); len(labels) > 2 && labels[len(labels)-1] == "arpa" {
		w.readReverse(&n, labels)
		if n.kind == kindReverse {
			return node{kind: kindForeignReverse, address: n.address}
		}
	}
	return node{kind: kindForeign}
}

func (w *world) readForward(n *node) {
	labels := n.labels
	last := len(labels) - 1
	switch labels[last] {
	case "svc", "pod":
		switch {
		case last == 0:
			n.kind = kindSection
		case w.namespaces[labels[last-1]] == nil:
		case last == 1:
			n.kind = kindSection
		case labels[last] == "pod":
			if _, valid := podAddress(labels[last-2]); valid && last <= 4 {
				n.kind = kindBelowPod
				if last == 2 {
					n.kind = kindPod
				}
			}
		default:
			n.service = objectName{labels[last-1], labels[last-2]}
			w.readService(n, labels[:last-2])
		}
	case "dns":
		switch {
		case last == 0:
			n.kind = kindWayToNameServer
		case last == 1 && labels[0] == "ns":
			n.kind = kindNameServer
		}
	case "dns-version":
		if last == 0 {
			n.kind = kindVersion
		}
	}
}

// readService reads the labels before a Service's name.
func (w *world) readService(n *node, below []string) {
	of := w.services[n.service]
	switch {
	case of == nil:
	case of.Spec.Type == corev1.ServiceTypeExternalName:
		switch _, err := netip.ParseAddr(of.Spec.ExternalName); {
		case err == nil: // An address is no target.
		case len(below) == 0 && w.aliases(of) > maxAliases:
			n.kind = kindEndless
		case len(below) == 0:
			n.kind = kindAlias
		case slices.Equal(below, []string{"_", "_"}):
			n.kind = kindBelowAlias
		}
	case len(below) == 0 && !isHeadless(of):
		n.kind = kindService
	case len(below) == 0:
		if len(w.endpointNames(n.service)) > 0 {
			n.kind = kindHeadless
		}
	case len(below) == 1:
		label, underscored := strings.CutPrefix(below[0], "_")
		switch {
		case !underscored && !slices.Contains(w.endpointNames(n.service), below[0]):
		case !underscored && isHeadless(of):
			n.kind = kindEndpoint
		case !underscored:
			n.kind = kindHidden
		case slices.ContainsFunc(w.ports(n.service), func(p portOf) bool { return p.name != "" && p.protocol == label }):
			n.kind = kindProtocol
		}
	case len(below) == 2:
		name, protocol := strings.TrimPrefix(below[0], "_"), strings.TrimPrefix(below[1], "_")
		if slices.ContainsFunc(w.ports(n.service), func(p portOf) bool {
			return (name == "" || name == p.name) && (protocol == "" || protocol == p.protocol)
		}) {
			n.kind = kindPort
		}
	}
}

// maxAliases is how many aliases a query may follow.
const maxAliases = 11

// aliases is how many aliases one leads through, itself included, and one more than are allowed if there is
// no end.
func (w *world) aliases(of *corev1.Service) int {
	for count := 1; ; count++ {
		labels := strings.Split(strings.TrimSuffix(of.Spec.ExternalName, ".svc.cluster.local"), ".")
		if count > maxAliases || len(labels) != 2 {
			return count
		}
		if of = w.services[objectName{labels[1], labels[0]}]; of == nil || of.Spec.Type != corev1.ServiceTypeExternalName {
			return count
		}
	}
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

// readReverse reads a name in a reverse zone.
func (w *world) readReverse(n *node, labels []string) {
	switch strings.Join(n.labels, ".") {
	case "ns.dns":
		n.kind = kindNameServer
		return
	case "dns":
		n.kind = kindWayToNameServer
		return
	case "svc", "pod", "dns-version":
		n.kind = kindStray
		return
	}
	family := labels[len(labels)-2]
	digits := slices.Clone(labels[:len(labels)-2])
	slices.Reverse(digits)
	address, whole, valid := readDigits(family, digits)
	switch {
	case !valid:
		if extra := len(digits) - 32; family == "ip6" && extra > 0 && extra <= 3 {
			if address, _, valid := readDigits(family, digits[:32]); valid && len(w.clusterIPs[address])+len(w.endpoints[address]) > 0 {
				n.kind = kindBelowAddress
			}
		}
	case !whole:
		n.kind = kindNetwork
	default:
		n.address = address
		w.readAddress(n)
	}
}

func (w *world) readAddress(n *node) {
	if len(w.clusterIPs[n.address]) > 0 {
		n.kind = kindReverse
		return
	}
	behind := w.endpoints[n.address]
	headless := 0
	for _, name := range behind {
		if isHeadless(w.services[name]) {
			headless++
		}
	}
	switch {
	case headless > 0:
		n.kind = kindReverse
	case len(behind) > 0:
		n.kind = kindHiddenReverse
	}
	if headless < len(behind) {
		n.behind = behind
	}
}

// pointers is the PTR records of an address at a name, in words, as far as headless Services have it.
func (w *world) pointers(name string, address netip.Addr) []string {
	var pointers []string
	for _, service := range w.endpoints[address] {
		if !isHeadless(w.services[service]) {
			continue
		}
		for _, slice := range w.of[service] {
			for _, endpoint := range slice.Endpoints {
				if isReady(endpoint) && slices.Contains(endpoint.Addresses, address.String()) {
					pointers = append(pointers, strings.ToLower(name+" ptr "+endpointLabel(endpoint, address.String())+"."+service.name+"."+service.namespace+".svc."+clusterZone))
				}
			}
		}
	}
	slices.Sort(pointers)
	return slices.Compact(pointers)
}

// readDigits reads an address, first digit first, and tells one that is not whole.
func readDigits(family string, digits []string) (address netip.Addr, whole, valid bool) {
	want, join := 4, func(digits []string) string { return strings.Join(digits, ".") }
	if family == "ip6" {
		want = 32
		join = func(digits []string) string {
			var text strings.Builder
			for i, digit := range digits {
				if len(digit) != 1 {
					return ""
				}
				if i > 0 && i%4 == 0 {
					text.WriteByte(':')
				}
				text.WriteString(digit)
			}
			return text.String()
		}
	}
	if len(digits) > want {
		return netip.Addr{}, false, false
	}
	whole = len(digits) == want
	for len(digits) < want {
		digits = append(digits, "0")
	}
	address, err := netip.ParseAddr(join(digits))
	return address, whole, err == nil
}

// podAddress is the address that a pod's label stands for.
func podAddress(label string) (netip.Addr, bool) {
	separator := ":"
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		separator = "."
	}
	address, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator))
	return address, err == nil && address.Zone() == ""
}
