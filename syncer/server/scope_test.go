package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
)

// scopedSyncer is a syncer whose VMs have the Sidecars that the test makes.
type scopedSyncer struct {
	*syncer
	translator *source.Translator
}

func startScoped(t *testing.T, log registry.Options, edit func(*Options)) *scopedSyncer {
	t.Helper()
	sidecars := source.NewSidecars()
	translator, err := source.NewTranslator(source.Options{Sidecars: sidecars})
	if err != nil {
		t.Fatal(err)
	}
	log.Scopes = true
	s := startUnsynced(t, log, func(o *Options) {
		o.Scopes = sidecars
		if edit != nil {
			edit(o)
		}
	})
	s.source.Synced()
	return &scopedSyncer{s, translator}
}

// sidecar makes a Sidecar, `namespace/name`, or replaces it. Without hosts it is gone.
func (s *scopedSyncer) sidecar(name string, selector map[string]string, hosts ...string) {
	s.t.Helper()
	namespace, name, _ := strings.Cut(name, "/")
	change := source.Change{Object: registry.Object{Kind: source.KindSidecar, Namespace: namespace, Name: name}}
	if len(hosts) > 0 {
		state := &networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		state.Spec.Egress = []*networking.IstioEgressListener{{Hosts: hosts}}
		if selector != nil {
			state.Spec.WorkloadSelector = &networking.WorkloadSelector{Labels: selector}
		}
		change.State = state
	}
	if _, problems := s.translator.Translate(change); len(problems) > 0 {
		s.t.Fatal(problems)
	}
}

// workload is a WorkloadEntry of namespace prod.
func (s *scopedSyncer) workload(name string, labels map[string]string) {
	state := &networkingv1.WorkloadEntry{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name}}
	state.Spec.Labels = labels
	s.translator.Translate(source.Change{Object: registry.Object{Kind: source.KindWorkloadEntry, Namespace: "prod", Name: name}, State: state})
}

// towns are Services of two namespaces, and the namespaces.
func towns(each int) []registry.Update {
	updates := []registry.Update{namespaceObject("prod"), namespaceObject("dev")}
	for i := range each {
		updates = append(updates,
			service("prod", fmt.Sprintf("service-%d", i), "10.0.0.1", registry.Public()),
			service("dev", fmt.Sprintf("service-%d", i), "10.0.0.2", registry.Public()))
	}
	return updates
}

// again is a VM that comes back with all that another one holds, and is brought up to date.
func (s *scopedSyncer) again(former *vm, hello *registryv1.Hello) *vm {
	s.t.Helper()
	v := openStream(s.t, s.dial())
	v.resources, v.revision, v.comparing = former.resources, former.revision, true
	hello.Compare, hello.Position, hello.Holding = true, former.position(), v.holding("prod")
	v.say(helloOf(hello))
	v.until("the welcome", func() bool { return v.welcome != nil })
	v.comparing = v.welcome.GetMode() == registryv1.Mode_MODE_COMPARE
	v.compare()
	return v
}

// namespacesOf counts the Services that a VM holds by their namespaces.
func (v *vm) namespacesOf() string {
	counts := map[string]int{}
	for key := range v.resources {
		for _, namespace := range []string{"prod", "dev"} {
			if strings.HasPrefix(key, strings.TrimSuffix(registryv1.ServiceKey("", namespace, "x"), "x")) {
				counts[namespace]++
			}
		}
	}
	return fmt.Sprintf("prod %d, dev %d, all %d", counts["prod"], counts["dev"], len(v.resources))
}

func expectHeld(t *testing.T, who string, v *vm, want string) {
	t.Helper()
	if got := v.namespacesOf(); got != want {
		t.Errorf("%s holds: got %s, want %s", who, got, want)
	}
}

func TestScopedViewIsSent(t *testing.T) {
	s := startScoped(t, registry.Options{}, nil)
	s.apply(towns(20)...)
	s.sidecar("prod/default", nil, "prod/*")
	in, out := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod"}), watch(t, s.dial(), &registryv1.Hello{Namespace: "test"})
	expectHeld(t, "the VM with the Sidecar", in, "prod 20, dev 0, all 22")
	expectHeld(t, "the VM without", out, "prod 20, dev 20, all 42")
	if view := in.welcome.GetView(); view != "prod" {
		t.Errorf("View: got %q, want prod", view)
	}
	if got, want := out.welcome.GetGeneration(), s.registry.Generation(); got != want {
		t.Errorf("Generation of the view without a scope: got %q, want %q", got, want)
	}

	// What is hidden is not sent, what is not hidden is.
	s.apply(service("dev", "new", "10.0.0.3", registry.Public()))
	out.until("the new Service of dev", func() bool { return out.resources[key("dev", "new")] != nil })
	s.apply(service("prod", "new", "10.0.0.3", registry.Public()))
	in.until("the new Service of prod", func() bool { return in.resources[key("prod", "new")] != nil })
	s.apply(gone("prod", "new"))
	in.until("its removal", func() bool { return in.resources[key("prod", "new")] == nil })
	expectHeld(t, "the VM with the Sidecar", in, "prod 20, dev 0, all 22")
}

func TestSidecarChanges(t *testing.T) {
	web := map[string]string{"app": "web"}
	tests := map[string]struct {
		before, change func(*scopedSyncer)
		held, want     string // before and after
		untouched      bool   // whether the VM's stream goes on
	}{
		"it imports more": {
			before: func(s *scopedSyncer) { s.sidecar("prod/default", nil, "prod/*") },
			change: func(s *scopedSyncer) { s.sidecar("prod/default", nil, "prod/*", "dev/service-7.dev.svc.cluster.local") },
			held:   "prod 300, dev 0, all 302", want: "prod 300, dev 1, all 303",
		},
		"it imports less": {
			before: func(s *scopedSyncer) { s.sidecar("prod/default", nil, "*/*") },
			change: func(s *scopedSyncer) { s.sidecar("prod/default", nil, "*/*", "~dev/service-7.dev.svc.cluster.local") },
			held:   "prod 300, dev 300, all 602", want: "prod 300, dev 299, all 601",
		},
		"it comes": {
			before: func(*scopedSyncer) {},
			change: func(s *scopedSyncer) { s.sidecar("prod/default", nil, "~/*") },
			held:   "prod 300, dev 300, all 602", want: "prod 0, dev 0, all 2",
		},
		"it goes": {
			before: func(s *scopedSyncer) { s.sidecar("prod/default", nil, "prod/*") },
			change: func(s *scopedSyncer) { s.sidecar("prod/default", nil) },
			held:   "prod 300, dev 0, all 302", want: "prod 300, dev 300, all 602",
		},
		"the root namespace's comes": {
			before: func(*scopedSyncer) {},
			change: func(s *scopedSyncer) { s.sidecar("istio-system/default", nil, "./*") },
			held:   "prod 300, dev 300, all 602", want: "prod 300, dev 0, all 302",
		},
		"one that selects the VM comes": {
			before: func(s *scopedSyncer) { s.workload("vm-1", web) },
			change: func(s *scopedSyncer) { s.sidecar("prod/web", web, "dev/*") },
			held:   "prod 300, dev 300, all 602", want: "prod 0, dev 300, all 302",
		},
		"the VM's labels": {
			before: func(s *scopedSyncer) { s.sidecar("prod/web", web, "dev/*"); s.workload("vm-1", nil) },
			change: func(s *scopedSyncer) { s.workload("vm-1", web) },
			held:   "prod 300, dev 300, all 602", want: "prod 0, dev 300, all 302",
		},
		"another that says the same": {
			before:    func(s *scopedSyncer) { s.sidecar("prod/default", nil, "prod/*", "test/*") },
			change:    func(s *scopedSyncer) { s.sidecar("prod/a-default", nil, "test/*", "prod/*") },
			held:      "prod 300, dev 0, all 302",
			untouched: true,
		},
		"one that selects others": {
			before:    func(s *scopedSyncer) { s.sidecar("prod/default", nil, "prod/*") },
			change:    func(s *scopedSyncer) { s.sidecar("prod/web", web, "dev/*") },
			held:      "prod 300, dev 0, all 302",
			untouched: true,
		},
		"another namespace's": {
			before:    func(s *scopedSyncer) { s.sidecar("prod/default", nil, "prod/*") },
			change:    func(s *scopedSyncer) { s.sidecar("dev/default", nil, "dev/*") },
			held:      "prod 300, dev 0, all 302",
			untouched: true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := startScoped(t, registry.Options{}, nil)
			s.apply(towns(300)...)
			test.before(s)
			v := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod", Node: "vm-1"})
			expectHeld(t, "the VM", v, test.held)
			other := watch(t, s.dial(), &registryv1.Hello{Namespace: "test"})
			if name == "the root namespace's comes" {
				s.sidecar("test/own", nil, "*/*", "~/none.example.com")
				other = s.follows(other, &registryv1.Hello{Namespace: "test"})
			}

			test.change(s)
			if test.untouched {
				s.apply(service("prod", "after", "10.0.0.9", registry.Public()))
				v.until("a change that comes after", func() bool { return v.resources[key("prod", "after")] != nil })
				if got := counterValue(t, s.server.metrics.rescoped); got != 0 {
					t.Errorf("rescoped_total: got %v, want 0", got)
				}
			} else {
				err := v.failure()
				if status.Code(err) != codes.Aborted || !strings.Contains(err.Error(), "Sidecar") {
					t.Errorf("Stream ends with %v, want Aborted and why", err)
				}
				before := *v
				v = s.again(v, &registryv1.Hello{Namespace: "prod", Node: "vm-1"})
				if v.welcome.GetMode() == registryv1.Mode_MODE_RESUME {
					t.Error("The VM resumes from what it saw through another scope")
				}
				if v.welcome.GetGeneration() == before.welcome.GetGeneration() {
					t.Errorf("Generation: got %q as before, want another", v.welcome.GetGeneration())
				}
				expectHeld(t, "the VM that came again", v, test.want)
			}
			// Who is not concerned notices nothing.
			s.apply(service("test", "last", "10.0.0.9", registry.Public()))
			other.until("a change, on the same stream", func() bool { return other.resources[key("test", "last")] != nil })
		})
	}
}

// follows is a VM that comes again as soon as its stream has ended.
func (s *scopedSyncer) follows(v *vm, hello *registryv1.Hello) *vm {
	s.t.Helper()
	if err := v.failure(); status.Code(err) != codes.Aborted {
		s.t.Fatalf("Stream ends with %v, want Aborted", err)
	}
	return watch(s.t, s.dial(), hello)
}

// TestScopedVMResumes holds that a VM whose scope is as it was resumes, and that few bytes tell so.
func TestScopedVMResumes(t *testing.T) {
	s := startScoped(t, registry.Options{}, nil)
	s.apply(towns(20)...)
	s.sidecar("prod/default", nil, "prod/*")
	hello := &registryv1.Hello{Namespace: "prod"}
	stays, leaves := watch(t, s.dial(), hello), watch(t, s.dial(), hello)
	if err := leaves.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := leaves.failure(); !errors.Is(err, io.EOF) {
		t.Fatalf("Stream ends with %v, want EOF", err)
	}
	s.apply(service("prod", "meanwhile", "10.0.0.9", registry.Public()), service("dev", "meanwhile", "10.0.0.9", registry.Public()))
	back := s.again(leaves, &registryv1.Hello{Namespace: "prod"})
	if got := back.welcome.GetMode(); got != registryv1.Mode_MODE_RESUME {
		t.Errorf("Mode: got %v, want resume", got)
	}
	expectHeld(t, "the VM that came back", back, "prod 21, dev 0, all 23")
	stays.until("what happened meanwhile", func() bool { return stays.resources[key("prod", "meanwhile")] != nil })
	if got, want := stays.keys(), back.keys(); !slices.Equal(got, want) {
		t.Errorf("Keys: got %q, want %q", got, want)
	}
}

// TestManyVMsAreRescoped has more streams change their scope than are ended at once.
func TestManyVMsAreRescoped(t *testing.T) {
	const vms = rescopedAtOnce + 20
	s := startScoped(t, registry.Options{}, nil)
	s.apply(towns(5)...)
	watching := make([]*vm, vms)
	for i := range watching {
		watching[i] = watch(t, s.dial(), &registryv1.Hello{Namespace: "prod", Node: fmt.Sprint(i)})
	}
	began := time.Now()
	s.sidecar("prod/default", nil, "prod/*")
	for _, v := range watching {
		if err := v.failure(); status.Code(err) != codes.Aborted {
			t.Fatalf("Stream ends with %v, want Aborted", err)
		}
	}
	t.Logf("%d streams ended within %v", vms, time.Since(began))
	if got := counterValue(t, s.server.metrics.rescoped); got != vms {
		t.Errorf("rescoped_total: got %v, want %d", got, vms)
	}
}

// TestExplainScope holds that an explanation says when a Sidecar hides what is asked for.
func TestExplainScope(t *testing.T) {
	s := startScoped(t, registry.Options{}, nil)
	s.apply(mesh()...)
	s.apply(namespaceObject("prod"))
	s.sidecar("test/default", nil, "./*", "*/*.example.net")
	s.sidecar("prod/web", map[string]string{"app": "web"}, "prod/*")
	s.workload("vm-1", map[string]string{"app": "web"})
	tests := map[string]struct{ query, outcome, reason, sidecar string }{
		"hidden": {
			"name=reviews.prod.svc.cluster.local&namespace=test", "nxdomain", "Service prod/reviews claims it, but is not imported by Sidecar test/default", "Sidecar test/default",
		},
		"hidden outside the zone": {
			"name=api.example.com&namespace=test", "passed-on", "but is not imported by Sidecar test/default", "Sidecar test/default",
		},
		"imported": {
			"name=portless.example.net&namespace=test", "answered", "claims it", "Sidecar test/default",
		},
		"exported to others": {
			"name=secret.prod.svc.cluster.local&namespace=test", "nxdomain", "exported to prod only, not to test", "Sidecar test/default",
		},
		"by the VM's labels":            {"name=portless.example.net&namespace=prod&node=vm-1", "answered", "claims it", "Sidecar prod/web"},
		"a namespace without":           {"name=reviews.prod.svc.cluster.local&namespace=dev", "answered", "claims it", ""},
		"a VM that none selects":        {"name=reviews.prod.svc.cluster.local&namespace=prod&node=vm-2", "answered", "claims it", ""},
		"a headless Service's endpoint": {"name=db-0.db.prod.svc.cluster.local&namespace=test", "nxdomain", "", "Sidecar test/default"},
		"an address":                    {"name=10.0.0.1&type=PTR&namespace=test", "passed-on", "", "Sidecar test/default"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			query, err := url.ParseQuery(test.query)
			if err != nil {
				t.Fatal(err)
			}
			code, body := s.get("/debug/registry?" + query.Encode())
			if code != http.StatusOK {
				t.Fatalf("got %d %s", code, body)
			}
			e := decodeExplanation(t, body)
			sidecar := ""
			if e.Sidecar != nil {
				sidecar = e.Sidecar.String()
			}
			if string(e.Outcome) != test.outcome || !strings.Contains(e.Reason, test.reason) || sidecar != test.sidecar {
				t.Errorf("got %s, %q through %q; want %s, %q through %q", e.Outcome, e.Reason, sidecar, test.outcome, test.reason, test.sidecar)
			}
		})
	}
}
