package source

import (
	"slices"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/registry"
)

// noon is when the tests begin.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// createdAgo is a ServiceEntry that was made some time before noon.
func createdAgo(age time.Duration, edits ...func(*networkingv1.ServiceEntry)) *networkingv1.ServiceEntry {
	return entry(append(edits, func(e *networkingv1.ServiceEntry) { e.CreationTimestamp = metav1.NewTime(noon.Add(-age)) })...)
}

func withStatus(pairs ...string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) { e.Status.Addresses = status(pairs...) }
}

func withHosts(hosts ...string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) { e.Spec.Hosts = hosts }
}

// answersOf is how the hosts of updates are answered: by address, held back, or passed on.
func answersOf(updates []registry.Update) string {
	var lines []string
	for _, update := range updates {
		for _, resource := range update.Resources {
			service := resource.Body.GetService()
			answer := "passed on"
			switch {
			case len(service.GetAddresses()) > 0:
				answer = "answered"
			case strings.HasSuffix(service.GetAddressKind().String(), "PENDING"):
				answer = "held"
			}
			lines = append(lines, service.GetHost()+" "+answer)
		}
	}
	return strings.Join(lines, ", ")
}

// TestHeldBack goes through the life of hosts whose virtual IPs are awaited for 30 seconds.
func TestHeldBack(t *testing.T) {
	type step struct {
		at      time.Duration // Since noon.
		state   *networkingv1.ServiceEntry
		want    string // What the step yields. Without a state, what time alone does.
		waiting int
		due     time.Duration // Since noon; zero: nothing is due.
	}
	label := func(value string) func(*networkingv1.ServiceEntry) {
		return func(e *networkingv1.ServiceEntry) { e.Labels = map[string]string{AutoAllocateLabel: value} }
	}
	static := func(e *networkingv1.ServiceEntry) {
		e.Spec.Resolution = networking.ServiceEntry_STATIC
		e.Spec.Endpoints = []*networking.WorkloadEntry{{Address: "192.0.2.8"}}
	}
	tests := []struct {
		name  string
		pass  bool
		steps []step
	}{
		{"passed on at once by default, and counted", true, []step{
			{0, createdAgo(0), "db.example.com passed on", 1, 0},
			{time.Second, createdAgo(0, withStatus("db.example.com", "240.240.0.1")), "db.example.com answered", 0, 0},
		}},
		{"held from its creation until the status comes", false, []step{
			{0, createdAgo(0), "db.example.com held", 1, 30 * time.Second},
			{2 * time.Second, createdAgo(0, withStatus("db.example.com", "240.240.0.1")), "db.example.com answered", 0, 0},
			{time.Minute, nil, "", 0, 0},
		}},
		{"held for 30 seconds, then passed on, and still counted", false, []step{
			{0, createdAgo(0), "db.example.com held", 1, 30 * time.Second},
			{29 * time.Second, nil, "", 1, 30 * time.Second},
			{30 * time.Second, nil, "db.example.com passed on", 1, 0},
		}},
		{"a syncer that starts later counts from the creation", false, []step{
			{0, createdAgo(20 * time.Second), "db.example.com held", 1, 10 * time.Second},
			{10 * time.Second, nil, "db.example.com passed on", 1, 0},
		}},
		{"an old one is not held back by a restart", false, []step{{0, createdAgo(time.Hour), "db.example.com passed on", 1, 0}}},
		{"one whose age is not known counts as old", false, []step{{0, entry(), "db.example.com passed on", 1, 0}}},
		{"a creation in the future counts as now", false, []step{{0, createdAgo(-time.Hour), "db.example.com held", 1, 30 * time.Second}}},
		{"a change of something else does not begin the time anew", false, []step{
			{0, createdAgo(0), "db.example.com held", 1, 30 * time.Second},
			{20 * time.Second, createdAgo(0, func(e *networkingv1.ServiceEntry) { e.Spec.ExportTo = []string{"."} }), "db.example.com held", 1, 30 * time.Second},
			{30 * time.Second, nil, "db.example.com passed on", 1, 0},
		}},
		{"a bad change neither", false, []step{
			{0, createdAgo(0), "db.example.com held", 1, 30 * time.Second},
			{20 * time.Second, createdAgo(0, withHosts()), "", 1, 30 * time.Second},
			{30 * time.Second, nil, "db.example.com passed on", 1, 0},
		}},
		{"one that becomes due later counts from then", false, []step{
			{0, createdAgo(time.Hour, label("false")), "db.example.com passed on", 0, 0},
			{time.Minute, createdAgo(time.Hour, label("true")), "db.example.com held", 1, 90 * time.Second},
			{90 * time.Second, nil, "db.example.com passed on", 1, 0},
		}},
		{"a host that is added later counts from then, beside one that is answered", false, []step{
			{0, createdAgo(time.Hour, withStatus("db.example.com", "240.240.0.1")), "db.example.com answered", 0, 0},
			{time.Minute, createdAgo(time.Hour, withHosts("db.example.com", "new.example.com"), withStatus("db.example.com", "240.240.0.1")), "db.example.com answered, new.example.com held", 1, 90 * time.Second},
			{90 * time.Second, nil, "db.example.com answered, new.example.com passed on", 1, 0},
		}},
		{"each host has its own time", false, []step{
			{0, createdAgo(0), "db.example.com held", 1, 30 * time.Second},
			{10 * time.Second, createdAgo(0, withHosts("db.example.com", "new.example.com")), "db.example.com held, new.example.com held", 2, 30 * time.Second},
			{30 * time.Second, nil, "db.example.com passed on, new.example.com held", 2, 40 * time.Second},
			{40 * time.Second, nil, "db.example.com passed on, new.example.com passed on", 2, 0},
		}},
		{"a host that loses its address counts from then", false, []step{
			{0, createdAgo(time.Hour, withStatus("db.example.com", "240.240.0.1")), "db.example.com answered", 0, 0},
			{time.Minute, createdAgo(time.Hour), "db.example.com held", 1, 90 * time.Second},
		}},
		{"never a wildcard that Envoy does not listen for", false, []step{{0, createdAgo(0, withHosts("*.example.com")), "*.example.com passed on", 0, 0}}},
		{"a wildcard with DYNAMIC_DNS", false, []step{
			{0, createdAgo(0, withHosts("*.example.com"), func(e *networkingv1.ServiceEntry) { e.Spec.Resolution = networking.ServiceEntry_DYNAMIC_DNS }), "*.example.com held", 1, 30 * time.Second},
		}},
		{"never resolution NONE", false, []step{{0, createdAgo(0, func(e *networkingv1.ServiceEntry) { e.Spec.Resolution = networking.ServiceEntry_NONE }), "db.example.com passed on", 0, 0}}},
		{"the endpoints of STATIC are answered, and the host is counted", false, []step{
			{0, createdAgo(0, static), "db.example.com answered", 1, 30 * time.Second},
			{30 * time.Second, nil, "db.example.com answered", 1, 0},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			now := noon
			pending := Pending{Hold: 30 * time.Second, Now: func() time.Time { return now }}
			if test.pass {
				pending.Hold = 0
			}
			translator := newTranslator(t, Options{Pending: pending})
			for i, step := range test.steps {
				now = noon.Add(step.at)
				var updates []registry.Update
				if step.state != nil {
					updates, _ = translator.Translate(present(step.state))
				} else {
					updates, _ = translator.Elapse()
				}
				if got := answersOf(updates); got != step.want {
					t.Errorf("step %d: got %q, want %q", i, got, step.want)
				}
				if got := translator.VirtualIPs().Waiting(); got != step.waiting {
					t.Errorf("step %d, hosts that wait: got %d, want %d", i, got, step.waiting)
				}
				var due time.Duration
				if at := translator.ElapsesAt(); !at.IsZero() {
					due = at.Sub(noon)
				}
				if due != step.due {
					t.Errorf("step %d, due: got %v, want %v", i, due, step.due)
				}
			}
			translator.Translate(gone(entry()))
			if got := translator.VirtualIPs().Waiting(); got != 0 || !translator.ElapsesAt().IsZero() {
				t.Errorf("When it is gone: got %d hosts that wait and %v due, want none", got, translator.ElapsesAt())
			}
		})
	}
}

func TestVirtualIPHosts(t *testing.T) {
	tests := []struct {
		name  string
		state *networkingv1.ServiceEntry
		want  []string
	}{
		{"as the spec spells them", entry(withHosts("DB.example.com.", "b.example.com")), []string{"DB.example.com.", "b.example.com"}},
		{"no wildcards", entry(withHosts("*.example.com", "b.example.com")), []string{"b.example.com"}},
		{"wildcards with DYNAMIC_DNS", entry(withHosts("*.example.com"), func(e *networkingv1.ServiceEntry) { e.Spec.Resolution = networking.ServiceEntry_DYNAMIC_DNS }), []string{"*.example.com"}},
		{"none that cannot be served", entry(withHosts("a..b", "*", "192.0.2.1", "b.example.com")), []string{"b.example.com"}},
		{"none with addresses in the spec", entry(func(e *networkingv1.ServiceEntry) { e.Spec.Addresses = []string{"192.0.2.1"} }), nil},
		{"none with resolution NONE", entry(func(e *networkingv1.ServiceEntry) { e.Spec.Resolution = networking.ServiceEntry_NONE }), nil},
		{"none that is opted out", entry(func(e *networkingv1.ServiceEntry) { e.Labels = map[string]string{AutoAllocateLabel: "FALSE"} }), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := VirtualIPHosts(test.state); !slices.Equal(got, test.want) {
				t.Errorf("VirtualIPHosts: got %q, want %q", got, test.want)
			}
		})
	}
}
