package conformance

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func compareNames(a, b objectName) int {
	return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
}

// mutations is the second life of a seed's objects: some go, some come, some become something else.
func (g *generator) mutations(w, before *world) []change {
	fresh := g.freshNamespaces()
	dying := fresh[0]
	var changes, last []change
	for _, name := range slices.SortedFunc(maps.Keys(w.services), compareNames) {
		switch {
		case before.services[name] != nil:
		case name.namespace == dying:
			last = append(last, remove(w.services[name]))
		case g.chance(50):
			changes = append(changes, g.mutateService(w.services[name], w.of[name]))
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(w.slices), compareNames) {
		slice := w.slices[name]
		service := objectName{name.namespace, slice.Labels[discoveryv1.LabelServiceName]}
		switch {
		case before.slices[name] != nil:
		case name.namespace == dying:
			last = append(last, remove(slice))
		// A slice of a known Service is that Service's to change, or not at all.
		case w.services[service] == nil && g.chance(50):
			changes = append(changes, remove(slice))
		}
	}
	last = append(last, remove(w.namespaces[dying]))
	changes = append(changes, inOrder(last...), create(namespaceNamed(dying+"-again")))
	g.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	return changes
}

// mutateService changes a Service, its slices, or both.
func (g *generator) mutateService(service *corev1.Service, of []*discoveryv1.EndpointSlice) change {
	name := objectName{service.Namespace, service.Name}
	of = slices.SortedFunc(slices.Values(of), func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	var removal []change
	for _, slice := range of {
		removal = append(removal, remove(slice))
	}
	headless := isHeadless(service)
	switch g.IntN(10) {
	case 0: // It goes, and its slices after it.
		return inOrder(append([]change{remove(service)}, removal...)...)
	case 1: // It goes, and its slices stay for now.
		return remove(service)
	case 2: // It becomes another of the same name.
		return inOrder(append(append(removal, remove(service)), g.serviceAndSlices(name)...)...)
	case 3: // Another spec is put into the same object.
		return g.respec(service, removal)
	case 4: // Only the slices go.
		return inOrder(removal...)
	}
	var changes []change
	if g.chance(30) && service.Spec.Type != corev1.ServiceTypeExternalName {
		changed := service.DeepCopy()
		changed.Spec.Ports = g.servicePorts(1)
		changes = append(changes, update(changed))
	}
	for _, slice := range of {
		if g.chance(70) {
			changes = append(changes, update(g.mutateSlice(slice)))
		}
	}
	if headless && g.chance(40) {
		changes = append(changes, create(g.slice(name, service.Spec.Ports, true)))
	}
	return inOrder(changes...)
}

// respec turns a Service into one of another kind without deleting it: an alias gets a cluster IP, a Service
// with a cluster IP becomes an alias or gets its second address.
func (g *generator) respec(service *corev1.Service, removal []change) change {
	changed := service.DeepCopy()
	name := objectName{service.Namespace, service.Name}
	switch {
	case service.Spec.Type == corev1.ServiceTypeExternalName && g.chance(50):
		changed.Spec.ExternalName = g.externalName(name)
		return update(changed)
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		changed.Spec = g.clusterSpec()
		return update(changed)
	case !isHeadless(service) && len(service.Spec.ClusterIPs) == 1 && g.chance(50):
		policy := corev1.IPFamilyPolicyPreferDualStack
		changed.Spec.IPFamilyPolicy = &policy
		return update(changed)
	}
	changed.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: g.externalName(name)}
	return inOrder(append(removal, update(changed))...)
}

// mutateSlice changes the endpoints of a slice, its ports, or both.
func (g *generator) mutateSlice(slice *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	changed := slice.DeepCopy()
	switch g.IntN(5) {
	case 0:
		changed.Endpoints = nil
	case 1:
		changed.Ports = g.slicePorts(g.servicePorts(0))
	case 2:
		for i := range changed.Endpoints {
			changed.Endpoints[i] = g.endpoint(changed.AddressType)
		}
	}
	for i := range changed.Endpoints {
		if g.chance(60) {
			changed.Endpoints[i].Conditions = g.conditions()
		}
	}
	if g.chance(50) {
		changed.Endpoints = append(changed.Endpoints, g.endpoint(changed.AddressType))
	}
	return changed
}
