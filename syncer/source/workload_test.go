package source

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	metav1alpha1 "istio.io/api/meta/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// vm is a WorkloadEntry with the label app=db.
func vm(name, address string, edits ...func(*networkingv1.WorkloadEntry)) *networkingv1.WorkloadEntry {
	w := &networkingv1.WorkloadEntry{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name}}
	w.Spec.Address, w.Spec.Labels = address, map[string]string{"app": "db"}
	for _, edit := range edits {
		edit(w)
	}
	return w
}

func probed(w *networkingv1.WorkloadEntry) {
	w.Annotations = map[string]string{HealthCheckAnnotation: "true"}
}

func condition(kind, status string) func(*networkingv1.WorkloadEntry) {
	return func(w *networkingv1.WorkloadEntry) {
		w.Status.Conditions = append(w.Status.Conditions, &metav1alpha1.IstioCondition{Type: kind, Status: status})
	}
}

// pod is a ready Pod with the label app=db.
func pod(name string, ips ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, Labels: map[string]string{"app": "db", "pod-template-hash": "x"}}}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	return p
}

func selects(pairs ...string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) {
		e.Spec.Resolution = networking.ServiceEntry_STATIC
		e.Spec.WorkloadSelector = &networking.WorkloadSelector{Labels: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			e.Spec.WorkloadSelector.Labels[pairs[i]] = pairs[i+1]
		}
	}
}

func resolution(of networking.ServiceEntry_Resolution) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) { e.Spec.Resolution = of }
}

func hosts(hosts ...string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) { e.Spec.Hosts = hosts }
}

func selecting(s *corev1.Service) {
	headless(s)
	s.Spec.Selector = map[string]string{"app": "db"}
}

// answers is what anybody sees of resources: the addresses of each host, whoever adds them, and the endpoints of
// each headless Service.
func answers(said map[registry.Object][]registry.Resource) []string {
	addresses := map[string][]string{}
	for _, resources := range said {
		for _, resource := range resources {
			if resource.Visibility.Equal(registry.Nobody()) {
				continue
			}
			add := func(subject string, encoded [][]byte) {
				addresses[subject] = append(addresses[subject], "")
				for _, bytes := range encoded {
					address, _ := netip.AddrFromSlice(bytes)
					addresses[subject] = append(addresses[subject], address.String())
				}
			}
			if s := resource.Body.GetService(); s != nil && !s.GetHeadless() {
				add(s.GetHost(), s.GetAddresses())
			}
			for _, e := range resource.Body.GetEndpointSlice().GetEndpoints() {
				name := resource.Body.GetEndpointSlice().GetService() + " " + e.GetHostname() + e.GetName()
				if !e.GetReady() {
					name += " not ready"
				}
				if !e.GetServing() {
					name += " not serving"
				}
				for _, port := range resource.Body.GetEndpointSlice().GetPorts() {
					name += fmt.Sprintf(" %s/%d", port.GetName(), port.GetNumber())
				}
				add(name, e.GetAddresses())
			}
		}
	}
	var lines []string
	for _, host := range slices.Sorted(maps.Keys(addresses)) {
		of := addresses[host]
		slices.Sort(of)
		lines = append(lines, strings.TrimSpace(host+":"+strings.Join(slices.Compact(of), " ")))
	}
	return lines
}

func TestWorkloadsAnswer(t *testing.T) {
	both := func(t *testing.T, objects ...metav1.Object) (said map[registry.Object][]registry.Resource, problems []Problem) {
		translator := newTranslator(t, Options{})
		said = map[registry.Object][]registry.Resource{}
		for _, object := range objects {
			updates, found := translator.Translate(present(object))
			for _, update := range updates {
				said[update.Object] = update.Resources
			}
			problems = append(problems, found...)
		}
		return said, problems
	}
	long := strings.Repeat("x", 60)
	for _, test := range []struct {
		name     string
		objects  []metav1.Object
		want     []string
		problems int
	}{
		{"STATIC: the host, and each by its name", []metav1.Object{entry(selects("app", "db")), vm("vm-1", "10.0.0.1"), vm("vm-2", "fd00::2")},
			[]string{"db.example.com: 10.0.0.1 fd00::2", "vm-1.db.example.com: 10.0.0.1", "vm-2.db.example.com: fd00::2"}, 0},
		{"NONE", []metav1.Object{entry(selects("app", "db"), resolution(networking.ServiceEntry_NONE)), vm("vm-1", "10.0.0.1")},
			[]string{"db.example.com: 10.0.0.1", "vm-1.db.example.com: 10.0.0.1"}, 0},
		{"DNS: endpoints are never the host's answer", []metav1.Object{entry(selects("app", "db"), resolution(networking.ServiceEntry_DNS)), vm("vm-1", "10.0.0.1"), pod("p", "10.0.9.1")},
			[]string{"db.example.com:", "vm-1.db.example.com: 10.0.0.1"}, 0},
		{"a virtual IP wins", []metav1.Object{entry(selects("app", "db"), func(e *networkingv1.ServiceEntry) {
			e.Status.Addresses = status("db.example.com", "240.240.0.1")
		}), vm("vm-1", "10.0.0.1"), pod("p", "10.0.9.1")}, []string{"db.example.com: 240.240.0.1", "vm-1.db.example.com: 10.0.0.1"}, 0},
		{"a virtual IP of one host only", []metav1.Object{entry(selects("app", "db"), hosts("a.com", "b.com"), func(e *networkingv1.ServiceEntry) {
			e.Status.Addresses = status("a.com", "240.240.0.1")
		}), vm("vm-1", "10.0.0.1")}, []string{"a.com: 240.240.0.1", "b.com: 10.0.0.1", "vm-1.a.com: 10.0.0.1", "vm-1.b.com: 10.0.0.1"}, 0},
		{"a literal address wins", []metav1.Object{entry(selects("app", "db"), func(e *networkingv1.ServiceEntry) {
			e.Spec.Addresses = []string{"192.0.2.1"}
		}), vm("vm-1", "10.0.0.1"), pod("p", "10.0.9.1")}, []string{"db.example.com: 192.0.2.1", "vm-1.db.example.com: 10.0.0.1"}, 0},
		{"a wildcard has no names below", []metav1.Object{entry(selects("app", "db"), hosts("*.example.com")), vm("vm-1", "10.0.0.1")},
			[]string{"*.example.com: 10.0.0.1"}, 0},
		{"a name with dots, as autoregistration makes it", []metav1.Object{entry(selects("app", "db")), vm("group-10.0.0.5", "10.0.0.5")},
			[]string{"db.example.com: 10.0.0.5", "group-10.0.0.5.db.example.com: 10.0.0.5"}, 0},
		{"a name that is none in DNS: its address counts", []metav1.Object{entry(selects("app", "db")), vm(long+"xxxx", "10.0.0.5"), vm("vm-1", "10.0.0.1")},
			[]string{"db.example.com: 10.0.0.1 10.0.0.5", "vm-1.db.example.com: 10.0.0.1"}, 1},
		{"a name that is too long below the host", []metav1.Object{entry(selects("app", "db"), hosts(strings.Repeat(long+".", 4)+"com")), vm("vm-1-10.0.0.5", "10.0.0.5"), vm("v", "10.0.0.1")},
			[]string{"v." + strings.Repeat(long+".", 4) + "com: 10.0.0.1", strings.Repeat(long+".", 4) + "com: 10.0.0.1 10.0.0.5"}, 1},
		{"the labels of the object count, and are the stronger", []metav1.Object{
			entry(selects("app", "db")),
			vm("vm-1", "10.0.0.1", func(w *networkingv1.WorkloadEntry) {
				w.Spec.Labels, w.Labels = nil, map[string]string{"app": "db"}
			}),
			vm("vm-2", "10.0.0.2", func(w *networkingv1.WorkloadEntry) { w.Labels = map[string]string{"app": "web"} }),
		}, []string{"db.example.com: 10.0.0.1", "vm-1.db.example.com: 10.0.0.1"}, 0},
		{"all labels must be there", []metav1.Object{
			entry(selects("app", "db", "tier", "one")), vm("vm-1", "10.0.0.1"),
			vm("vm-2", "10.0.0.2", func(w *networkingv1.WorkloadEntry) { w.Labels = map[string]string{"tier": "one", "more": ""} }),
		}, []string{"db.example.com: 10.0.0.2", "vm-2.db.example.com: 10.0.0.2"}, 0},
		{"another namespace", []metav1.Object{entry(selects("app", "db")), vm("vm-1", "10.0.0.1", func(w *networkingv1.WorkloadEntry) { w.Namespace = "dev" })},
			[]string{"db.example.com:"}, 0},
		{"a selector without labels selects nothing", []metav1.Object{entry(selects()), vm("vm-1", "10.0.0.1"), pod("p", "10.0.9.1")},
			[]string{"db.example.com:"}, 1},
		{"endpoints do not count beside a selector", []metav1.Object{entry(selects("app", "db"), func(e *networkingv1.ServiceEntry) {
			e.Spec.Endpoints = []*networking.WorkloadEntry{{Address: "192.0.2.9"}}
		}), vm("vm-1", "10.0.0.1")}, []string{"db.example.com: 10.0.0.1", "vm-1.db.example.com: 10.0.0.1"}, 1},
		{"addresses that are none", []metav1.Object{
			entry(selects("app", "db")), vm("name", "db.internal"), vm("socket", "unix:///var/run/db.sock"), vm("gateway", ""), vm("vm-1", "10.0.0.1"),
		}, []string{"db.example.com: 10.0.0.1", "vm-1.db.example.com: 10.0.0.1"}, 0},
		{"an address that makes no sense", []metav1.Object{entry(selects("app", "db")), vm("odd", "10.0.0.1:80"), vm("vm-1", "10.0.0.1")},
			[]string{"db.example.com: 10.0.0.1", "vm-1.db.example.com: 10.0.0.1"}, 1},
		{"ready Pods, of both families, and no names", []metav1.Object{entry(selects("app", "db")), vm("vm-1", "10.0.0.1"), pod("p-1", "10.0.9.1", "fd00:9::1"), pod("p-2", "10.0.9.2")},
			[]string{"db.example.com: 10.0.0.1 10.0.9.1 10.0.9.2 fd00:9::1", "vm-1.db.example.com: 10.0.0.1"}, 0},
		{"Pods that are not ready, on their way out, at their end, without an address, or others", []metav1.Object{entry(selects("app", "db")),
			func() *corev1.Pod {
				p := pod("a", "10.0.9.1")
				p.Status.Conditions[0].Status = corev1.ConditionFalse
				return p
			}(),
			func() *corev1.Pod { p := pod("b", "10.0.9.2"); p.DeletionTimestamp = &metav1.Time{}; return p }(),
			func() *corev1.Pod { p := pod("c", "10.0.9.3"); p.Status.Phase = corev1.PodFailed; return p }(),
			pod("d"),
			func() *corev1.Pod { p := pod("e", "10.0.9.5"); p.Labels["app"] = "web"; return p }(),
			func() *corev1.Pod { p := pod("f", "10.0.9.6"); p.Namespace = "dev"; return p }(),
			func() *corev1.Pod { p := pod("g"); p.Status.PodIP = "10.0.9.7"; return p }(),
		}, []string{"db.example.com: 10.0.9.7"}, 0},
		{"two that select one", []metav1.Object{entry(selects("app", "db")), entry(selects("app", "db"), hosts("sql.example.com", "db.example.com"), func(e *networkingv1.ServiceEntry) { e.Name = "sql" }), vm("vm-1", "10.0.0.1")},
			[]string{"db.example.com: 10.0.0.1", "sql.example.com: 10.0.0.1", "vm-1.db.example.com: 10.0.0.1", "vm-1.sql.example.com: 10.0.0.1"}, 0},

		{"a headless Service, the port by its number, by another and by name", []metav1.Object{service(selecting, func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{
				{Name: "http", Port: 80}, {Name: "alt", Port: 81, TargetPort: intstr.FromInt32(8081)},
				{Name: "sql", Port: 82, TargetPort: intstr.FromString("mysql")}, {Name: "none", Port: 83, TargetPort: intstr.FromString("other")},
			}
		}), vm("vm-10.0.0.1", "10.0.0.1", func(w *networkingv1.WorkloadEntry) { w.Spec.Ports = map[string]uint32{"mysql": 3306, "http": 8080} })},
			[]string{"reviews vm-10.0.0.1 http/80 alt/8081 sql/3306: 10.0.0.1"}, 0},
		{"a headless Service beside Slices", []metav1.Object{service(selecting), slice(), vm("vm-1", "10.0.0.9")},
			[]string{"reviews : 10.0.0.1", "reviews vm-1: 10.0.0.9"}, 0},
		{"a headless Service, not healthy", []metav1.Object{service(selecting), vm("vm-1", "10.0.0.9", probed)},
			[]string{"reviews vm-1 not ready not serving: 10.0.0.9"}, 0},
		{"a headless Service, not healthy, published all the same", []metav1.Object{service(selecting, func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), vm("vm-1", "10.0.0.9", probed)},
			[]string{"reviews vm-1 not serving: 10.0.0.9"}, 0},
		{"a headless Service, no name in DNS", []metav1.Object{service(selecting), vm(long+"xxxx", "10.0.0.9")},
			[]string{"reviews : 10.0.0.9"}, 1},
		{"a Service with a cluster IP has no endpoints here", []metav1.Object{service(func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "db"} }), vm("vm-1", "10.0.0.9")},
			[]string{"reviews.prod.svc.cluster.local: 10.96.0.7"}, 0},
		{"a headless Service without a selector selects nothing", []metav1.Object{service(headless), vm("vm-1", "10.0.0.9")}, nil, 0},
		{"what selects is hidden", []metav1.Object{
			entry(selects("app", "db"), func(e *networkingv1.ServiceEntry) { e.Spec.ExportTo = []string{"~"} }), service(selecting, exportTo("~")), vm("vm-1", "10.0.0.9"),
		}, nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			said, problems := both(t, test.objects...)
			expectLines(t, "answers", answers(said), test.want)
			if len(problems) != test.problems {
				t.Errorf("problems: got %v, want %d", problems, test.problems)
			}
			backwards := slices.Clone(test.objects)
			slices.Reverse(backwards)
			said, _ = both(t, backwards...)
			expectLines(t, "answers, in the other order", answers(said), test.want)
		})
	}
}

func TestHealthy(t *testing.T) {
	for _, test := range []struct {
		name  string
		edits []func(*networkingv1.WorkloadEntry)
		want  bool
	}{
		{"not probed", nil, true},
		{"probed, and nothing known yet", []func(*networkingv1.WorkloadEntry){probed}, false},
		{"probed and healthy", []func(*networkingv1.WorkloadEntry){probed, condition("Healthy", "True")}, true},
		{"probed and not healthy", []func(*networkingv1.WorkloadEntry){probed, condition("Healthy", "False")}, false},
		{"probed and unknown", []func(*networkingv1.WorkloadEntry){probed, condition("Healthy", "Unknown")}, false},
		{"probed, with another condition", []func(*networkingv1.WorkloadEntry){probed, condition("Reconciled", "True")}, false},
		{"not healthy, and nothing says that it is probed", []func(*networkingv1.WorkloadEntry){condition("Healthy", "False")}, false},
		{"unknown, and nothing says that it is probed", []func(*networkingv1.WorkloadEntry){condition("Healthy", "Unknown")}, true},
		{"an annotation that says no", []func(*networkingv1.WorkloadEntry){func(w *networkingv1.WorkloadEntry) {
			w.Annotations = map[string]string{HealthCheckAnnotation: "false"}
		}}, true},
		{"an annotation that says nothing", []func(*networkingv1.WorkloadEntry){func(w *networkingv1.WorkloadEntry) {
			w.Annotations = map[string]string{HealthCheckAnnotation: "maybe"}
		}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Healthy(vm("vm-1", "10.0.0.1", test.edits...)); got != test.want {
				t.Errorf("Healthy: got %t, want %t", got, test.want)
			}
		})
	}
}

// TestWhatAWorkloadEntryYields spells one out: its part in the host is the ServiceEntry's, so that both are
// joined, and its own name is weaker than any other claim.
func TestWhatAWorkloadEntryYields(t *testing.T) {
	db := entry(selects("app", "db"), func(e *networkingv1.ServiceEntry) {
		e.CreationTimestamp = metav1.Unix(1700000000, 0)
		e.Spec.ExportTo = []string{"."}
		e.Spec.Ports = []*networking.ServicePort{{Number: 3306, Name: "sql", TargetPort: 13306}, {Number: 80, Name: "http"}}
	})
	sick := condition("Healthy", "False")
	steps := []struct {
		name    string
		changes []Change
		want    []string
	}{
		{"nothing selects it", []Change{present(vm("vm-1", "10.0.0.1"))}, nil},
		{"selected", []Change{present(db)}, []string{
			"WorkloadEntry/prod/vm-1/host/db/db.example.com -> prod: db.example.com (prod/db) ENDPOINT 10.0.0.1 since 1700000000",
			"WorkloadEntry/prod/vm-1/name/db/db.example.com -> prod: vm-1.db.example.com (prod/vm-1) ENDPOINT 10.0.0.1" +
				" sql/TCP/3306>13306 http/TCP/80 derived since 1700000000",
		}},
		{"with ports of its own", []Change{present(vm("vm-1", "10.0.0.1", func(w *networkingv1.WorkloadEntry) { w.Spec.Ports = map[string]uint32{"sql": 3307, "ssh": 22} }))}, []string{
			"WorkloadEntry/prod/vm-1/host/db/db.example.com -> prod: db.example.com (prod/db) ENDPOINT 10.0.0.1 since 1700000000",
			"WorkloadEntry/prod/vm-1/name/db/db.example.com -> prod: vm-1.db.example.com (prod/vm-1) ENDPOINT 10.0.0.1" +
				" sql/TCP/3306>3307 http/TCP/80 derived since 1700000000",
		}},
		{"not healthy: all is there and nobody sees it", []Change{present(vm("vm-1", "10.0.0.1", sick))}, []string{
			"WorkloadEntry/prod/vm-1/host/db/db.example.com -> ~: db.example.com (prod/db) ENDPOINT 10.0.0.1 since 1700000000",
			"WorkloadEntry/prod/vm-1/name/db/db.example.com -> ~: vm-1.db.example.com (prod/vm-1) ENDPOINT 10.0.0.1" +
				" sql/TCP/3306>13306 http/TCP/80 derived since 1700000000",
		}},
		{"selected by a headless Service", []Change{gone(db), present(service(selecting))}, []string{
			`WorkloadEntry/prod/vm-1/slice/reviews -> *: of prod/reviews {10.0.0.1 "vm-1"}`,
		}},
		{"nothing selects it any more", []Change{gone(service())}, nil},
		{"gone", []Change{gone(vm("vm-1", ""))}, nil},
	}
	translator := newTranslator(t, Options{})
	said := map[registry.Object][]string{}
	for _, step := range steps {
		updates, problems := translator.Translate(step.changes...)
		if len(problems) > 0 {
			t.Errorf("%s: problems %v, want none", step.name, problems)
		}
		say(said, updates)
		var got []string
		for object, lines := range said {
			if object.Kind == KindWorkloadEntry {
				got = append(got, lines...)
			}
		}
		expectLines(t, step.name, slices.Sorted(slices.Values(got)), step.want)
	}
	if len(translator.selections) != 0 || len(translator.yielded) != 0 {
		t.Errorf("selections: got %v and %v, want none left", translator.selections, translator.yielded)
	}
}

// TestAChangeCostsWhatItTouches: of many objects only those are said again that the change concerns.
func TestAChangeCostsWhatItTouches(t *testing.T) {
	translator := newTranslator(t, Options{})
	other := entry(selects("app", "web"), func(e *networkingv1.ServiceEntry) { e.Name = "web" })
	plain := entry(func(e *networkingv1.ServiceEntry) { e.Name = "plain" })
	db := entry(selects("app", "db"))
	state := []Change{present(db), present(other), present(plain), present(service(selecting)), present(pod("p", "10.0.9.1"))}
	for i := range 50 {
		state = append(state, present(vm(fmt.Sprintf("vm-%d", i), fmt.Sprintf("10.0.0.%d", i+1))))
	}
	translator.Translate(state...)
	for _, test := range []struct {
		name   string
		change Change
		want   []string
	}{
		{"a WorkloadEntry", present(vm("vm-7", "10.0.0.77")), []string{"WorkloadEntry prod/vm-7 *", "WorkloadEntry prod/vm-7 *"}},
		{"a WorkloadEntry goes", gone(vm("vm-7", "")), []string{"WorkloadEntry prod/vm-7 nothing", "WorkloadEntry prod/vm-7 nothing"}},
		{"a Pod", present(pod("p", "10.0.9.2")), []string{"ServiceEntry prod/db *"}},
		{"a Pod as it was", present(pod("p", "10.0.9.2")), nil},
		{"a Pod that nothing selects", present(func() *corev1.Pod { p := pod("q", "10.0.9.3"); p.Labels = nil; return p }()), nil},
		{"a Pod goes", gone(pod("p")), []string{"ServiceEntry prod/db *"}},
		{"a ServiceEntry as it was", present(db), []string{"ServiceEntry prod/db *"}},
		{"a ServiceEntry that selects none", present(other), []string{"ServiceEntry prod/web *"}},
		{"a ServiceEntry without a selector", present(plain), []string{"ServiceEntry prod/plain *"}},
		{"a Service as it was", present(service(selecting)), []string{"Service prod/reviews *"}},
	} {
		updates, _ := translator.Translate(test.change)
		expectLines(t, test.name, renderUpdates(updates), test.want)
	}
	if updates, _ := translator.Translate(present(entry(selects("app", "db"), hosts("sql.example.com")))); len(updates) != 1+2*49 {
		t.Errorf("another host: got %d updates, want the ServiceEntry and what 49 yield for it and the Service", len(updates))
	}
}

func TestSelectsPods(t *testing.T) {
	for _, test := range []struct {
		name  string
		entry *networkingv1.ServiceEntry
		want  bool
	}{
		{"STATIC", entry(selects("app", "db")), true},
		{"NONE", entry(selects("app", "db"), resolution(networking.ServiceEntry_NONE)), true},
		{"DNS", entry(selects("app", "db"), resolution(networking.ServiceEntry_DNS)), false},
		{"no selector", entry(resolution(networking.ServiceEntry_STATIC)), false},
		{"a selector without labels", entry(selects()), false},
		{"a literal address", entry(selects("app", "db"), func(e *networkingv1.ServiceEntry) { e.Spec.Addresses = []string{"192.0.2.1"} }), false},
		{"a virtual IP", entry(selects("app", "db"), func(e *networkingv1.ServiceEntry) {
			e.Status.Addresses = status("db.example.com", "240.240.0.1")
		}), false},
		{"a virtual IP of one host of two", entry(selects("app", "db"), hosts("db.example.com", "a.com"), func(e *networkingv1.ServiceEntry) {
			e.Status.Addresses = status("db.example.com", "240.240.0.1")
		}), true},
		{"a virtual IP that does not count", entry(selects("app", "db"), func(e *networkingv1.ServiceEntry) {
			e.Labels = map[string]string{AutoAllocateLabel: "false"}
			e.Status.Addresses = status("db.example.com", "240.240.0.1")
		}), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := SelectsPods(test.entry); got != test.want {
				t.Errorf("SelectsPods: got %t, want %t", got, test.want)
			}
		})
	}
}

// TestClaimsOfWorkloads: a host that somebody claims keeps its claim, whoever's endpoint has that name too.
func TestClaimsOfWorkloads(t *testing.T) {
	said, _ := newTranslator(t, Options{}).Translate(
		present(entry(selects("app", "db"))), present(vm("vm-1", "10.0.0.1")),
		present(entry(hosts("vm-1.db.example.com"), func(e *networkingv1.ServiceEntry) {
			e.Namespace, e.Spec.Addresses, e.CreationTimestamp = "dev", []string{"192.0.2.1"}, metav1.Unix(1700000000, 0)
		})))
	var claims []*registryv1.Service
	for _, update := range said {
		for _, resource := range update.Resources {
			if s := resource.Body.GetService(); s.GetHost() == "vm-1.db.example.com" {
				claims = append(claims, s)
			}
		}
	}
	for _, namespace := range []string{"prod", "dev", "test"} {
		ruling := registryv1.ResolveClaims(claims, namespace)
		if len(ruling.Winners) != 1 || ruling.Winners[0].GetNamespace() != "dev" || ruling.Reason != registryv1.ReasonDerived {
			t.Errorf("seen from %s: got %v for %q, want what dev claims", namespace, ruling.Winners, ruling.Reason)
		}
	}
}
