package source

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// selection is what selects workloads in one namespace, and what there is to select: nothing selects across
// namespaces. The zero value is for reading.
type selection struct {
	// serviceEntries are those with a workloadSelector, services the headless ones with a selector.
	serviceEntries selectors[*selectingEntry]
	services       selectors[*selectingService]
	// entries are WorkloadEntries.
	entries, pods workloads
}

// selections are those of all namespaces that have any.
type selections map[string]*selection

// of is the selection of a namespace to look into.
func (s selections) of(namespace string) *selection {
	if held := s[namespace]; held != nil {
		return held
	}
	return &selection{}
}

// edit changes the selection of a namespace. One that has nothing any more is forgotten.
func (s selections) edit(namespace string, change func(*selection)) {
	held := s[namespace]
	if held == nil {
		held = &selection{newSelectors[*selectingEntry](), newSelectors[*selectingService](), newWorkloads(), newWorkloads()}
		s[namespace] = held
	}
	change(held)
	if len(held.serviceEntries.named)+len(held.services.named)+len(held.entries.named)+len(held.pods.named) == 0 {
		delete(s, namespace)
	}
}

// selectingEntry is a ServiceEntry as the workloads that it selects need it. It is immutable.
type selectingEntry struct {
	labels     map[string]string
	visibility registry.Visibility
	hosts      []string
	ports      []*registryv1.Port
	createdAt  int64
	addresses  entryAddresses
	// held are the hosts that have no address for a while yet.
	held map[string]bool
}

// selectorOf is the labels that a ServiceEntry selects workloads by, nil where it has no selector.
func selectorOf(entry *networkingv1.ServiceEntry) map[string]string {
	selector := entry.Spec.GetWorkloadSelector()
	switch {
	case selector == nil:
		return nil
	case selector.GetLabels() == nil:
		return map[string]string{}
	}
	return selector.GetLabels()
}

// SelectsPods reports whether the addresses of Pods, if it selects any, are answers of a ServiceEntry: it has
// a selector, and a host that endpoints answer.
func SelectsPods(entry *networkingv1.ServiceEntry) bool {
	if len(selectorOf(entry)) == 0 {
		return false
	}
	var unheard draft
	addresses := readEntryAddresses(&unheard, entry)
	return slices.ContainsFunc(entryHosts(&unheard, entry.Spec.GetHosts()), addresses.answersEndpoints)
}

// selectingService is a headless Service as the workloads that it selects need it. It is immutable.
type selectingService struct {
	labels     map[string]string
	visibility registry.Visibility
	ports      []selectingPort
	// publishNotReady has workloads answered whether healthy or not.
	publishNotReady bool
}

// selectingPort is a port of a Service, and where it is found at what the Service selects.
type selectingPort struct {
	name     string
	protocol registryv1.Protocol
	// target is the port's number there. Zero: the workload says what number targetName has.
	target     uint32
	targetName string
}

// selectingPorts are a Service's ports, of which translated is what they were translated to.
func selectingPorts(ports []corev1.ServicePort, translated []*registryv1.Port) []selectingPort {
	selecting := make([]selectingPort, len(translated))
	for i, port := range translated {
		selecting[i] = selectingPort{name: port.GetName(), protocol: port.GetProtocol(), target: port.GetTarget()}
		if target := ports[i].TargetPort; target.Type == intstr.String {
			selecting[i].targetName = target.StrVal
		}
	}
	return selecting
}

func (e *selectingEntry) equal(other *selectingEntry) bool {
	if e == nil || other == nil {
		return e == other
	}
	return maps.Equal(e.labels, other.labels) && e.visibility.Equal(other.visibility) && slices.Equal(e.hosts, other.hosts) &&
		slices.EqualFunc(e.ports, other.ports, func(a, b *registryv1.Port) bool { return proto.Equal(a, b) }) &&
		e.createdAt == other.createdAt && e.addresses.equal(other.addresses) && maps.Equal(e.held, other.held)
}

func (s *selectingService) equal(other *selectingService) bool {
	if s == nil || other == nil {
		return s == other
	}
	return maps.Equal(s.labels, other.labels) && s.visibility.Equal(other.visibility) &&
		slices.Equal(s.ports, other.ports) && s.publishNotReady == other.publishNotReady
}

// linked are the objects that must be said again, most of them for a change of another object.
type linked struct {
	// workloadEntries are true where they changed themselves.
	workloadEntries map[objectName]bool
	serviceEntries  map[objectName]bool
	// gone are the ServiceEntries and Services that went.
	gone map[registry.Object]bool
}

func newLinked() linked {
	return linked{workloadEntries: map[objectName]bool{}, serviceEntries: map[objectName]bool{}, gone: map[registry.Object]bool{}}
}

// holdServiceEntry makes a ServiceEntry that selects workloads known, or one that does not, nil, forgotten.
func (t *Translator) holdServiceEntry(name objectName, is *selectingEntry) {
	t.selections.edit(name.namespace, func(s *selection) {
		if was, changed := s.serviceEntries.put(name.name, is); changed {
			t.relink(name.namespace, s, was.selector(), is.selector())
		}
	})
}

// holdService is the same for a Service.
func (t *Translator) holdService(name objectName, is *selectingService) {
	t.selections.edit(name.namespace, func(s *selection) {
		if was, changed := s.services.put(name.name, is); changed {
			t.relink(name.namespace, s, was.selector(), is.selector())
		}
	})
}

// relink has the WorkloadEntries said again that any of the selectors selects.
func (t *Translator) relink(namespace string, in *selection, selectors ...map[string]string) {
	for _, selector := range selectors {
		for name := range in.entries.selectedBy(selector) {
			linked := objectName{namespace, name}
			if _, known := t.linked.workloadEntries[linked]; !known {
				t.linked.workloadEntries[linked] = false
			}
		}
	}
}

// holdWorkload makes a WorkloadEntry known, or nil forgotten.
func (t *Translator) holdWorkload(name objectName, is *workload) {
	t.selections.edit(name.namespace, func(s *selection) { s.entries.put(name.name, is) })
	t.linked.workloadEntries[name] = true
}

// holdPod makes a Pod known, or nil forgotten, and has the ServiceEntries said again whose answer it was or is.
func (t *Translator) holdPod(name objectName, is *workload) {
	t.selections.edit(name.namespace, func(s *selection) {
		was := s.pods.named[name.name]
		if was.equal(is) {
			return
		}
		s.pods.put(name.name, is)
		for _, entry := range slices.Concat(s.serviceEntries.selecting(was), s.serviceEntries.selecting(is)) {
			t.linked.serviceEntries[objectName{name.namespace, entry}] = true
		}
	})
}

func (e *selectingEntry) selector() map[string]string {
	if e == nil {
		return nil
	}
	return e.labels
}

func (s *selectingService) selector() map[string]string {
	if s == nil {
		return nil
	}
	return s.labels
}

// sortedNames is the names of objects, in order.
func sortedNames[V any](of map[string]V) []string { return slices.Sorted(maps.Keys(of)) }
