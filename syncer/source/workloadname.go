package source

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// workloadUpdates are what a WorkloadEntry yields: for each ServiceEntry that selects it, a share of the hosts
// that endpoints answer and a name of its own below every host; for each headless Service that selects it, a
// slice. It has resources of its own, so that a change of one costs the same whether it is one of two or of a
// thousand; and those for each that selects it are apart, so that the shrink guard can keep them together with
// that one.
//
// An unhealthy one yields the same, but nobody sees it. So an explanation can tell why.
func (t *Translator) workloadUpdates(d *draft, name objectName) []registry.Update {
	selection := t.selections.of(name.namespace)
	w := selection.entries.named[name.name]
	was, is := t.yielded[name], map[registry.Owner]bool{}
	var updates []registry.Update
	yield := func(owner registry.Owner, present bool, resources ...registry.Resource) {
		object := t.object(KindWorkloadEntry, name)
		object.Of = owner
		updates = append(updates, registry.Update{Object: object, Resources: resources, Present: present})
		is[owner] = len(resources) > 0
	}
	if w != nil && len(w.addresses) > 0 {
		for _, selecting := range selection.serviceEntries.selecting(w) {
			if hosts := t.workloadHosts(d, name, w, selecting, selection.serviceEntries.named[selecting]); len(hosts) > 0 {
				yield(registry.Owner{Kind: KindServiceEntry, Name: selecting}, true, hosts...)
			}
		}
		for _, selecting := range selection.services.selecting(w) {
			yield(registry.Owner{Kind: KindService, Name: selecting}, true, t.workloadSlice(name, w, selecting, selection.services.named[selecting]))
		}
	}
	for _, owner := range slices.SortedFunc(maps.Keys(was), compareOwners) {
		if !is[owner] {
			gone := t.linked.gone[t.object(owner.Kind, objectName{name.namespace, owner.Name})]
			yield(owner, w != nil && !gone)
		}
	}
	maps.DeleteFunc(is, func(_ registry.Owner, yields bool) bool { return !yields })
	if len(is) == 0 {
		delete(t.yielded, name)
	} else {
		t.yielded[name] = is
	}
	return updates
}

func compareOwners(a, b registry.Owner) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
}

// workloadHosts is a WorkloadEntry's part in the hosts of a ServiceEntry that selects it.
func (t *Translator) workloadHosts(d *draft, name objectName, w *workload, selecting string, entry *selectingEntry) []registry.Resource {
	visibility := entry.visibility
	if !w.healthy {
		visibility = registry.Nobody()
	}
	addresses := encodeAddresses(w.addresses)
	var resources []registry.Resource
	add := func(key string, service *registryv1.Service) {
		service.Addresses, service.AddressKind = addresses, registryv1.AddressKind_ADDRESS_KIND_ENDPOINT
		resources = append(resources, registry.Resource{
			Key: key, Visibility: visibility, Body: &registryv1.Body{Body: &registryv1.Body_Service{Service: service}},
		})
	}
	for _, host := range entry.hosts {
		if entry.addresses.answersEndpoints(host) {
			// Its ports are those that the ServiceEntry's own claim has.
			add(registryv1.WorkloadEntryHostKey(t.options.Cluster, name.namespace, name.name, selecting, host),
				t.entryBody(objectName{name.namespace, selecting}, entry, host))
		}
		if w.hostname == "" || strings.HasPrefix(host, registryv1.WildcardPrefix) {
			continue
		}
		own := w.hostname + "." + host
		if len(own) > maxNameLength || 1+strings.Count(own, ".") > registryv1.MaxLabels {
			d.report(Partial, "metadata.name", fmt.Sprintf("%q below host %q of ServiceEntry %s: it is longer than %d, or has more than %d labels", w.hostname, host, selecting, maxNameLength, registryv1.MaxLabels), "a shorter name")
			continue
		}
		body := t.entryBody(name, entry, own)
		body.Derived, body.Ports = true, w.entryPorts(entry.ports)
		add(registryv1.WorkloadEntryNameKey(t.options.Cluster, name.namespace, name.name, selecting, host), body)
	}
	return resources
}

// entryPorts are a ServiceEntry's ports as they are found at the workload.
func (w *workload) entryPorts(ports []*registryv1.Port) []*registryv1.Port {
	own := make([]*registryv1.Port, len(ports))
	for i, port := range ports {
		own[i] = port
		if number, found := w.ports[port.GetName()]; found {
			own[i] = &registryv1.Port{Name: port.GetName(), Number: port.GetNumber(), Protocol: port.GetProtocol(), Target: number}
		}
	}
	return own
}

// workloadSlice is a WorkloadEntry as an endpoint of a headless Service that selects it.
func (t *Translator) workloadSlice(name objectName, w *workload, selecting string, service *selectingService) registry.Resource {
	endpoint := &registryv1.Endpoint{
		Addresses: encodeAddresses(w.addresses),
		Ready:     w.healthy || service.publishNotReady,
		Serving:   w.healthy,
	}
	if strings.Contains(w.hostname, ".") {
		endpoint.Name = w.hostname
	} else {
		endpoint.Hostname = w.hostname
	}
	slice := &registryv1.EndpointSlice{
		Namespace: name.namespace,
		Name:      name.name,
		Cluster:   t.options.Cluster,
		Service:   selecting,
		Endpoints: []*registryv1.Endpoint{endpoint},
	}
	for _, port := range service.ports {
		number := port.target
		if port.targetName != "" {
			number = w.ports[strings.ToLower(port.targetName)]
		}
		// Of a port that the workload does not have, as of one that a Pod does not have, nothing is said.
		if number != 0 {
			slice.Ports = append(slice.Ports, &registryv1.Port{Name: port.name, Number: number, Protocol: port.protocol, Target: number})
		}
	}
	return registry.Resource{
		Key:        registryv1.WorkloadEntrySliceKey(t.options.Cluster, name.namespace, name.name, selecting),
		Visibility: service.visibility,
		Body:       &registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: slice}},
	}
}

// podAddresses are the addresses of the Pods that a selector selects and that are answered, in order, each
// once.
func (s *selection) podAddresses(selector map[string]string) []netip.Addr {
	var addresses []netip.Addr
	for _, pod := range s.pods.selectedBy(selector) {
		addresses = append(addresses, pod.addresses...)
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}
