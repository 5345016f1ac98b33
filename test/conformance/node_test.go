package conformance

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
)

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

const (
	// clusterZone is the cluster's own domain: pointers are to names there.
	clusterZone = "cluster.local."
	// meshZone is another name for it.
	meshZone = "mesh.example.org."
	// serviceAddresses is the zone of Services' IPv4 addresses.
	serviceAddresses = "96.10.in-addr.arpa."
)

// clusterZones is the zones with the cluster's names, the same in each.
var clusterZones = []string{clusterZone, meshZone}

// zoneNames is zones as names, with the trailing dot.
var zoneNames = []string{
	clusterZone,
	meshZone,
	serviceAddresses,
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
		of = w.serviceAt(of.Spec.ExternalName)
		if count > maxAliases || of == nil || of.Spec.Type != corev1.ServiceTypeExternalName {
			return count
		}
	}
}

// serviceAt is the Service whose name a host is in one of the cluster's zones, nil if there is none.
func (w *world) serviceAt(host string) *corev1.Service {
	for _, zone := range clusterZones {
		labels, found := strings.CutSuffix(dns.Fqdn(host), ".svc."+zone)
		if name, namespace, both := strings.Cut(labels, "."); found && both {
			return w.services[objectName{namespace, name}]
		}
	}
	return nil
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
