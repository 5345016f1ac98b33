package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/test/controlplane"
)

// newIstioFixture is a fixture with Istio's definitions.
func newIstioFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.do(f.plane.InstallIstioCRDs(t.Context()))
	t.Cleanup(func() {
		if err := f.plane.RemoveIstioCRDs(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// object of Istio's, with its spec in JSON.
func (f *fixture) istio(in dynamic.NamespaceableResourceInterface, kind, name, spec string) {
	f.t.Helper()
	object := map[string]any{"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": map[string]any{"name": name}}
	var decoded map[string]any
	f.do(json.Unmarshal([]byte(spec), &decoded))
	object["spec"] = decoded
	_, err := in.Namespace(f.namespace).Create(f.t.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
	f.do(err)
}

func (f *fixture) createWorkload(name, spec string) {
	f.t.Helper()
	f.istio(f.dynamic.Resource(workloadEntryKind.resource), source.KindWorkloadEntry, name, spec)
}

func (f *fixture) patchWorkload(name, patch string, subresources ...string) {
	f.t.Helper()
	_, err := f.dynamic.Resource(workloadEntryKind.resource).Namespace(f.namespace).
		Patch(f.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...)
	f.do(err)
}

// createSelecting makes a ServiceEntry that selects app=db.
func (f *fixture) createSelecting(name, host, resolution string) {
	f.t.Helper()
	f.istio(f.dynamic.Resource(serviceEntries), source.KindServiceEntry, name, fmt.Sprintf(
		`{"hosts":[%q],"location":"MESH_INTERNAL","resolution":%q,"ports":[{"number":3306,"name":"sql","protocol":"TCP"}],"workloadSelector":{"labels":{"app":"db"}}}`, host, resolution))
}

// createPod makes a Pod with the label app=db, which is ready where it has an address.
func (f *fixture) createPod(name, address string) {
	f.t.Helper()
	_, err := f.admin.CoreV1().Pods(f.namespace).Create(f.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "db"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "db", Image: "db"}}},
	}, metav1.CreateOptions{})
	f.do(err)
	if address != "" {
		f.patchPod(name, corev1.ConditionTrue, address)
	}
}

func (f *fixture) patchPod(name string, ready corev1.ConditionStatus, address string) {
	f.t.Helper()
	_, err := f.admin.CoreV1().Pods(f.namespace).Patch(f.t.Context(), name, types.MergePatchType, fmt.Appendf(nil,
		`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%q}],"conditions":[{"type":"Ready","status":%q}]}}`, address, address, ready),
		metav1.PatchOptions{}, "status")
	f.do(err)
}

func TestFollowsWorkloadEntries(t *testing.T) {
	f := newIstioFixture(t)
	f.createSelecting("db", "db.example.com", "STATIC")
	f.createWorkload("vm-1", `{"address":"10.2.0.1","labels":{"app":"db"}}`)
	f.createWorkload("group-10.2.0.2", `{"address":"10.2.0.2","labels":{"app":"db"}}`)
	f.createWorkload("other", `{"address":"10.2.0.3","labels":{"app":"web"}}`)
	f.follow(f.shippedRole())
	f.awaitReady()
	all := []string{
		"db.example.com", "db.example.com 10.2.0.1", "db.example.com 10.2.0.2",
		"group-10.2.0.2.db.example.com 10.2.0.2", "vm-1.db.example.com 10.2.0.1",
	}
	without := []string{"db.example.com", "db.example.com 10.2.0.1", "vm-1.db.example.com 10.2.0.1"}
	if got := f.names(); !slices.Equal(got, all) {
		t.Errorf("names when synced: got %q, want %q", got, all)
	}

	f.patchWorkload("group-10.2.0.2", `{"metadata":{"annotations":{"proxy.istio.io/health-checks-enabled":"true"}}}`)
	f.expect(without...)
	for _, step := range []struct {
		status string
		want   []string
	}{{"True", all}, {"False", without}, {"True", all}} {
		f.patchWorkload("group-10.2.0.2", fmt.Sprintf(`{"status":{"conditions":[{"type":"Healthy","status":%q,"lastProbeTime":"2026-01-01T00:00:00Z"}]}}`, step.status), "status")
		f.expect(step.want...)
	}

	headless := func(line string) []string {
		return slices.Sorted(slices.Values(append(slices.Clone(all), "headless", line)))
	}
	_, err := f.admin.CoreV1().Services(f.namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "headless"},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app": "web"}},
	}, metav1.CreateOptions{})
	f.do(err)
	f.expect(headless("slice of headless 10.2.0.3")...)
	f.patchWorkload("other", `{"spec":{"address":"10.2.0.4"}}`)
	f.expect(headless("slice of headless 10.2.0.4")...)
	f.do(f.dynamic.Resource(workloadEntryKind.resource).Namespace(f.namespace).Delete(t.Context(), "other", metav1.DeleteOptions{}))
	f.expect(slices.Sorted(slices.Values(append(slices.Clone(all), "headless")))...)

	f.do(f.plane.RemoveIstioCRDs(t.Context()))
	f.expect("headless")
	f.eventually("the source to be healthy without Istio", f.healthy)
	if strings.Contains(f.log.String(), "forbids") {
		t.Error("the shipped role does not suffice")
	}
}

func TestNamespacesWhosePodsAreNeeded(t *testing.T) {
	entry := func(namespace, name string, resolution networking.ServiceEntry_Resolution) *networkingv1.ServiceEntry {
		e := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		e.Spec.Hosts, e.Spec.Resolution = []string{"db.example.com"}, resolution
		e.Spec.WorkloadSelector = &networking.WorkloadSelector{Labels: map[string]string{"app": "db"}}
		return e
	}
	const selects, never = networking.ServiceEntry_STATIC, networking.ServiceEntry_DNS
	of := newPodSelectors()
	for _, step := range []struct {
		name string
		do   func()
		want []string
		left int
	}{
		{"none", func() {}, []string{}, 0},
		{"one that never answers Pods", func() { of.OnAdd(entry("a", "dns", never), true) }, []string{}, 0},
		{"two in one namespace, one in another", func() {
			of.OnAdd(entry("b", "one", selects), true)
			of.OnAdd(entry("b", "two", selects), true)
			of.OnAdd(entry("a", "one", selects), true)
		}, []string{"a", "b"}, 0},
		{"one of two goes", func() { of.OnDelete(cache.DeletedFinalStateUnknown{Key: "b/one"}) }, []string{"a", "b"}, 0},
		{"the other changes", func() { of.OnUpdate(nil, entry("b", "two", never)) }, []string{"a"}, 0},
		{"one that cannot be decoded stays what it was", func() { of.OnUpdate(nil, &undecodable{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "one"}}) }, []string{"a"}, 0},
		{"all are gone", of.gone, []string{}, 0},
	} {
		step.do()
		if got, left, known := of.latest(); !slices.Equal(got, step.want) || left != step.left || known {
			t.Errorf("%s: got %q and %d left, known %t, want %q and %d, not known", step.name, got, left, known, step.want, step.left)
		}
	}
	for i := range maxPodNamespaces + 3 {
		of.OnAdd(entry(fmt.Sprintf("n%04d", i), "one", selects), true)
	}
	of.listed()
	if got, left, known := of.latest(); len(got) != maxPodNamespaces || got[0] != "n0000" || left != 3 || !known {
		t.Errorf("too many: got %d and %d left, known %t, want %d and 3, known", len(got), left, known, maxPodNamespaces)
	}
}

// podRequests are the requests of Pods, in order.
func (r *recorder) podRequests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var seen []string
	for _, request := range r.seen {
		if path, _, _ := strings.Cut(request, "?"); strings.Contains(path, "pods") {
			seen = append(seen, request)
		}
	}
	return seen
}

func (f *fixture) expectUnfollowed(times int) {
	f.t.Helper()
	f.eventually("the Pods to be followed no more", func() bool {
		return strings.Count(f.log.String(), "no longer following the Pods of a namespace") == times
	})
}

func TestPodsAreFollowedWhereTheyAreNeeded(t *testing.T) {
	f := newIstioFixture(t)
	elsewhere := &fixture{t: t, admin: f.admin, dynamic: f.dynamic, namespace: f.plane.Namespace(t)}
	f.createPod("a", "10.1.0.1")
	f.createPod("b", "")
	elsewhere.createPod("a", "10.1.9.1")
	elsewhere.createSelecting("dns", "dns.example.com", "DNS") // Endpoints never answer it.
	config, recorder := f.recorded(f.shippedRole())
	before := goleak.IgnoreCurrent()
	f.follow(config)
	f.awaitReady()
	if got := recorder.podRequests(); len(got) > 0 {
		t.Errorf("requests of Pods: got %q, want none without a selector", got)
	}

	unfollowed := 0
	for range 2 { // Comes, goes, and comes back.
		f.createSelecting("db", "db.example.com", "STATIC")
		f.expect("db.example.com 10.1.0.1")
		f.patchPod("b", corev1.ConditionTrue, "10.1.0.2")
		f.expect("db.example.com 10.1.0.1 10.1.0.2")
		f.patchPod("b", corev1.ConditionFalse, "10.1.0.2")
		f.expect("db.example.com 10.1.0.1")
		f.createPod("c", "10.1.0.3")
		f.expect("db.example.com 10.1.0.1 10.1.0.3")
		f.do(f.admin.CoreV1().Pods(f.namespace).Delete(t.Context(), "c", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}))
		f.expect("db.example.com 10.1.0.1")

		f.do(f.dynamic.Resource(serviceEntries).Namespace(f.namespace).Delete(t.Context(), "db", metav1.DeleteOptions{}))
		f.expect()
		unfollowed++
		f.expectUnfollowed(unfollowed)
	}
	seen := recorder.podRequests()
	if len(seen) == 0 {
		t.Error("requests of Pods: got none, want some")
	}
	for _, request := range seen {
		if !strings.HasPrefix(request, "/api/v1/namespaces/"+f.namespace+"/pods?") || !strings.Contains(request, "status.phase%21%3DSucceeded") ||
			!strings.Contains(request, "accept=application/vnd.kubernetes.protobuf") {
			t.Errorf("request of Pods: got %s, want one of namespace %s, of those that have not ended", request, f.namespace)
		}
	}

	// A virtual IP comes before endpoints, so that Pods do not count.
	f.createSelecting("db", "db.example.com", "STATIC")
	f.expect("db.example.com 10.1.0.1")
	f.patchEntryStatus("db", `{"addresses":[{"host":"db.example.com","value":"240.240.0.1"}]}`)
	f.expect("db.example.com 240.240.0.1")
	f.expectUnfollowed(unfollowed + 1)

	// Their definition goes while Pods are followed.
	elsewhere.createSelecting("db", "db.example.com", "NONE")
	f.eventually("Pods elsewhere to be followed", func() bool {
		return slices.ContainsFunc(recorder.podRequests(), func(request string) bool { return strings.Contains(request, elsewhere.namespace) })
	})
	f.do(f.plane.RemoveIstioCRDs(t.Context()))
	f.expect()
	f.eventually("the source to be healthy without Istio", f.healthy)
	f.stop()
	goleak.VerifyNone(t, before)
}

// TestPodsOfOneNamespaceMayBeForbidden: with roles instead of a cluster role, what one namespace forbids does not
// touch another.
func TestPodsOfOneNamespaceMayBeForbidden(t *testing.T) {
	f := newIstioFixture(t)
	forbidden := &fixture{t: t, admin: f.admin, dynamic: f.dynamic, namespace: f.plane.Namespace(t)}
	ctx := t.Context()
	subject := []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: controlplane.SyncerUser, APIGroup: rbacv1.GroupName}}
	f.shippedRole()
	shipped, err := f.admin.RbacV1().ClusterRoles().Get(ctx, "meshvm-syncer", metav1.GetOptions{})
	f.do(err)
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}, Rules: slices.DeleteFunc(shipped.Rules, func(rule rbacv1.PolicyRule) bool {
		return slices.Contains(rule.Resources, "pods")
	})}
	if len(role.Rules) == 0 {
		t.Fatal("the shipped role has no rule but that of Pods")
	}
	_, err = f.admin.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{})
	f.do(err)
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: f.namespace}, Subjects: subject, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: role.Name, APIGroup: rbacv1.GroupName},
	}
	_, err = f.admin.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	f.do(err)
	t.Cleanup(func() { // Another test holds that this user may do nothing.
		if err := f.admin.RbacV1().ClusterRoleBindings().Delete(context.Background(), f.namespace, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	_, err = f.admin.RbacV1().Roles(f.namespace).Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "pods"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "watch"}}},
	}, metav1.CreateOptions{})
	f.do(err)
	_, err = f.admin.RbacV1().RoleBindings(f.namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "pods"}, Subjects: subject, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "pods", APIGroup: rbacv1.GroupName},
	}, metav1.CreateOptions{})
	f.do(err)

	config, err := f.plane.RESTConfigFor(controlplane.SyncerUser)
	f.do(err)
	f.createPod("a", "10.1.0.1")
	f.createSelecting("db", "db.example.com", "STATIC")
	f.follow(config)
	f.awaitReady()
	f.expect("db.example.com 10.1.0.1")

	forbidden.createPod("a", "10.1.9.1")
	forbidden.createSelecting("db", "db.example.com", "STATIC")
	f.expectLog("level=ERROR", "forbids", "resource=\"pods in namespace "+forbidden.namespace+"\"")
	f.createPod("b", "10.1.0.2")
	f.expect("db.example.com 10.1.0.1 10.1.0.2")
	f.do(f.dynamic.Resource(serviceEntries).Namespace(forbidden.namespace).Delete(ctx, "db", metav1.DeleteOptions{}))
	f.eventually("the source to be healthy again", f.healthy)
}

// TestADeletedDefinitionTakesNoWorkloadAway, be it that of the workloads or that of what selects them.
func TestADeletedDefinitionTakesNoWorkloadAway(t *testing.T) {
	for _, resource := range []string{"workloadentries", "serviceentries"} {
		t.Run(resource, func(t *testing.T) {
			f := newIstioFixture(t)
			f.guard = registry.GuardOptions{Share: 0.5, Minimum: 1, Window: time.Minute, Hold: time.Hour}
			f.createSelecting("db", "db.example.com", "STATIC")
			want := []string{"db.example.com"}
			for i := range 15 {
				f.createWorkload(fmt.Sprintf("vm-%02d", i), fmt.Sprintf(`{"address":"10.2.0.%d","labels":{"app":"db"}}`, i))
				want = append(want, fmt.Sprintf("db.example.com 10.2.0.%d", i), fmt.Sprintf("vm-%02d.db.example.com 10.2.0.%d", i, i))
			}
			slices.Sort(want)
			f.follow(f.shippedRole())
			f.awaitReady()
			f.expect(want...)
			start := f.registry.Revision()
			f.do(f.dynamic.Resource(definitionResource).Delete(t.Context(), resource+".networking.istio.io", metav1.DeleteOptions{}))
			f.expectLog("no longer following a kind", "definition="+resource)
			f.eventually("all workloads to be held", func() bool {
				for _, kind := range f.registry.GuardStatus()[0].Kinds {
					if kind.Kind == source.KindWorkloadEntry {
						return kind.Held == 30
					}
				}
				return false
			})
			f.expect(want...)
			if got := f.removed(start); len(got) > 0 {
				t.Errorf("Removed: got %q, want nothing ever", got)
			}
			if got := f.registry.ReleaseHeld("", ""); got == 0 {
				t.Error("Released: got nothing, want what was held")
			}
			if resource == "serviceentries" {
				f.expect()
			} else {
				f.expect("db.example.com")
			}
		})
	}
}
