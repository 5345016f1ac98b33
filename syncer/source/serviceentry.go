package source

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// serviceEntry translates an Istio ServiceEntry: one resource for each of its hosts.
func (t *Translator) serviceEntry(d *draft, entry *networkingv1.ServiceEntry) {
	visibility := t.checkEntry(d, entry)
	if d.rejected {
		return
	}

	translated := &selectingEntry{
		labels:     maps.Clone(selectorOf(entry)),
		visibility: visibility,
		addresses:  readEntryAddresses(d, entry),
		ports:      entryPorts(d, entry.Spec.GetPorts()),
		hosts:      entryHosts(d, entry.Spec.GetHosts()),
		createdAt:  createdAt(entry.CreationTimestamp),
	}
	translated.held = t.virtualIPs.see(d.object, entry, translated.hosts, translated.addresses)
	name := objectName{d.object.Namespace, d.object.Name}
	delete(t.linked.gone, d.object)
	if len(translated.labels) > 0 {
		t.holdServiceEntry(name, translated)
	} else {
		t.holdServiceEntry(name, nil)
	}
	d.resources = t.entryResources(name, translated)
}

// entryResources are what a ServiceEntry yields: one resource for each of its hosts.
func (t *Translator) entryResources(name objectName, entry *selectingEntry) []registry.Resource {
	endpoints := entry.addresses.endpoints
	if len(entry.labels) > 0 {
		endpoints = t.selections.of(name.namespace).podAddresses(entry.labels)
		endpoints = endpoints[:min(len(endpoints), entry.maxEndpoints())]
	}
	encoded := encodeAddresses(endpoints)
	resources := make([]registry.Resource, 0, len(entry.hosts))
	for _, host := range entry.hosts {
		body := t.entryBody(name, entry, host)
		body.Ports = entry.ports
		body.Addresses, body.AddressKind = entry.addresses.of(host)
		if body.GetAddresses() == nil && entry.addresses.answersEndpoints(host) && len(endpoints) > 0 {
			body.Addresses, body.AddressKind = encoded, registryv1.AddressKind_ADDRESS_KIND_ENDPOINT
		}
		if len(body.GetAddresses()) == 0 && entry.held[host] {
			body.AddressKind = registryv1.AddressKind_ADDRESS_KIND_PENDING
		}
		resources = append(resources, registry.Resource{
			Key:        registryv1.ServiceEntryKey(t.options.Cluster, name.namespace, name.name, host),
			Visibility: entry.visibility,
			Body:       &registryv1.Body{Body: &registryv1.Body_Service{Service: body}},
		})
	}
	return resources
}

// entryBody is a host of a ServiceEntry, without ports and addresses.
func (t *Translator) entryBody(name objectName, entry *selectingEntry, host string) *registryv1.Service {
	return &registryv1.Service{
		Host:      host,
		Namespace: name.namespace,
		Name:      name.name,
		Cluster:   t.options.Cluster,
		Origin:    registryv1.Origin_ORIGIN_SERVICE_ENTRY,
		CreatedAt: entry.createdAt,
	}
}

// checkEntry rejects a ServiceEntry of which nothing can be taken, and reads who sees it.
func (t *Translator) checkEntry(d *draft, entry *networkingv1.ServiceEntry) registry.Visibility {
	d.rejectName("metadata.name", d.object.Name, wantSubdomain, validation.IsDNS1123Subdomain(d.object.Name))
	d.rejectName("metadata.namespace", d.object.Namespace, wantLabel, validation.IsDNS1123Label(d.object.Namespace))
	visibility := t.visibility(d, "spec.exportTo", entry.Spec.GetExportTo())
	if len(entry.Spec.GetHosts()) == 0 {
		d.reject("spec.hosts", "it is empty", "at least one host")
	}
	checkEntrySize(d, entry)
	return visibility
}

// Accepts reports whether Translate would take a change of a ServiceEntry. Other objects it does not judge.
func (t *Translator) Accepts(change Change) bool {
	entry, isEntry := change.State.(*networkingv1.ServiceEntry)
	if !isEntry {
		return true
	}
	draft := draft{object: change.Object}
	t.checkEntry(&draft, entry)
	return !draft.rejected
}

// entryHosts are the hosts that can be served. An invalid one does not touch the others.
func entryHosts(d *draft, hosts []string) []string {
	valid := make([]string, 0, len(hosts))
	seen := make(map[string]bool, len(hosts))
	for i, text := range hosts {
		host, err := canonicalHost(text)
		if err != nil {
			d.report(Partial, fmt.Sprintf("spec.hosts[%d]", i), fmt.Sprintf("%q: %v", text, err), wantHost)
			continue
		}
		if !seen[host] {
			seen[host] = true
			valid = append(valid, host)
		}
	}
	return valid
}

// entryAddresses is where the addresses of a ServiceEntry's hosts may come from, the strongest
// first: its spec, the virtual IPs in its status, its own endpoints.
type entryAddresses struct {
	literals  []netip.Addr
	encoded   [][]byte // The literals as they travel.
	due       bool     // Whether hosts are due virtual IPs.
	virtual   map[string]virtualIPs
	wildcards bool // Whether wildcard hosts may have virtual IPs.
	// byEndpoints is whether hosts without any other address are answered by endpoints, and endpoints are the
	// ServiceEntry's own.
	byEndpoints bool
	endpoints   []netip.Addr
}

func (a entryAddresses) equal(other entryAddresses) bool {
	return slices.Equal(a.literals, other.literals) && maps.Equal(a.virtual, other.virtual) && a.wildcards == other.wildcards &&
		a.byEndpoints == other.byEndpoints && slices.Equal(a.endpoints, other.endpoints)
}

// virtualIPs are a host's, at most one of each family.
type virtualIPs struct{ v4, v6 netip.Addr }

// all are the addresses that there are, IPv4 first.
func (ips virtualIPs) all() []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{ips.v4, ips.v6}, func(a netip.Addr) bool { return !a.IsValid() })
}

func readEntryAddresses(d *draft, entry *networkingv1.ServiceEntry) entryAddresses {
	addresses := entryAddresses{literals: entryLiterals(d, entry.Spec.GetAddresses())}
	addresses.encoded = encodeAddresses(addresses.literals)
	resolution := entry.Spec.GetResolution()
	if addresses.due = hasVirtualIPs(entry); addresses.due {
		addresses.virtual = entryVirtualIPs(d, entry.Status.GetAddresses())
		addresses.wildcards = resolution == networking.ServiceEntry_DYNAMIC_DNS
	}
	addresses.byEndpoints = resolution == networking.ServiceEntry_NONE || resolution == networking.ServiceEntry_STATIC
	switch selector := selectorOf(entry); {
	case selector != nil:
		// Istio takes no endpoints beside a selector.
		if len(entry.Spec.GetEndpoints()) > 0 {
			d.report(Partial, "spec.endpoints", "there is a workloadSelector as well, which counts alone", "endpoints or a workloadSelector")
		}
		if len(selector) == 0 {
			d.report(Served, "spec.workloadSelector.labels", "it is empty and selects nothing", "at least one label")
		}
	case addresses.byEndpoints:
		for _, endpoint := range entry.Spec.GetEndpoints() {
			// Names and Unix sockets are valid here but answer nothing.
			if address, err := parseAddress(endpoint.GetAddress()); err == nil {
				addresses.endpoints = append(addresses.endpoints, address)
			}
		}
	}
	return addresses
}

// of is the addresses that a host has whatever its endpoints are.
func (a entryAddresses) of(host string) ([][]byte, registryv1.AddressKind) {
	if len(a.literals) > 0 {
		return a.encoded, registryv1.AddressKind_ADDRESS_KIND_LITERAL
	}
	if a.wildcards || !strings.HasPrefix(host, registryv1.WildcardPrefix) {
		if addresses := a.virtual[host].all(); len(addresses) > 0 {
			return encodeAddresses(addresses), registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP
		}
	}
	return nil, registryv1.AddressKind_ADDRESS_KIND_UNSPECIFIED
}

// answersEndpoints reports whether a host is answered by endpoints, if there are any.
func (a entryAddresses) answersEndpoints(host string) bool {
	_, kind := a.of(host)
	return a.byEndpoints && kind == registryv1.AddressKind_ADDRESS_KIND_UNSPECIFIED
}

// entryLiterals are the addresses in the spec. A network of one address is that address; a larger
// one cannot stand in a record.
func entryLiterals(d *draft, texts []string) []netip.Addr {
	var addresses []netip.Addr
	for i, text := range texts {
		single := text
		if prefix, err := netip.ParsePrefix(text); err == nil {
			if !prefix.IsSingleIP() {
				d.report(Partial, fmt.Sprintf("spec.addresses[%d]", i),
					fmt.Sprintf("%q: a network of more than one address answers no query", text), "an address, a /32 or a /128")
				continue
			}
			single = prefix.Addr().String()
		}
		address, err := parseAddress(single)
		if err != nil {
			d.report(Partial, fmt.Sprintf("spec.addresses[%d]", i), fmt.Sprintf("%q: %v", text, err), "an address, a /32 or a /128")
			continue
		}
		addresses = append(addresses, address)
	}
	return addresses
}

// entryVirtualIPs are the last address of each family that the status gives each host. Hosts that
// are no longer in the spec are never asked for.
func entryVirtualIPs(d *draft, status []*networking.ServiceEntryAddress) map[string]virtualIPs {
	virtual := make(map[string]virtualIPs, len(status))
	for i, entry := range status {
		address, err := parseAddress(entry.GetValue())
		if err != nil {
			d.report(Partial, fmt.Sprintf("status.addresses[%d].value", i), fmt.Sprintf("%q: %v", entry.GetValue(), err), wantAddress)
			continue
		}
		host, err := canonicalHost(entry.GetHost())
		if err != nil {
			d.report(Partial, fmt.Sprintf("status.addresses[%d].host", i), fmt.Sprintf("%q: %v", entry.GetHost(), err), wantHost)
			continue
		}
		ips := virtual[host]
		if address.Is4() {
			ips.v4 = address
		} else {
			ips.v6 = address
		}
		virtual[host] = ips
	}
	return virtual
}
