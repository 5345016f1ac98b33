package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
)

// removed is what a watcher was told to remove of the test's namespace, at any revision after one.
func (f *fixture) removed(after uint64) []string {
	f.t.Helper()
	var removed []string
	for revision := after + 1; revision <= f.registry.Revision(); revision++ {
		changes, err := f.registry.Changes(f.namespace, revision-1, revision)
		f.do(err)
		for _, key := range changes.Removals {
			if strings.Contains(key, "/"+f.namespace+"/") {
				removed = append(removed, fmt.Sprintf("%s at %d", key, revision))
			}
		}
	}
	return removed
}

func (f *fixture) guarded() registry.KindStatus {
	f.t.Helper()
	for _, kind := range f.registry.GuardStatus()[0].Kinds {
		if kind.Kind == source.KindServiceEntry {
			return kind
		}
	}
	return registry.KindStatus{}
}

// TestADeletedDefinitionTakesNothingAway: the API server deletes all objects with their definition, one by one.
func TestADeletedDefinitionTakesNothingAway(t *testing.T) {
	f := newFixture(t)
	f.guard = registry.GuardOptions{Share: 0.5, Minimum: 20, Window: time.Minute, Hold: time.Hour}
	f.do(f.plane.InstallIstioCRDs(t.Context()))
	t.Cleanup(func() {
		if err := f.plane.RemoveIstioCRDs(context.Background()); err != nil {
			t.Error(err)
		}
	})
	f.createService("a", "10.96.5.1")
	want := []string{"a 10.96.5.1"}
	createEntries := func() {
		for i := range 30 {
			f.createEntry(fmt.Sprintf("e%02d", i), fmt.Sprintf("e%02d.example.com", i), fmt.Sprintf("192.0.2.%d", i))
		}
	}
	createEntries()
	for i := range 30 {
		want = append(want, fmt.Sprintf("e%02d.example.com 192.0.2.%d", i, i))
	}
	f.follow(f.shippedRole())
	f.awaitReady()
	f.expect(want...)
	start := f.registry.Revision()

	f.do(f.plane.RemoveIstioCRDs(t.Context()))
	f.eventually("all to be held", func() bool { return f.guarded().Held == 30 })
	f.expect(want...)
	if got := *f.guarded().Loss; got.Kind != source.KindServiceEntry || got.Reason != registry.LossOfDefinition {
		t.Errorf("Loss: got %+v, want that of the definition", got)
	}
	f.eventually("the source to be healthy without Istio", f.healthy)

	f.do(f.plane.InstallIstioCRDs(t.Context()))
	createEntries()
	f.eventually("all to be back", func() bool { return f.guarded().Held == 0 && f.guarded().Live == 30 })
	f.expect(want...)
	if got := f.registry.GuardStatus()[0].Released[registry.ReleasedReturned]; got != 30 {
		t.Errorf("Returned: got %d, want 30", got)
	}
	if got := f.removed(start); len(got) > 0 {
		t.Errorf("Removed: got %q, want nothing ever", got)
	}

	// A definition that is there again is one like any other.
	f.do(f.dynamic.Resource(serviceEntries).Namespace(f.namespace).Delete(t.Context(), "e00", metav1.DeleteOptions{}))
	want = slices.DeleteFunc(want, func(name string) bool { return strings.HasPrefix(name, "e00.") })
	f.expect(want...)

	// Nobody can tell whether that was the first of many.
	f.do(f.plane.RemoveIstioCRDs(t.Context()))
	f.eventually("all to be held again", func() bool { return f.guarded().Held == 30 })
	if got := f.registry.ReleaseHeld("", ""); got != 30 {
		t.Errorf("Released: got %d, want 30", got)
	}
	f.expect("a 10.96.5.1")
}
