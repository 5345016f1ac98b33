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
// namespaces. What selects is by the name of the object.
type selection struct {
	// serviceEntries are those with a workloadSelector, services the headless ones with a selector.
	serviceEntries map[string]*selectingEntry
	services       map[string]*selectingService
	// entries are WorkloadEntries.
	entries, pods map[string]*workload
}

func (s *selection) empty() bool {
	return len(s.serviceEntries)+len(s.services)+len(s.entries)+len(s.pods) == 0
}

// selections are those of all namespaces that have any.
type selections map[string]*selection

// in is the selection of a namespace. Whoever takes something out calls leave afterwards.
func (s selections) in(namespace string) *selection {
	held := s[namespace]
	if held == nil {
		held = &selection{
			serviceEntries: map[string]*selectingEntry{},
			services:       map[string]*selectingService{},
			entries:        map[string]*workload{},
			pods:           map[string]*workload{},
		}
		s[namespace] = held
	}
	return held
}

// leave forgets a namespace that has nothing any more.
func (s selections) leave(namespace string) {
	if held := s[namespace]; held != nil && held.empty() {
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

func (s *selectingEntry) equal(other *selectingEntry) bool {
	if s == nil || other == nil {
		return s == other
	}
	return maps.Equal(s.labels, other.labels) && s.visibility.Equal(other.visibility) && slices.Equal(s.hosts, other.hosts) &&
		slices.EqualFunc(s.ports, other.ports, func(a, b *registryv1.Port) bool { return proto.Equal(a, b) }) &&
		s.createdAt == other.createdAt && s.addresses.equal(other.addresses) && maps.Equal(s.held, other.held)
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
	was := t.selections.of(name.namespace).serviceEntry(name.name)
	if was.equal(is) {
		return
	}
	if is == nil {
		delete(t.selections[name.namespace].serviceEntries, name.name)
	} else {
		t.selections.in(name.namespace).serviceEntries[name.name] = is
	}
	t.relink(name.namespace, was.selector(), is.selector())
}

// holdService is the same for a Service.
func (t *Translator) holdService(name objectName, is *selectingService) {
	was := t.selections.of(name.namespace).service(name.name)
	if was.equal(is) {
		return
	}
	if is == nil {
		delete(t.selections[name.namespace].services, name.name)
	} else {
		t.selections.in(name.namespace).services[name.name] = is
	}
	t.relink(name.namespace, was.selector(), is.selector())
}

// relink has the WorkloadEntries said again that either of two selectors selects.
func (t *Translator) relink(namespace string, was, is map[string]string) {
	for name, w := range t.selections.of(namespace).workloads() {
		if w.selectedBy(was) || w.selectedBy(is) {
			changed := objectName{namespace, name}
			t.linked.workloadEntries[changed] = t.linked.workloadEntries[changed]
		}
	}
	t.selections.leave(namespace)
}

// podChanged has the ServiceEntries said again whose answer a Pod was or is, nil where it was or is not.
func (t *Translator) podChanged(namespace string, was, is *workload) {
	if was.equal(is) {
		return
	}
	for name, entry := range t.selections.of(namespace).selecting() {
		if was.selectedBy(entry.labels) || is.selectedBy(entry.labels) {
			t.linked.serviceEntries[objectName{namespace, name}] = true
		}
	}
}

// forgetWorkload forgets a WorkloadEntry or a Pod.
func (t *Translator) forgetWorkload(kind string, name objectName) {
	if kind == KindWorkloadEntry {
		t.linked.workloadEntries[name] = true
	}
	held := t.selections[name.namespace]
	if held == nil {
		return
	}
	if kind == KindPod {
		was := held.pods[name.name]
		delete(held.pods, name.name)
		t.podChanged(name.namespace, was, nil)
	} else {
		delete(held.entries, name.name)
	}
	t.selections.leave(name.namespace)
}

// of is the selection of a namespace to look into, nil where there is none: its methods take that.
func (s selections) of(namespace string) *selection { return s[namespace] }

func (s *selection) serviceEntry(name string) *selectingEntry {
	if s == nil {
		return nil
	}
	return s.serviceEntries[name]
}

func (s *selection) service(name string) *selectingService {
	if s == nil {
		return nil
	}
	return s.services[name]
}

func (s *selection) workloads() map[string]*workload {
	if s == nil {
		return nil
	}
	return s.entries
}

func (s *selection) selecting() map[string]*selectingEntry {
	if s == nil {
		return nil
	}
	return s.serviceEntries
}

func (s *selectingEntry) selector() map[string]string {
	if s == nil {
		return nil
	}
	return s.labels
}

func (s *selectingService) selector() map[string]string {
	if s == nil {
		return nil
	}
	return s.labels
}

// sortedNames is the names of objects, in order.
func sortedNames[V any](of map[string]V) []string { return slices.Sorted(maps.Keys(of)) }
