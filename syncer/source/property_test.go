package source

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

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

// randomChange is of one of two Services, of three EndpointSlices, which any of the two may own, of two
// ServiceEntries, or of the workloads that all these may select.
func randomChange(random *rand.Rand) Change {
	names := []string{"reviews", "ratings"}
	var state metav1.Object
	switch random.IntN(6) {
	case 0:
		state = randomEntry(random)
	case 1:
		state = randomVM(random)
	case 2:
		state = randomPod(random)
	case 3, 4:
		state = service(func(s *corev1.Service) {
			s.Name = names[random.IntN(2)]
			switch random.IntN(5) {
			case 0, 1:
				headless(s)
			case 4:
				selecting(s)
				s.Spec.PublishNotReadyAddresses = random.IntN(2) == 0
				s.Spec.Ports = []corev1.ServicePort{{Name: "sql", Port: int32(80 + random.IntN(2)), TargetPort: intstr.FromString("sql")}}
			case 2:
				aliasOf([]string{"db.example.com", "192.0.2.1"}[random.IntN(2)])(s)
			}
			exportTo([]string{"*", ".", "~", "test"}[random.IntN(4)])(s)
		})
	default:
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

func randomApp(random *rand.Rand) map[string]string {
	return map[string]string{"app": []string{"db", "web"}[random.IntN(2)]}
}

func randomEntry(random *rand.Rand) metav1.Object {
	return entry(func(e *networkingv1.ServiceEntry) {
		e.Name = []string{"db", "sql"}[random.IntN(2)]
		e.Spec.Hosts = [][]string{{"db.example.com"}, {"db.example.com", "*.example.com"}, {"sql.example.com", "db.example.com"}}[random.IntN(3)]
		e.Spec.Resolution = []networking.ServiceEntry_Resolution{networking.ServiceEntry_NONE, networking.ServiceEntry_STATIC, networking.ServiceEntry_DNS}[random.IntN(3)]
		e.Spec.ExportTo = []string{[]string{"*", ".", "~"}[random.IntN(3)]}
		switch random.IntN(4) {
		case 0:
			e.Spec.Addresses = []string{"192.0.2.1"}
		case 1:
			e.Status.Addresses = status("db.example.com", "240.240.0.1")
		}
		if random.IntN(4) == 0 {
			e.Spec.Endpoints = []*networking.WorkloadEntry{{Address: "192.0.2.9"}}
		} else {
			e.Spec.WorkloadSelector = &networking.WorkloadSelector{Labels: randomApp(random)}
		}
	})
}

func randomVM(random *rand.Rand) metav1.Object {
	return vm([]string{"vm-1", "vm-2", "group-10.0.0.5"}[random.IntN(3)], []string{"10.0.0.1", "10.0.0.2", "fd00::1", "db.internal"}[random.IntN(4)], func(w *networkingv1.WorkloadEntry) {
		w.Spec.Labels = randomApp(random)
		if random.IntN(3) == 0 {
			probed(w)
		}
		if random.IntN(3) == 0 {
			w.Spec.Ports = map[string]uint32{"sql": 3306}
		}
	})
}

func randomPod(random *rand.Rand) metav1.Object {
	p := pod([]string{"p-1", "p-2"}[random.IntN(2)], []string{"10.0.9.1", "10.0.9.2"}[random.IntN(2)])
	p.Labels = randomApp(random)
	if random.IntN(3) == 0 {
		p.Status.Conditions = nil
	}
	return p
}
