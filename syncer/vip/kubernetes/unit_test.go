package kubernetes

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/meshvm/meshvm/syncer/vip"
)

func TestReadEntry(t *testing.T) {
	tests := map[string]struct {
		object   map[string]any
		hosts    []string
		held     int
		literals int
		fault    string
	}{
		"plain": {
			object: map[string]any{"spec": map[string]any{"hosts": []any{"A.test", "*.w.test", "b.test"}, "resolution": "DNS"}},
			hosts:  []string{"A.test", "b.test"},
		},
		"wildcards of DYNAMIC_DNS": {
			object: map[string]any{"spec": map[string]any{"hosts": []any{"*.w.test"}, "resolution": "DYNAMIC_DNS"}},
			hosts:  []string{"*.w.test"},
		},
		"resolution NONE": {
			object: map[string]any{"spec": map[string]any{"hosts": []any{"a.test"}}},
		},
		"addresses of its own": {
			object:   map[string]any{"spec": map[string]any{"hosts": []any{"a.test"}, "resolution": "STATIC", "addresses": []any{"10.0.0.1", "10.1.0.0/16", "x"}}},
			literals: 2,
		},
		"a spec that is none": {
			object: map[string]any{
				"spec":   map[string]any{"hosts": "a.test"},
				"status": map[string]any{"addresses": []any{map[string]any{"host": "a.test", "value": "240.240.0.1"}}},
			},
			hosts: []string{"a.test"},
			held:  1,
			fault: "spec: ",
		},
		"a status that is none": {
			object: map[string]any{"spec": map[string]any{"hosts": []any{"a.test"}, "resolution": "DNS"}, "status": "fine"},
			fault:  "status: it is a string, want an object",
		},
		"addresses that are none": {
			object: map[string]any{
				"spec": map[string]any{"hosts": []any{"a.test"}, "resolution": "DNS"},
				"status": map[string]any{"addresses": []any{
					"x", map[string]any{"host": "a.test", "value": "y"}, map[string]any{"value": "240.240.0.1"},
					map[string]any{"host": "a.test", "value": "240.240.0.2"},
				}},
			},
			hosts: []string{"a.test"},
			held:  1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := readEntry(&unstructured.Unstructured{Object: test.object}, serviceEntries)
			if !slices.Equal(e.hosts, test.hosts) {
				t.Errorf("hosts: got %q, want %q", e.hosts, test.hosts)
			}
			if len(e.status.held) != test.held {
				t.Errorf("addresses held: got %v, want %d", e.status.held, test.held)
			}
			if len(e.literals) != test.literals {
				t.Errorf("literals: got %v, want %d", e.literals, test.literals)
			}
			switch {
			case test.fault == "" && e.fault != nil:
				t.Errorf("fault: got %v, want none", e.fault)
			case test.fault != "" && (e.fault == nil || !strings.Contains(e.fault.Error(), test.fault)):
				t.Errorf("fault: got %v, want one with %q", e.fault, test.fault)
			}
		})
	}
}

func TestViewKeepsTheLastGoodSpec(t *testing.T) {
	ranges, err := vip.ParseRanges(vip.DefaultRanges)
	if err != nil {
		t.Fatal(err)
	}
	v := newView(ranges)
	entryOf := func(hosts any) *entry {
		return readEntry(&unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"name": "a", "namespace": "n", "uid": "1"},
			"spec":     map[string]any{"hosts": hosts, "resolution": "DNS"},
		}}, serviceEntries)
	}
	v.putEntry(entryOf([]any{"a.test"}))
	v.putEntry(entryOf("broken"))
	e := v.take().entries[vip.Owner{Namespace: "n", Name: "a"}]
	if e == nil || e.fault == nil || !slices.Equal(e.hosts, []string{"a.test"}) {
		t.Errorf("entry: got %+v, want the hosts that it had, and its fault", e)
	}
}

func TestPaceOfADuel(t *testing.T) {
	owner := vip.Owner{Namespace: "n", Name: "a"}
	var p pace
	now := time.Now()
	for range freeWrites {
		if got := p.delay(owner, now); got != 0 {
			t.Errorf("delay of the first writes: got %s, want none", got)
		}
		p.wrote(owner, now)
	}
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		if got := p.delay(owner, now); got != want {
			t.Errorf("delay: got %s, want %s", got, want)
		}
		now = now.Add(want)
		if got := p.delay(owner, now); got != 0 {
			t.Errorf("delay after the pause: got %s, want none", got)
		}
		p.wrote(owner, now)
	}
	for range 50 {
		p.wrote(owner, now)
	}
	if got := p.delay(owner, now); got != maxPause {
		t.Errorf("longest delay: got %s, want %s", got, maxPause)
	}
	if got := p.delay(owner, now.Add(calm+1)); got != 0 {
		t.Errorf("delay after calm: got %s, want none", got)
	}
	p.forget(owner)
	if got := p.delay(owner, now); got != 0 {
		t.Errorf("delay of what is gone: got %s, want none", got)
	}
}

func TestConditionIsBounded(t *testing.T) {
	var problems []vip.Problem
	for range 100 {
		problems = append(problems, vip.Problem{Reason: vip.Exhausted, Host: "äöü.test", Message: "no IPv4 address is free"})
	}
	c := newCondition(problems)
	if len(c.message) > maxConditionMessage+3 || !strings.HasSuffix(c.message, "...") {
		t.Errorf("message: got %d bytes, want at most %d", len(c.message), maxConditionMessage+3)
	}
	if got := newCondition(nil); got != nil {
		t.Errorf("condition of nothing: got %+v, want none", got)
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, vec := range []*prometheus.GaugeVec{m.addresses, m.used, m.quarantine, m.covered} {
		vec.WithLabelValues("240.240.0.0/16")
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("metric %s: %s", problem.Metric, problem.Text)
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	ranges, err := vip.ParseRanges(vip.DefaultRanges)
	if err != nil {
		t.Fatal(err)
	}
	taken := prometheus.NewRegistry()
	if _, err := newMetrics(taken); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		config Config
		want   string
	}{
		"no API server":      {Config{Allocation: vip.Options{Ranges: ranges}}, "needs an API server"},
		"no ranges":          {Config{REST: &rest.Config{}}, "needs ranges"},
		"an address of none": {Config{REST: &rest.Config{Host: "http://[x"}, Allocation: vip.Options{Ranges: ranges}}, "address of the API server"},
		"metrics taken":      {Config{REST: &rest.Config{}, Allocation: vip.Options{Ranges: ranges}, Metrics: taken}, "register metrics of virtual IPs"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := New(test.config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New: got %v, want an error with %q", err, test.want)
			}
		})
	}
}
