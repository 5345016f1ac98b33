package kubernetes

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
)

func (f *fixture) createSidecar(name, spec string) {
	f.t.Helper()
	f.istio(f.dynamic.Resource(sidecarKind.resource), source.KindSidecar, name, spec)
}

// importedBy are the hosts of the test's namespace that a VM of it sees.
func (f *fixture) importedBy(vm string) []string {
	scope, _ := f.sidecars.Scope(f.namespace, vm, netip.Addr{})
	view := f.registry.OpenView(f.namespace, scope)
	defer view.Close()
	var names []string
	for _, entry := range view.Content().Entries {
		if entry.Object.Namespace == f.namespace {
			names = append(names, entry.Object.Name)
		}
	}
	slices.Sort(names)
	return names
}

func (f *fixture) expectImported(vm string, want ...string) {
	f.t.Helper()
	f.eventually(vm+" to see "+strings.Join(want, ", "), func() bool { return slices.Equal(f.importedBy(vm), want) })
}

func TestFollowsSidecars(t *testing.T) {
	f := newIstioFixture(t)
	for _, name := range []string{"reviews", "ratings"} {
		_, err := f.admin.CoreV1().Services(f.namespace).Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{})
		f.do(err)
	}
	f.createSidecar("default", `{"egress":[{"hosts":["./reviews.`+f.namespace+`.svc.cluster.local"]}]}`)
	f.sidecars = source.NewSidecars()
	f.follow(f.shippedRole())
	f.awaitReady()
	if got, want := f.importedBy("vm"), []string{"reviews"}; !slices.Equal(got, want) {
		t.Errorf("names when synced: got %q, want %q", got, want)
	}

	f.createSidecar("selecting", `{"workloadSelector":{"labels":{"app":"db"}},"egress":[{"hosts":["./ratings.`+f.namespace+`.svc.cluster.local"]}]}`)
	f.createWorkload("vm", `{"address":"10.2.0.1","labels":{"app":"db"}}`)
	f.expectImported("vm", "ratings")
	f.expectImported("other", "reviews")

	sidecars := f.dynamic.Resource(sidecarKind.resource).Namespace(f.namespace)
	_, err := sidecars.Patch(t.Context(), "selecting", types.MergePatchType, []byte(`{"spec":{"egress":[{"hosts":["reviews","./*"]}]}}`), metav1.PatchOptions{})
	f.do(err)
	f.expectImported("vm", "ratings", "reviews")
	f.expectLog("Sidecar "+f.namespace+"/selecting", "field=spec.egress[0].hosts[0]", "want namespace/dnsName", "left out, the rest is served")

	f.do(sidecars.Delete(t.Context(), "selecting", metav1.DeleteOptions{}))
	f.expectImported("vm", "reviews")

	// Without Istio nothing is hidden.
	f.do(f.plane.RemoveIstioCRDs(t.Context()))
	f.expectImported("vm", "ratings", "reviews")
	f.eventually("the source to be healthy without Istio", f.healthy)
	if strings.Contains(f.log.String(), "forbids") {
		t.Error("the shipped role does not suffice")
	}
}

// TestSidecarsAreNotWatched holds that nothing of them is asked for where nobody goes by them.
func TestSidecarsAreNotWatched(t *testing.T) {
	f := newIstioFixture(t)
	f.createSidecar("default", `{"egress":[{"hosts":["~/*"]}]}`)
	config, recorder := f.recorded(f.shippedRole())
	f.follow(config)
	f.awaitReady()
	recorder.mu.Lock()
	defer recorder.mu.Unlock()
	for _, request := range recorder.seen {
		if strings.Contains(request, "sidecars") {
			t.Errorf("request of Sidecars: %s", request)
		}
	}
	if len(recorder.seen) == 0 {
		t.Error("requests: got none, want some")
	}
}

func unstructuredOf(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &object.Object); err != nil {
		t.Fatal(err)
	}
	return object
}

// TestSidecarsAreDecoded holds what is kept of a Sidecar.
func TestSidecarsAreDecoded(t *testing.T) {
	sidecars := source.NewSidecars()
	translator, err := source.NewTranslator(source.Options{Sidecars: sidecars})
	if err != nil {
		t.Fatal(err)
	}
	raw := unstructuredOf(t, `{"metadata":{"namespace":"prod","name":"default","creationTimestamp":"2026-01-01T00:00:00Z","managedFields":[{"manager":"kubectl"}]},
		"spec":{"egress":[{"port":{"number":80,"protocol":"HTTP","name":"http"},"bind":"127.0.0.1","hosts":["~/*"]}],"ingress":[{"port":{"number":80},"defaultEndpoint":"127.0.0.1:8080"}],"newer":1}}`)
	decoded, fault := decodeSidecar(raw)
	if fault != nil {
		t.Fatal(fault.err)
	}
	if len(decoded.GetManagedFields()) > 0 {
		t.Error("managed fields are kept")
	}
	translator.Translate(source.Change{Object: registry.Object{Kind: source.KindSidecar, Namespace: "prod", Name: "default"}, State: decoded})
	scope, by := sidecars.Scope("prod", "", netip.Addr{})
	if by.Name != "default" || scope == nil {
		t.Errorf("Scope: got %v by %v, want one of Sidecar default", scope, by)
	}
	if _, fault := decodeSidecar(unstructuredOf(t, `{"metadata":{"name":"bad"},"spec":{"egress":"all"}}`)); fault == nil || fault.field != "spec" {
		t.Errorf("Fault of a Sidecar that is no Sidecar: got %v, want one of its spec", fault)
	}
}
