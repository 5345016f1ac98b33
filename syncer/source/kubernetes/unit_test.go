package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
)

func object(name string) registry.Object {
	return registry.Object{Kind: source.KindService, Namespace: "prod", Name: name}
}

var servicesFeed = feed{kind: source.KindService}

func namesOf(changes []change) []string {
	var names []string
	for _, c := range changes {
		name := c.object.Name
		if c.state == nil {
			name += " gone"
		}
		names = append(names, name)
	}
	return names
}

func TestQueue(t *testing.T) {
	q := newQueue()
	for i, name := range []string{"a", "b", "a", "c"} {
		q.put(servicesFeed, object(name), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: fmt.Sprint(i)}})
	}
	q.put(servicesFeed, object("b"), nil)
	before := time.Now()

	changes, since := q.take(2)
	if got, want := namesOf(changes), []string{"a", "b gone"}; !slices.Equal(got, want) {
		t.Errorf("first batch: got %q, want %q: in order, the latest of each", got, want)
	}
	if got := changes[0].state.GetResourceVersion(); got != "2" {
		t.Errorf("state of a: got %s, want the latest, 2", got)
	}
	if since.IsZero() || since.After(before) {
		t.Errorf("since: got %v, want when the first came, before %v", since, before)
	}
	changes, _ = q.take(2)
	if got, want := namesOf(changes), []string{"c"}; !slices.Equal(got, want) {
		t.Errorf("second batch: got %q, want %q", got, want)
	}
	if changes, since = q.take(2); len(changes) != 0 || !since.IsZero() {
		t.Errorf("empty queue: got %v since %v, want nothing", changes, since)
	}

	q.put(feed{kind: source.KindNamespace}, registry.Object{Kind: source.KindNamespace, Name: "prod"}, &corev1.Namespace{})
	if got := q.count(source.KindService); got != 2 {
		t.Errorf("Services: got %d, want 2", got)
	}
	q.removeFeed(servicesFeed)
	changes, _ = q.take(10)
	names := namesOf(changes)
	slices.Sort(names)
	if want := []string{"a gone", "c gone", "prod"}; !slices.Equal(names, want) {
		t.Errorf("after the kind went: got %q, want %q", names, want)
	}
	if got := q.count(source.KindService); got != 0 {
		t.Errorf("Services: got %d, want 0", got)
	}
}

func TestHandlerQueuesWhatHappened(t *testing.T) {
	service := func(version string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "a", ResourceVersion: version, UID: "u"}}
	}
	for _, test := range []struct {
		name string
		do   func(enqueue)
		want []string
	}{
		{"added", func(e enqueue) { e.OnAdd(service("1"), true) }, []string{"a"}},
		{"updated", func(e enqueue) { e.OnUpdate(service("1"), service("2")) }, []string{"a"}},
		{"listed again", func(e enqueue) { e.OnUpdate(service("1"), service("1")) }, nil},
		{"deleted", func(e enqueue) { e.OnDelete(service("1")) }, []string{"a gone"}},
		{"deletion missed", func(e enqueue) { e.OnDelete(cache.DeletedFinalStateUnknown{Key: "prod/a"}) }, []string{"a gone"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := newQueue()
			test.do(enqueue{q, servicesFeed, ""})
			changes, _ := q.take(10)
			if got := namesOf(changes); !slices.Equal(got, test.want) {
				t.Errorf("queue: got %q, want %q", got, test.want)
			}
			for _, c := range changes {
				if c.object != object("a") {
					t.Errorf("object: got %v, want %v", c.object, object("a"))
				}
			}
		})
	}
}

func kindNamed(t *testing.T, name string) kind {
	t.Helper()
	if name == source.KindPod {
		return podKind("prod")
	}
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		t.Fatalf("no kind %s", name)
	}
	return kinds[i]
}

// linked are objects that select others, or are selected.
func linked() []source.Change {
	labels := map[string]string{"app": "vm", "tier": "one"}
	entry := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "selecting"}}
	entry.Spec.Hosts, entry.Spec.Resolution = []string{"selecting.com"}, networking.ServiceEntry_NONE
	entry.Spec.WorkloadSelector = &networking.WorkloadSelector{Labels: labels}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "selecting"}}
	service.Spec.ClusterIP, service.Spec.Selector = corev1.ClusterIPNone, labels
	service.Spec.Ports = []corev1.ServicePort{{Name: "sql", Port: 80, TargetPort: intstr.FromString("sql")}}
	workload := &networkingv1.WorkloadEntry{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "selected", Labels: labels}}
	workload.Spec.Address, workload.Spec.Ports = "192.0.2.9", map[string]uint32{"sql": 3307}
	var changes []source.Change
	for kind, state := range map[string]metav1.Object{source.KindServiceEntry: entry, source.KindService: service, source.KindWorkloadEntry: workload} {
		changes = append(changes, source.Change{
			Object: registry.Object{Kind: kind, Namespace: state.GetNamespace(), Name: state.GetName()}, State: state,
		})
	}
	slices.SortFunc(changes, func(a, b source.Change) int { return strings.Compare(a.Object.Kind, b.Object.Kind) })
	return changes
}

// decoded is an object as Istio's own types read it.
func decoded[T any, P interface {
	*T
	metav1.Object
}](t *testing.T) func(runtime.Object) metav1.Object {
	return func(o runtime.Object) metav1.Object {
		encoded, err := json.Marshal(o)
		object := P(new(T))
		if err = errors.Join(err, json.Unmarshal(encoded, object)); err != nil {
			t.Fatal(err)
		}
		return object
	}
}

// TestTrimDropsNothingThatNamesDependOn translates objects with everything in them before and after
// they are trimmed.
func TestTrimDropsNothingThatNamesDependOn(t *testing.T) {
	host, zone, node, yes := "h", "z", "n", true
	number, name := int32(80), "http"
	meta := func(labels, annotations map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: "prod", Name: "x", UID: "u", ResourceVersion: "7", CreationTimestamp: metav1.NewTime(time.Unix(1700000000, 0)),
			Labels: labels, Annotations: annotations,
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "secret"}},
			OwnerReferences: []metav1.OwnerReference{{Name: "secret"}},
			Finalizers:      []string{"secret"},
		}
	}
	for _, test := range []struct {
		kind   string
		object runtime.Object
		full   func(runtime.Object) metav1.Object
	}{
		{source.KindService, &corev1.Service{
			ObjectMeta: meta(map[string]string{"secret": "x"}, map[string]string{source.ExportToAnnotation: ".", "secret": "y"}),
			Spec: corev1.ServiceSpec{
				ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1", "fd00::1"}, Selector: map[string]string{"secret": "x"},
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 31234}}, LoadBalancerSourceRanges: []string{"secret"},
			},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{Hostname: "secret"}}}},
		}, nil},
		{source.KindService, &corev1.Service{
			ObjectMeta: meta(nil, nil), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "a.com"},
		}, nil},
		{source.KindNamespace, &corev1.Namespace{ObjectMeta: meta(map[string]string{"secret": "x"}, nil)}, nil},
		{source.KindEndpointSlice, &discoveryv1.EndpointSlice{
			ObjectMeta:  meta(map[string]string{discoveryv1.LabelServiceName: "x", "secret": "y"}, map[string]string{"secret": "z"}),
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{"10.0.0.1"}, Hostname: &host, Zone: &zone, NodeName: &node,
				Conditions:         discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &yes},
				TargetRef:          &corev1.ObjectReference{Name: "secret"},
				DeprecatedTopology: map[string]string{"secret": "x"},
			}},
			Ports: []discoveryv1.EndpointPort{{Port: &number, Name: &name}},
		}, nil},
		{source.KindServiceEntry, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
			"metadata": map[string]any{
				"namespace": "prod", "name": "x", "creationTimestamp": "2024-01-01T00:00:00Z", "managedFields": []any{map[string]any{"manager": "secret"}},
				"labels": map[string]any{source.AutoAllocateLabel: "true", "secret": "x"}, "annotations": map[string]any{"secret": "x"},
			},
			"spec": map[string]any{
				"hosts": []any{"a.com"}, "exportTo": []any{"."}, "resolution": "STATIC", "subjectAltNames": []any{"secret"},
				"ports":           []any{map[string]any{"number": int64(80), "name": "http", "targetPort": int64(8080)}},
				"endpoints":       []any{map[string]any{"address": "192.0.2.1", "labels": map[string]any{"secret": "x"}}},
				"newFieldOfIstio": "secret",
			},
			"status": map[string]any{
				"addresses":  []any{map[string]any{"host": "a.com", "value": "240.240.0.1"}},
				"conditions": []any{map[string]any{"type": "secret"}},
			},
		}}, decoded[networkingv1.ServiceEntry](t)},
		{source.KindServiceEntry, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
			"metadata": map[string]any{"namespace": "prod", "name": "x", "labels": map[string]any{"secret": "x"}},
			"spec": map[string]any{
				"hosts": []any{"a.com"}, "resolution": "NONE",
				"workloadSelector": map[string]any{"labels": map[string]any{"app": "vm", "tier": "one"}},
			},
		}}, decoded[networkingv1.ServiceEntry](t)},
		{source.KindService, &corev1.Service{
			ObjectMeta: meta(map[string]string{"secret": "x"}, nil),
			Spec: corev1.ServiceSpec{
				ClusterIP: "None", ClusterIPs: []string{"None"}, Selector: map[string]string{"app": "vm", "tier": "one"},
				PublishNotReadyAddresses: true, Ports: []corev1.ServicePort{{Name: "sql", Port: 80, TargetPort: intstr.FromString("sql")}},
			},
		}, nil},
		{source.KindWorkloadEntry, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
			"metadata": map[string]any{
				"namespace": "prod", "name": "x", "managedFields": []any{map[string]any{"manager": "secret"}},
				"labels": map[string]any{"app": "vm"}, "annotations": map[string]any{source.HealthCheckAnnotation: "true", "secret": "x"},
			},
			"spec": map[string]any{
				"address": "192.0.2.1", "labels": map[string]any{"tier": "one"}, "ports": map[string]any{"sql": int64(3306)},
				"network": "secret", "locality": "secret", "serviceAccount": "secret", "weight": int64(7),
			},
			"status": map[string]any{"conditions": []any{
				map[string]any{"type": "Healthy", "status": "True", "message": "secret", "reason": "secret", "lastProbeTime": "2024-01-01T00:00:00Z"},
			}},
		}}, decoded[networkingv1.WorkloadEntry](t)},
		{source.KindPod, &corev1.Pod{
			ObjectMeta: meta(map[string]string{"app": "vm", "tier": "one"}, map[string]string{"secret": "x"}),
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "secret"}}, NodeName: "secret"},
			Status: corev1.PodStatus{
				Phase: corev1.PodRunning, PodIP: "10.0.0.7", PodIPs: []corev1.PodIP{{IP: "10.0.0.7"}, {IP: "fd00::7"}}, HostIP: "secret",
				Conditions: []corev1.PodCondition{{Type: "secret"}, {Type: corev1.PodReady, Status: corev1.ConditionTrue, Reason: "secret"}},
			},
		}, nil},
	} {
		t.Run(test.kind, func(t *testing.T) {
			k := kindNamed(t, test.kind)
			translate := func(state metav1.Object) []registry.Update {
				translator, err := source.NewTranslator(source.Options{})
				if err != nil {
					t.Fatal(err)
				}
				updates, problems := translator.Translate(append(linked(), source.Change{
					Object: registry.Object{Kind: test.kind, Namespace: state.GetNamespace(), Name: state.GetName()}, State: state,
				})...)
				if len(problems) > 0 {
					t.Errorf("problems: %v", problems)
				}
				return updates
			}
			full := func(o runtime.Object) metav1.Object { return o.(metav1.Object) }
			if test.full != nil {
				full = test.full
			}
			want := translate(full(test.object.DeepCopyObject()))
			trimmed, err := transform(k)(test.object.DeepCopyObject())
			if err != nil {
				t.Fatal(err)
			}
			if again, err := transform(k)(trimmed); err != nil || !reflect.DeepEqual(again, trimmed) {
				t.Errorf("trimmed twice: got %v, %v, want %v", again, err, trimmed)
			}
			state := trimmed.(metav1.Object)
			if got := translate(state); !reflect.DeepEqual(got, want) {
				t.Errorf("translation of the trimmed object: got %v, want %v", got, want)
			}
			if text := fmt.Sprintf("%+v", trimmed); strings.Contains(text, "secret") {
				t.Errorf("the trimmed object still has what names do not need: %s", text)
			}
			if raw, ok := test.object.(metav1.Object); ok && (state.GetResourceVersion() != raw.GetResourceVersion() || state.GetUID() != raw.GetUID()) {
				t.Errorf("the trimmed object lost what informers need: %+v", trimmed)
			}
		})
	}
}

func TestTracesOfMissedDeletionsPassTheTransform(t *testing.T) {
	trace := cache.DeletedFinalStateUnknown{Key: "prod/a"}
	for _, k := range kinds {
		if got, err := transform(k)(trace); err != nil || got != any(trace) {
			t.Errorf("%s: got %v, %v, want it unchanged", k.name, got, err)
		}
	}
}

func TestAnObjectThatDoesNotDecodeIsKept(t *testing.T) {
	raw := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"namespace": "prod", "name": "x", "resourceVersion": "7"},
		"spec":     map[string]any{"hosts": "a.com"},
	}}
	got, err := transform(kindNamed(t, source.KindServiceEntry))(raw)
	broken, ok := got.(*undecodable)
	if err != nil || !ok || broken.Name != "x" || broken.Namespace != "prod" || broken.ResourceVersion != "7" || broken.fault.field != "spec" {
		t.Errorf("got %+v, %v, want the object's name and what is wrong with its spec", got, err)
	}
}

func TestNotReadyNamesWhatFailed(t *testing.T) {
	for body, want := range map[string]string{
		"[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed\n": "etcd failed: reason withheld",
		"shutting down\n": "shutting down",
	} {
		if got := notReady(body); got != want {
			t.Errorf("notReady(%q): got %q, want %q", body, got, want)
		}
	}
}
