package source

import (
	"fmt"
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/registry"
)

// Exports are what a mesh has to say on who sees which objects.
type Exports struct {
	// Service and ServiceEntry are the exportTo of objects of that kind that have none: `*`, `.`, `~` or names
	// of namespaces. Empty: what Options.DefaultExport says.
	Service, ServiceEntry []string
	// Reach limits how far ServiceEntries are seen, whatever their exportTo.
	Reach Reach
}

func (e Exports) equal(other Exports) bool {
	return slices.Equal(e.Service, other.Service) && slices.Equal(e.ServiceEntry, other.ServiceEntry) && e.Reach.equal(other.Reach)
}

// Validate names what is wrong.
func (e Exports) Validate() error {
	for _, kind := range []struct {
		name   string
		values []string
	}{{KindService, e.Service}, {KindServiceEntry, e.ServiceEntry}} {
		if len(kind.values) == 0 {
			continue
		}
		if _, err := registry.ParseExportTo(kind.values, "default"); err != nil {
			return fmt.Errorf("default of a %s: %w", kind.name, err)
		}
	}
	return nil
}

// defaultExport is the exportTo of an object of a kind that has none. What is not a Service of Kubernetes
// comes with a ServiceEntry.
func (t *Translator) defaultExport(kind string) []string {
	values := t.exports.ServiceEntry
	if kind == KindService {
		values = t.exports.Service
	}
	if len(values) == 0 {
		return t.options.DefaultExport
	}
	return values
}

// SetExports changes who sees which objects. It picks, by their states, the objects that this concerns; to translate these again is the caller's part. Nil: it concerns none. Values that make no sense
// are an error, and change nothing.
func (t *Translator) SetExports(exports Exports) (concerned func(metav1.Object) bool, err error) {
	if err := exports.Validate(); err != nil {
		return nil, err
	}
	services, entries := t.defaultExport(KindService), t.defaultExport(KindServiceEntry)
	reach := t.exports.Reach
	t.exports = exports
	ofServices := !slices.Equal(services, t.defaultExport(KindService))
	ofEntries := !slices.Equal(entries, t.defaultExport(KindServiceEntry))
	sameReach := reach.equal(exports.Reach)
	if !ofServices && !ofEntries && sameReach {
		return nil, nil
	}
	return func(state metav1.Object) bool {
		switch state := state.(type) {
		case *corev1.Service:
			return ofServices && len(exportToOf(state)) == 0
		case *networkingv1.ServiceEntry:
			if ofEntries && len(state.Spec.GetExportTo()) == 0 {
				return true
			}
			labels := t.labelsOf(state.Namespace)
			return !sameReach && reach.of(labels) != exports.Reach.of(labels)
		}
		return false
	}, nil
}

func isServiceEntry(state metav1.Object) bool {
	_, is := state.(*networkingv1.ServiceEntry)
	return is
}
