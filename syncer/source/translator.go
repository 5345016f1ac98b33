package source

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// DefaultClusterDomain is the DNS zone of a cluster's Services where nothing else is said.
const DefaultClusterDomain = "cluster.local"

// Options of a Translator. The zero value is a cluster of the usual domain whose Services everyone
// sees.
type Options struct {
	// ClusterDomain is the zone of the cluster's Services. Empty: DefaultClusterDomain.
	ClusterDomain string
	// DefaultExport is the exportTo of objects that have none, whatever their kind: `*`, `.`, `~` or
	// names of namespaces. Empty: `*`. See Translator.SetExports.
	DefaultExport []string
	// Cluster names the source cluster where there are several.
	Cluster string
	// Sidecars is told of Sidecars and WorkloadEntries. Nil: Sidecars are passed over.
	Sidecars *Sidecars
	// Pending says what becomes of hosts whose virtual IPs are awaited.
	Pending Pending
}

// Change is the present state of one object.
type Change struct {
	Object registry.Object
	// State is the object: a *corev1.Service, *discoveryv1.EndpointSlice, *corev1.Namespace,
	// *corev1.Pod, or Istio's *networkingv1.ServiceEntry or *networkingv1.WorkloadEntry. Nil: the object is
	// gone. It is not modified, and a ServiceEntry is kept for as long as a host of it is held back.
	State metav1.Object
}

// Translator turns changes of objects into updates of the registry. It holds what links objects to
// each other, so it must see every change of every object, in order. It is not safe for concurrent
// use.
type Translator struct {
	options Options
	exports Exports
	// labels are those of namespaces that have any beside their names, and due the namespaces whose
	// ServiceEntries have to be translated again.
	labels   map[string]labels.Set
	due      map[string]bool
	services map[objectName]link
	// slices are the present EndpointSlices by their Service, and serviceOf finds it.
	slices    map[objectName]map[string]*registryv1.EndpointSlice
	serviceOf map[objectName]objectName

	selections selections
	// yielded is for whom each WorkloadEntry has yielded something last.
	yielded map[objectName]map[registry.Owner]bool
	// linked are what the changes of this Translate have to be said again for.
	linked linked

	virtualIPs *VirtualIPs
}

// objectName is a namespace and a name in it.
type objectName struct{ namespace, name string }

// link is what a Service decides for its EndpointSlices.
// The zero value is that of a Service that is not known.
type link struct {
	known      bool
	headless   bool
	visibility registry.Visibility
}

func (l link) equal(other link) bool {
	return l.known == other.known && l.headless == other.headless && l.visibility.Equal(other.visibility)
}

// NewTranslator is a translator that has seen no object yet. It fails when the options make no
// sense.
func NewTranslator(options Options) (*Translator, error) {
	domain, err := canonicalName(cmp.Or(options.ClusterDomain, DefaultClusterDomain))
	if err != nil {
		return nil, fmt.Errorf("cluster domain %q: %w", options.ClusterDomain, err)
	}
	options.ClusterDomain = domain
	if len(options.DefaultExport) == 0 {
		options.DefaultExport = []string{"*"}
	}
	if _, err := registry.ParseExportTo(options.DefaultExport, "default"); err != nil {
		return nil, fmt.Errorf("default export: %w", err)
	}
	return &Translator{
		options:   options,
		services:  map[objectName]link{},
		slices:    map[objectName]map[string]*registryv1.EndpointSlice{},
		serviceOf: map[objectName]objectName{},
		labels:    map[string]labels.Set{},

		selections: selections{},
		virtualIPs: newVirtualIPs(options.Pending),
		yielded:    map[objectName]map[registry.Owner]bool{},
	}, nil
}

// Translate takes changes in the order in which they happened. It yields one update for every
// object whose resources may differ, be it for a change of the object itself or of one that it is
// linked to, and the problems of the changed objects. An object that is rejected yields no update.
func (t *Translator) Translate(changes ...Change) ([]registry.Update, []Problem) {
	result := batch{at: make(map[registry.Object]int, len(changes))}
	relinked := map[objectName]bool{}
	t.linked = newLinked()
	for _, change := range changes {
		name := objectName{change.Object.Namespace, change.Object.Name}
		before := t.services[name]
		t.options.Sidecars.observe(change)
		draft := draft{object: change.Object}
		t.translate(&draft, change.State)
		result.problems = append(result.problems, draft.problems...)
		if draft.rejected {
			continue
		}
		if change.Object.Kind != KindPod && change.Object.Kind != KindWorkloadEntry { // for which others decide
			result.put(registry.Update{Object: change.Object, Resources: draft.resources})
		}
		if change.Object.Kind == KindService && !before.equal(t.services[name]) {
			relinked[name] = true
		}
	}
	byName := func(a, b objectName) int {
		return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
	}
	for _, service := range slices.SortedFunc(maps.Keys(relinked), byName) {
		for _, slice := range slices.Sorted(maps.Keys(t.slices[service])) {
			result.put(t.sliceUpdate(service, t.slices[service][slice]))
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(t.linked.serviceEntries), byName) {
		if entry := t.selections.of(name.namespace).serviceEntries.named[name.name]; entry != nil {
			result.put(registry.Update{Object: t.object(KindServiceEntry, name), Resources: t.entryResources(name, entry)})
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(t.linked.workloadEntries), byName) {
		draft := draft{object: t.object(KindWorkloadEntry, name)}
		for _, update := range t.workloadUpdates(&draft, name) {
			result.put(update)
		}
		if changed := t.linked.workloadEntries[name]; changed {
			result.problems = append(result.problems, draft.problems...)
		}
	}
	updates := result.sound()
	return t.destined(updates), result.problems
}

func (t *Translator) object(kind string, name objectName) registry.Object {
	return registry.Object{Kind: kind, Namespace: name.namespace, Name: name.name, Cluster: t.options.Cluster}
}

func (t *Translator) translate(d *draft, state metav1.Object) {
	switch state := state.(type) {
	case nil:
		t.forget(d.object)
	case *corev1.Service:
		t.service(d, state)
	case *discoveryv1.EndpointSlice:
		t.endpointSlice(d, state)
	case *corev1.Namespace:
		t.namespace(d, state)
	case *networkingv1.ServiceEntry:
		t.serviceEntry(d, state)
	case *networkingv1.WorkloadEntry:
		t.workloadEntry(d, state)
	case *corev1.Pod:
		t.pod(d, state)
	case *networkingv1.Sidecar:
		t.sidecar(d, state)
	default:
		d.reject("kind", fmt.Sprintf("%T yields no names", state), "a Service, EndpointSlice, Namespace, Pod, ServiceEntry or WorkloadEntry")
	}
}

func (t *Translator) forget(object registry.Object) {
	name := objectName{object.Namespace, object.Name}
	switch object.Kind {
	case KindService:
		delete(t.services, name)
		t.holdService(name, nil)
		t.linked.gone[object] = true
	case KindServiceEntry:
		t.holdServiceEntry(name, nil)
		t.virtualIPs.forget(object)
		t.linked.gone[object] = true
	case KindWorkloadEntry:
		t.holdWorkload(name, nil)
	case KindPod:
		t.holdPod(name, nil)
	case KindEndpointSlice:
		t.unlinkSlice(name)
	case KindNamespace:
		t.label(object.Name, nil)
	case KindSidecar:
		t.options.Sidecars.forget(object.Namespace, object.Name)
	}
}

// visibility reads exportTo, the default where there is none.
func (t *Translator) visibility(d *draft, field string, exportTo []string) registry.Visibility {
	if len(exportTo) == 0 {
		exportTo = t.defaultExport(d.object.Kind)
	}
	if len(exportTo) > maxExportTo {
		d.reject(field, fmt.Sprintf("there are %d", len(exportTo)), fmt.Sprintf("at most %d", maxExportTo))
		return registry.Nobody()
	}
	visibility, err := registry.ParseExportTo(exportTo, d.object.Namespace)
	if err != nil {
		d.reject(field, err.Error(), "*, ., ~ or names of namespaces")
	}
	if d.object.Kind == KindServiceEntry {
		visibility = within(visibility, t.exports.Reach.of(t.labelsOf(d.object.Namespace)), d.object.Namespace)
	}
	return visibility
}

// batch is the updates of one Translate, the latest of each object.
type batch struct {
	updates  []registry.Update
	at       map[registry.Object]int
	problems []Problem
}

func (b *batch) put(update registry.Update) {
	for _, resource := range update.Resources {
		if service := resource.Body.GetService(); service != nil {
			service.ExportedByName = !resource.Visibility.Everyone()
		}
	}
	if i, found := b.at[update.Object]; found {
		b.updates[i] = update
		return
	}
	b.at[update.Object] = len(b.updates)
	b.updates = append(b.updates, update)
}

// draft is one object while it is translated.
type draft struct {
	object    registry.Object
	resources []registry.Resource
	problems  []Problem
	rejected  bool
}

func (d *draft) yield(key string, visibility registry.Visibility, body *registryv1.Body) {
	d.resources = append(d.resources, registry.Resource{Key: key, Visibility: visibility, Body: body})
}

func (d *draft) reject(field, what, want string) {
	d.rejected = true
	d.report(Rejected, field, what, want)
}

// report notes a problem. Of an object with very many the last stands for all that are not told.
func (d *draft) report(effect Effect, field, what, want string) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, Problem{Object: d.object, Field: clipped(field), What: clipped(what), Want: want, Effect: effect})
		return
	}
	last := &d.problems[maxProblems-1]
	*last = Problem{Object: d.object, Field: "...", What: "there are more problems than are told", Want: "those before to be mended", Effect: min(last.Effect, effect)}
}

// rejectName rejects an object whose name is of no use in DNS.
func (d *draft) rejectName(field, name, want string, faults []string) {
	if len(faults) > 0 {
		d.reject(field, fmt.Sprintf("%q is no valid name", name), want)
	}
}

func createdAt(created metav1.Time) int64 {
	if created.IsZero() {
		return 0
	}
	return created.Unix()
}
