package source

import (
	"fmt"
	"maps"
	"strings"

	networkingv1alpha3 "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// KindSidecar is the kind of the objects that narrow what a VM sees. They yield no names.
const KindSidecar = "Sidecar"

const wantEgressHost = "NAMESPACE/NAME, of which the first is *, . or a namespace, after ~ to take it out, and the second *, *.SUFFIX or the full name of a service"

// observe tells the Sidecars of what they go by beside themselves.
func (s *Sidecars) observe(change Change) {
	if s == nil || change.Object.Kind != KindWorkloadEntry {
		return
	}
	if entry, there := change.State.(*networkingv1.WorkloadEntry); there {
		s.putWorkload(change.Object.Namespace, change.Object.Name, &sidecarWorkload{
			labels:  maps.Clone(workloadLabels(entry)),
			address: peerAddress(entry.Spec.GetAddress()),
			created: entry.CreationTimestamp.Time,
		})
	} else if change.State == nil {
		s.putWorkload(change.Object.Namespace, change.Object.Name, nil)
	}
}

// sidecar takes in a Sidecar. An egress host that cannot be read is left out, and the others count.
func (t *Translator) sidecar(d *draft, state *networkingv1.Sidecar) {
	d.rejectName("metadata.namespace", d.object.Namespace, wantLabel, validation.IsDNS1123Label(d.object.Namespace))
	if d.rejected || t.options.Sidecars == nil {
		return
	}
	s := &sidecar{
		object:   d.object,
		created:  state.CreationTimestamp.Time,
		selects:  state.Spec.GetWorkloadSelector() != nil,
		selector: maps.Clone(state.Spec.GetWorkloadSelector().GetLabels()),
	}
	for i, egress := range state.Spec.GetEgress() {
		s.egress = append(s.egress, egressListener{
			port:  listenerPort(egress.GetPort()),
			hosts: egressHosts(d, fmt.Sprintf("spec.egress[%d].hosts", i), egress.GetHosts()),
		})
	}
	t.options.Sidecars.put(s)
}

// listenerPort is the port that a service must have to be imported by a listener. A generic proxy listens on a
// port of its own, for services of any.
func listenerPort(port *networkingv1alpha3.SidecarPort) uint32 {
	if strings.EqualFold(port.GetProtocol(), "HTTP_PROXY") {
		return 0
	}
	return port.GetNumber()
}

// egressHosts are those that can be read.
func egressHosts(d *draft, field string, texts []string) []string {
	var hosts []string
	for i, text := range texts {
		if _, err := registry.ParseEgressHost(text, d.object.Namespace); err != nil {
			d.report(Partial, fmt.Sprintf("%s[%d]", field, i), err.Error(), wantEgressHost)
			continue
		}
		hosts = append(hosts, text)
	}
	return hosts
}

// destined says of resources that belong to a service of another name which it is, for those who see only some
// services.
func (t *Translator) destined(updates []registry.Update) []registry.Update {
	if t.options.Sidecars == nil {
		return updates
	}
	for _, update := range updates {
		for i := range update.Resources {
			resource := &update.Resources[i]
			resource.Destination = t.destination(update.Object, resource.Body)
		}
	}
	return updates
}

func (t *Translator) destination(object registry.Object, body *registryv1.Body) *registry.Destination {
	if slice := body.GetEndpointSlice(); slice != nil {
		return &registry.Destination{Host: slice.GetService() + "." + slice.GetNamespace() + ".svc." + t.options.ClusterDomain}
	}
	service := body.GetService()
	if service == nil || object.Kind != KindWorkloadEntry {
		return nil
	}
	if service.GetDerived() { // Its ports are numbered as those of the ServiceEntry.
		return &registry.Destination{Host: strings.TrimPrefix(service.GetHost(), object.Name+"."), Ports: portNumbers(service.GetPorts())}
	}
	// A share in a host of the ServiceEntry, which has the ports.
	entry := t.selections.of(object.Namespace).serviceEntries.named[service.GetName()]
	if entry == nil {
		return nil
	}
	return &registry.Destination{Host: service.GetHost(), Ports: portNumbers(entry.ports)}
}

// portNumbers are never nil: no ports are not the same as ports that are not known.
func portNumbers(ports []*registryv1.Port) []uint32 {
	numbers := make([]uint32, 0, len(ports))
	for _, port := range ports {
		numbers = append(numbers, port.GetNumber())
	}
	return numbers
}
