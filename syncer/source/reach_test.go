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

// namespaceWith is the test's namespace with labels, as KEY=VALUE.
func namespaceWith(pairs ...string) *corev1.Namespace {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "prod", Labels: map[string]string{}}}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		namespace.Labels[key] = value
	}
	return namespace
}

func parseMesh(t *testing.T, lines ...string) Mesh {
	t.Helper()
	mesh, err := ParseMesh([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return mesh
}

// visible is the mesh configuration with this serviceEntryVisibility.
func visible(lines ...string) []string {
	return append([]string{"serviceEntryVisibility:"}, lines...)
}

const (
	sidecarsToo = "  applyToSidecars: true"
	policies    = "  policies:"
	// By a label, by two rules, and by the name.
	tenantsStayIn = "  - {visibility: NAMESPACE, matchingRules: [{namespaceSelector: {matchLabels: {tenant: 'yes'}}}]}"
	openTenants   = "  - {visibility: PUBLIC, matchingRules: [{namespaceSelector: {matchLabels: {tenant: 'yes'}}}, {namespaceSelector: {matchExpressions: [{key: open, operator: Exists}]}}]}"
	prodIsNowhere = "  - {visibility: NONE, matchingRules: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [prod]}]}}]}"
	catchAll      = "  - {visibility: NONE}"
	ofTomorrow    = "  - {visibility: NONE, matchingRules: [{hostnameSuffix: example.com}]}"
)

func TestHowFarServiceEntriesAreSeen(t *testing.T) {
	for _, test := range []struct {
		name      string
		mesh      []string
		namespace *corev1.Namespace // Nil: it is not known.
		exportTo  []string
		want      string
	}{
		{"not said", nil, nil, nil, "*"},
		{"not for sidecars", visible("  defaultVisibility: NAMESPACE"), nil, nil, "*"},
		{"the default's default", visible(sidecarsToo), nil, nil, "*"},
		{"in their namespace", visible(sidecarsToo, "  defaultVisibility: NAMESPACE"), nil, nil, "prod"},
		{"nowhere", visible(sidecarsToo, "  defaultVisibility: NONE"), nil, nil, "~"},
		{"exportTo narrows further", visible(sidecarsToo, "  defaultVisibility: PUBLIC"), nil, []string{".", "a"}, "a,prod"},
		{"what both allow, the own namespace", visible(sidecarsToo, "  defaultVisibility: NAMESPACE"), nil, []string{".", "a"}, "prod"},
		{"what both allow, nothing", visible(sidecarsToo, "  defaultVisibility: NAMESPACE"), nil, []string{"a"}, "~"},
		{"it never widens", visible(sidecarsToo, "  defaultVisibility: PUBLIC"), nil, []string{"~"}, "~"},
		{"a policy by label", visible(sidecarsToo, policies, tenantsStayIn), namespaceWith("tenant=yes"), nil, "prod"},
		{"no policy matches", visible(sidecarsToo, policies, tenantsStayIn), namespaceWith("tenant=no"), nil, "*"},
		{"no policy matches a namespace that is not known", visible(sidecarsToo, policies, tenantsStayIn), nil, nil, "*"},
		{"the first that matches", visible(sidecarsToo, policies, openTenants, tenantsStayIn), namespaceWith("tenant=yes", "open="), nil, "*"},
		{"all rules must match", visible(sidecarsToo, policies, openTenants, tenantsStayIn), namespaceWith("tenant=yes"), nil, "prod"},
		{"by the namespace's name", visible(sidecarsToo, policies, prodIsNowhere), namespaceWith("a=b"), nil, "~"},
		{"by the name of one that is not known", visible(sidecarsToo, policies, prodIsNowhere), nil, nil, "~"},
		{"a policy without rules", visible(sidecarsToo, policies, catchAll), nil, nil, "~"},
		{"a rule of a newer Istio", visible(sidecarsToo, policies, ofTomorrow), nil, nil, "*"},
	} {
		t.Run(test.name, func(t *testing.T) {
			translator := newTranslator(t, Options{})
			if _, err := translator.SetExports(parseMesh(t, test.mesh...).Exports); err != nil {
				t.Fatal(err)
			}
			if test.namespace != nil {
				translator.Translate(present(test.namespace))
			}
			updates, _ := translator.Translate(present(entry(entryExportTo(test.exportTo...))), present(service()))
			if got := updates[0].Resources[0].Visibility.String(); got != test.want {
				t.Errorf("ServiceEntry visible to: got %q, want %q", got, test.want)
			}
			if got := updates[1].Resources[0].Visibility.String(); got != "*" {
				t.Errorf("Service visible to: got %q, want * whatever holds for ServiceEntries", got)
			}
		})
	}
}

func TestASelectorThatMakesNoSense(t *testing.T) {
	for name, selector := range map[string]string{
		"an operator that is none":   "matchExpressions: [{key: a, operator: Like, values: [b]}]",
		"an operator without values": "matchExpressions: [{key: a, operator: In}]",
		"a key that is none":         "matchLabels: {'a b': c}",
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Join(visible(sidecarsToo, policies, "  - {visibility: NONE, matchingRules: [{namespaceSelector: {"+selector+"}}]}"), "\n")
			_, err := ParseMesh([]byte(text))
			if want := "serviceEntryVisibility.policies[0].matchingRules[0].namespaceSelector: "; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("ParseMesh: got %v, want an error with %q", err, want)
			}
		})
	}
}

// TestReachIsAsIfItHadAlwaysBeen holds that after any history of namespaces, ServiceEntries and mesh
// configurations, where what is concerned and due is translated again, a translator has said what a new one
// with the last configuration says of the objects that are left.
func TestReachIsAsIfItHadAlwaysBeen(t *testing.T) {
	meshes := []Mesh{
		parseMesh(t), parseMesh(t, visible(sidecarsToo, "  defaultVisibility: NAMESPACE")...), parseMesh(t, visible(sidecarsToo, policies, tenantsStayIn)...),
		parseMesh(t, visible(sidecarsToo, policies, openTenants, tenantsStayIn)...), parseMesh(t, visible(sidecarsToo, policies, openTenants, catchAll)...),
	}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		translator := newTranslator(t, Options{})
		said, objects := map[registry.Object][]string{}, map[registry.Object]metav1.Object{}
		again := func(picked func(metav1.Object) bool) {
			if picked == nil {
				return
			}
			var changes []Change
			for object, state := range objects {
				if picked(state) {
					changes = append(changes, Change{object, state})
				}
			}
			updates, _ := translator.Translate(changes...)
			say(said, updates)
		}
		var mesh Mesh
		for range 40 {
			if random.IntN(5) == 0 {
				mesh = meshes[random.IntN(len(meshes))]
				concerned, err := translator.SetExports(mesh.Exports)
				if err != nil {
					t.Fatal(err)
				}
				again(concerned)
				continue
			}
			var state metav1.Object = namespaceWith([][]string{nil, {"tenant=yes"}, {"tenant=yes", "open="}, {"tenant=no"}}[random.IntN(4)]...)
			if random.IntN(2) == 0 {
				state = entry(func(e *networkingv1.ServiceEntry) {
					e.Name = []string{"one", "two"}[random.IntN(2)]
					e.Spec.ExportTo = [][]string{nil, {"."}, {"test"}}[random.IntN(3)]
				})
			}
			change := present(state)
			if random.IntN(4) == 0 {
				change = gone(state)
				delete(objects, change.Object)
			} else {
				objects[change.Object] = state
			}
			updates, _ := translator.Translate(change)
			say(said, updates)
			again(translator.Due())
		}
		fresh := newTranslator(t, Options{})
		if _, err := fresh.SetExports(mesh.Exports); err != nil {
			t.Fatal(err)
		}
		var left []Change
		for object, state := range objects {
			left = append(left, Change{object, state})
		}
		slices.SortFunc(left, func(a, b Change) int { return strings.Compare(a.Object.Kind, b.Object.Kind) }) // Namespaces first.
		updates, _ := fresh.Translate(left...)
		want := map[registry.Object][]string{}
		say(want, updates)
		if !maps.EqualFunc(said, want, slices.Equal[[]string]) {
			t.Fatalf("seed %d:\n got  %v\n want %v", seed, said, want)
		}
	}
}
