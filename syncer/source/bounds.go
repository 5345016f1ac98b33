package source

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// Bounds of one object. What Istio's CRD allows is below them, but older ones, and manifests, have no bounds: a
// small object must not become gigabytes, as thousands of hosts that each have thousands of addresses would.
const (
	// maxYield bounds what the resources of one ServiceEntry take on the wire, about, in bytes.
	maxYield = 16 << 20
	// maxSelectingHosts bounds the hosts of a ServiceEntry with a workloadSelector: each WorkloadEntry that it
	// selects has a part in every one of them.
	maxSelectingHosts = 256
	// maxExportTo bounds the namespaces that an object is exported to by name, and maxExported those times its hosts:
	// each namespace has a sum of what it sees.
	maxExportTo, maxExported = 4096, 1 << 18
	// maxProblems bounds the problems of one object that are told apart, and maxWhat the text of each, in bytes.
	maxProblems, maxWhat = 16, 400
)

// About what a resource, and a port and an address of it, take on the wire beyond their texts.
const (
	resourceBytes = 64
	portBytes     = 16
	addressBytes  = 18
)

// checkEntrySize rejects a ServiceEntry of which there is too much.
func checkEntrySize(d *draft, entry *networkingv1.ServiceEntry) {
	spec := &entry.Spec
	most := func(field string, count, limit int) {
		if count > limit {
			d.reject(field, fmt.Sprintf("there are %d", count), fmt.Sprintf("at most %d", limit))
		}
	}
	addresses := max(len(spec.GetAddresses()), len(spec.GetEndpoints()))
	most("spec.addresses", len(spec.GetAddresses()), registryv1.MaxAddresses)
	most("spec.endpoints", len(spec.GetEndpoints()), registryv1.MaxAddresses)
	most("spec.ports", len(spec.GetPorts()), registryv1.MaxPorts)
	most("spec.ports times addresses or endpoints", len(spec.GetPorts())*addresses, registryv1.MaxTargets)
	most("spec.hosts times spec.exportTo", len(spec.GetHosts())*len(spec.GetExportTo()), maxExported)
	if len(selectorOf(entry)) > 0 {
		most("spec.hosts beside a workloadSelector", len(spec.GetHosts()), maxSelectingHosts)
	}
	each := resourceBytes + len(d.object.Namespace) + 2*len(d.object.Name) + addresses*addressBytes
	for _, port := range spec.GetPorts() {
		each += len(port.GetName()) + portBytes
	}
	yield := len(spec.GetHosts()) * each
	for _, host := range spec.GetHosts() {
		yield += 2 * len(host) // In the key too.
	}
	if yield > maxYield {
		d.reject("spec.hosts", fmt.Sprintf("the %d hosts with their ports and addresses make %d bytes", len(spec.GetHosts()), yield), fmt.Sprintf("at most %d bytes", maxYield))
	}
}

// maxEndpoints is how many endpoints of Pods each host of a ServiceEntry may have. More are selected by no
// mistake of its author, but do not fit into an answer either.
func (e *selectingEntry) maxEndpoints() int {
	return min(registryv1.MaxAddresses, registryv1.MaxTargets/max(1, len(e.ports)), maxYield/addressBytes/max(1, len(e.hosts)))
}

// check rejects an object that yields a resource which no VM takes.
func (d *draft) check(key string, body *registryv1.Body) {
	if err := registryv1.CheckResource(key, proto.Size(body), body); err != nil {
		d.reject("metadata, spec", err.Error(), "what a VM takes")
	}
}

// sound is the updates but for those with a resource that no VM takes. None should have got this far; it would stop
// every VM that sees it from taking anything else.
func (b *batch) sound() []registry.Update {
	return slices.DeleteFunc(b.updates, func(update registry.Update) bool {
		draft := draft{object: update.Object}
		for _, resource := range update.Resources {
			draft.check(resource.Key, resource.Body)
		}
		b.problems = append(b.problems, draft.problems...)
		return draft.rejected
	})
}

// shown is a text of an object that is only shown, empty where it cannot be.
func (d *draft) shown(field, text string) string {
	if err := registryv1.CheckText(text); err != nil {
		d.report(Partial, field, fmt.Sprintf("%q %v", text, err), fmt.Sprintf("printable ASCII, at most %d long", registryv1.MaxText))
		return ""
	}
	return text
}

// clipped is a text of a problem, short enough for a log line.
func clipped(text string) string {
	if len(text) <= maxWhat {
		return text
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(text[:maxWhat], ""), len(text))
}
