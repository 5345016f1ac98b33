package source

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/registry"
)

// TestHistoryDoesNotMatter holds that what a translator has said after any history of changes, in
// batches of any size, is what a new one says of the objects that are left.
func TestHistoryDoesNotMatter(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		translator := newTranslator(t, Options{})
		said, objects := map[registry.Object][]string{}, map[registry.Object]metav1.Object{}
		for range 30 {
			var changes []Change
			for range 1 + random.IntN(4) {
				change := randomChange(random)
				changes = append(changes, change)
				if change.State == nil {
					delete(objects, change.Object)
				} else {
					objects[change.Object] = change.State
				}
			}
			updates, problems := translator.Translate(changes...)
			if slices.ContainsFunc(problems, func(p Problem) bool { return p.Effect != Nameless }) {
				t.Fatalf("seed %d: problems %v, want none but of aliases of an address", seed, problems)
			}
			say(said, updates)
		}

		var left []Change
		for object, state := range objects {
			left = append(left, Change{object, state})
		}
		updates, _ := newTranslator(t, Options{}).Translate(left...)
		want := map[registry.Object][]string{}
		say(want, updates)
		if !maps.EqualFunc(said, want, slices.Equal[[]string]) {
			t.Fatalf("seed %d:\n got  %v\n want %v", seed, said, want)
		}
	}
}

func say(said map[registry.Object][]string, updates []registry.Update) {
	for _, update := range updates {
		delete(said, update.Object)
		for _, resource := range update.Resources {
			said[update.Object] = append(said[update.Object], render(resource))
		}
	}
}

// randomChange is of one of two Services or three EndpointSlices, which any of the two may own.
func randomChange(random *rand.Rand) Change {
	names := []string{"reviews", "ratings"}
	var state metav1.Object
	if random.IntN(2) == 0 {
		state = service(func(s *corev1.Service) {
			s.Name = names[random.IntN(2)]
			switch random.IntN(4) {
			case 0, 1:
				headless(s)
			case 2:
				aliasOf([]string{"db.example.com", "192.0.2.1"}[random.IntN(2)])(s)
			}
			exportTo([]string{"*", ".", "~", "test"}[random.IntN(4)])(s)
		})
	} else {
		state = slice(func(s *discoveryv1.EndpointSlice) {
			s.Name = []string{"one", "two", "three"}[random.IntN(3)]
			s.Labels[discoveryv1.LabelServiceName] = names[random.IntN(2)]
			if random.IntN(8) == 0 {
				s.AddressType = discoveryv1.AddressTypeFQDN
			}
			s.Endpoints[0].Addresses = []string{[]string{"10.0.0.1", "10.0.0.2"}[random.IntN(2)]}
		})
	}
	if random.IntN(4) == 0 {
		return gone(state)
	}
	return present(state)
}
