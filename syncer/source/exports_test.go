package source

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/registry"
)

func TestDefaultsByKind(t *testing.T) {
	flag := []string{"flagged"}
	for _, test := range []struct {
		name    string
		exports Exports
		state   metav1.Object
		want    string
	}{
		{"a Service, the flag", Exports{}, service(), "flagged"},
		{"a ServiceEntry, the flag", Exports{}, entry(), "flagged"},
		{"a Service, its default", Exports{Service: []string{"."}, ServiceEntry: []string{"~"}}, service(), "prod"},
		{"a ServiceEntry, its default", Exports{Service: []string{"."}, ServiceEntry: []string{"~"}}, entry(), "~"},
		{"a Service, only the other's default", Exports{ServiceEntry: []string{"~"}}, service(), "flagged"},
		{"a ServiceEntry, only the other's default", Exports{Service: []string{"~"}}, entry(), "flagged"},
		{"a Service's own word", Exports{Service: []string{"~"}}, service(exportTo("own")), "own"},
		{"a ServiceEntry's own word", Exports{ServiceEntry: []string{"~"}}, entry(entryExportTo("own")), "own"},
		{"several namespaces", Exports{Service: []string{".", "other"}}, service(), "other,prod"},
	} {
		t.Run(test.name, func(t *testing.T) {
			translator := newTranslator(t, Options{DefaultExport: flag})
			if _, err := translator.SetExports(test.exports); err != nil {
				t.Fatal(err)
			}
			updates, _ := translator.Translate(present(test.state))
			if got := updates[0].Resources[0].Visibility.String(); got != test.want {
				t.Errorf("visible to: got %q, want %q", got, test.want)
			}
		})
	}
}

func entryExportTo(values ...string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) { e.Spec.ExportTo = values }
}

func TestSetExportsPicksWhatItConcerns(t *testing.T) {
	states := map[string]metav1.Object{
		"Service": service(), "Service with exportTo": service(exportTo("*")), "ServiceEntry": entry(),
		"ServiceEntry with exportTo": entry(entryExportTo("*")), "EndpointSlice": slice(), "Namespace": &corev1.Namespace{},
	}
	for _, test := range []struct {
		name          string
		before, after Exports
		want          []string
	}{
		{"nothing changes", Exports{}, Exports{}, nil},
		{"it says what holds already", Exports{}, Exports{Service: []string{"*"}, ServiceEntry: []string{"*"}}, nil},
		{"of Services", Exports{}, Exports{Service: []string{"."}}, []string{"Service"}},
		{"of ServiceEntries", Exports{}, Exports{ServiceEntry: []string{"~"}}, []string{"ServiceEntry"}},
		{"of both", Exports{}, Exports{Service: []string{"."}, ServiceEntry: []string{"~"}}, []string{"Service", "ServiceEntry"}},
		{"back to the flag", Exports{Service: []string{"."}}, Exports{}, []string{"Service"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			translator := newTranslator(t, Options{})
			if _, err := translator.SetExports(test.before); err != nil {
				t.Fatal(err)
			}
			concerned, err := translator.SetExports(test.after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for name, state := range states {
				if concerned != nil && concerned(state) {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("concerned: got %q, want %q", got, test.want)
			}
		})
	}
}

func TestExportsThatMakeNoSenseChangeNothing(t *testing.T) {
	translator := newTranslator(t, Options{})
	if _, err := translator.SetExports(Exports{Service: []string{"."}, ServiceEntry: []string{"~"}}); err != nil {
		t.Fatal(err)
	}
	for kind, exports := range map[string]Exports{
		KindService:      {Service: []string{"not a namespace"}, ServiceEntry: []string{"*"}},
		KindServiceEntry: {Service: []string{"*"}, ServiceEntry: []string{"~", "*"}},
	} {
		concerned, err := translator.SetExports(exports)
		if err == nil || !strings.Contains(err.Error(), "default of a "+kind+":") || concerned != nil {
			t.Errorf("SetExports(%+v): got %v, want an error that names the default of a %s", exports, err, kind)
		}
	}
	updates, _ := translator.Translate(present(service()), present(entry()))
	if got, want := updates[0].Resources[0].Visibility.String()+" "+updates[1].Resources[0].Visibility.String(), "prod ~"; got != want {
		t.Errorf("visible to: got %q, want still %q", got, want)
	}
}

// TestADefaultThatChangesIsAsIfItHadAlwaysBeen holds that after any history of objects and defaults, where
// what each default concerns is translated again, a translator has said what a new one with the last
// defaults says of the objects that are left.
func TestADefaultThatChangesIsAsIfItHadAlwaysBeen(t *testing.T) {
	values := [][]string{nil, {"*"}, {"."}, {"~"}, {"test"}, {".", "test"}}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		translator := newTranslator(t, Options{DefaultExport: values[1+random.IntN(5)]})
		said, objects := map[registry.Object][]string{}, map[registry.Object]metav1.Object{}
		var exports Exports
		for range 30 {
			if random.IntN(4) == 0 {
				exports = Exports{Service: values[random.IntN(len(values))], ServiceEntry: values[random.IntN(len(values))]}
				concerned, err := translator.SetExports(exports)
				if err != nil {
					t.Fatal(err)
				}
				var again []Change
				for object, state := range objects {
					if concerned != nil && concerned(state) {
						again = append(again, Change{object, state})
					}
				}
				updates, _ := translator.Translate(again...)
				say(said, updates)
				continue
			}
			change := randomExport(random)
			if change.State == nil {
				delete(objects, change.Object)
			} else {
				objects[change.Object] = change.State
			}
			updates, _ := translator.Translate(change)
			say(said, updates)
		}
		fresh := newTranslator(t, translator.options)
		if _, err := fresh.SetExports(exports); err != nil {
			t.Fatal(err)
		}
		var left []Change
		for object, state := range objects {
			left = append(left, Change{object, state})
		}
		updates, _ := fresh.Translate(left...)
		want := map[registry.Object][]string{}
		say(want, updates)
		maps.DeleteFunc(said, func(_ registry.Object, resources []string) bool { return len(resources) == 0 })
		maps.DeleteFunc(want, func(_ registry.Object, resources []string) bool { return len(resources) == 0 })
		if !maps.EqualFunc(said, want, slices.Equal[[]string]) {
			t.Fatalf("seed %d, defaults %+v:\n got  %v\n want %v", seed, exports, said, want)
		}
	}
}

// randomExport is a random change of an object with or without exportTo.
func randomExport(random *rand.Rand) Change {
	if random.IntN(2) == 0 {
		state := entry(func(e *networkingv1.ServiceEntry) {
			e.Name = []string{"one", "two"}[random.IntN(2)]
			e.Spec.ExportTo = [][]string{nil, {"."}, {"*"}}[random.IntN(3)]
		})
		if random.IntN(4) == 0 {
			return gone(state)
		}
		return present(state)
	}
	change := randomChange(random)
	if of, ok := change.State.(*corev1.Service); ok && random.IntN(2) == 0 {
		of.Annotations = nil
	}
	return change
}
