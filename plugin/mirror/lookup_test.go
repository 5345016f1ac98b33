package mirror

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// texts is a record set's data in order, checked for what holds of every record set.
func texts(t *testing.T, set *RRset, owner string) []string {
	t.Helper()
	if set == nil {
		return nil
	}
	if cap(set.RRs) != len(set.RRs) || len(set.RRs) == 0 {
		t.Errorf("Records of %s: got %d with room for %d, want some and no room", owner, len(set.RRs), cap(set.RRs))
	}
	var data []string
	for _, rr := range set.RRs {
		header := rr.Header()
		if header.Name != owner+"." || header.Class != dns.ClassINET || header.Ttl != set.TTL {
			t.Errorf("Record: got %v, want owner %s. and TTL %d", rr, owner, set.TTL)
		}
		packed := make([]byte, 512)
		if _, err := dns.PackRR(rr, packed, 0, nil, false); err != nil {
			t.Errorf("Record %v: %v", rr, err)
		}
		data = append(data, strings.TrimPrefix(rr.String(), header.String()))
	}
	return data
}

// answers is what a host answers in one line: its kind, A, AAAA.
func answers(t *testing.T, h *Host) string {
	t.Helper()
	if h == nil {
		return "none"
	}
	owner := strings.TrimSuffix(h.FQDN(), ".")
	all := slices.Concat(texts(t, h.A, owner), texts(t, h.AAAA, owner))
	text := strings.Join(all, " ")
	switch {
	case h.ExternalName != "":
		text = "CNAME " + h.ExternalName
	case h.Headless:
		text = "headless " + text
	}
	return strings.TrimSpace(text)
}

func TestHost(t *testing.T) {
	tests := map[string]struct {
		resources []*registryv1.Resource
		name      string
		want      string
		namespace string // of the winner
		ttl       uint32
	}{
		"a Service by its cluster IP": {
			resources: []*registryv1.Resource{kubernetesService("prod", "web", "10.0.0.1")},
			name:      "web.prod.svc.cluster.local", want: "10.0.0.1", namespace: "prod", ttl: 30,
		},
		"dual stack, each family in its own set": {
			resources: []*registryv1.Resource{kubernetesService("prod", "web", "10.0.0.1", "2001:db8::1")},
			name:      "web.prod.svc.cluster.local", want: "10.0.0.1 2001:db8::1", namespace: "prod", ttl: 30,
		},
		"IPv6 only": {
			resources: []*registryv1.Resource{kubernetesService("prod", "web", "2001:db8::1")},
			name:      "web.prod.svc.cluster.local", want: "2001:db8::1", namespace: "prod", ttl: 30,
		},
		"a Service without addresses is there": {
			resources: []*registryv1.Resource{kubernetesService("prod", "web")},
			name:      "web.prod.svc.cluster.local", want: "", namespace: "prod",
		},
		"IPv4 in sixteen bytes is IPv4": {
			resources: []*registryv1.Resource{serviceEntry("prod", "a", "a.example.com", "::ffff:192.0.2.1", "192.0.2.1")},
			name:      "a.example.com", want: "192.0.2.1", namespace: "prod", ttl: 30,
		},
		"an external name": {
			resources: []*registryv1.Resource{serviceResource("k", &registryv1.Service{
				Host: "ext.prod.svc.cluster.local", Namespace: "prod", Name: "ext",
				Origin: registryv1.Origin_ORIGIN_KUBERNETES, ExternalName: "db.example.com",
			})},
			name: "ext.prod.svc.cluster.local", want: "CNAME db.example.com", namespace: "prod",
		},
		"an unknown name": {
			resources: []*registryv1.Resource{kubernetesService("prod", "web", "10.0.0.1")},
			name:      "nobody.prod.svc.cluster.local", want: "none",
		},
		"a name below a Service": {
			resources: []*registryv1.Resource{kubernetesService("prod", "web", "10.0.0.1")},
			name:      "a.web.prod.svc.cluster.local", want: "none",
		},
		"a name above a Service": {
			resources: []*registryv1.Resource{kubernetesService("prod", "web", "10.0.0.1")},
			name:      "prod.svc.cluster.local", want: "none",
		},
		"a wildcard is no exact host": {
			resources: []*registryv1.Resource{serviceEntry("prod", "a", "*.example.com", "192.0.2.1")},
			name:      "*.example.com", want: "none",
		},
		"one label": {
			resources: []*registryv1.Resource{serviceEntry("prod", "a", "legacy", "192.0.2.1")},
			name:      "legacy", want: "192.0.2.1", namespace: "prod", ttl: 30,
		},
		"the watcher's namespace wins over an older Service": {
			resources: []*registryv1.Resource{kubernetesService("dev", "web", "10.0.0.1"), serviceEntry("prod", "x", "web.dev.svc.cluster.local", "192.0.2.1")},
			name:      "web.dev.svc.cluster.local", want: "192.0.2.1", namespace: "prod", ttl: 30,
		},
		"a Service wins over a ServiceEntry of another namespace": {
			resources: []*registryv1.Resource{kubernetesService("dev", "web", "10.0.0.1"), serviceEntry("qa", "x", "web.dev.svc.cluster.local", "192.0.2.1")},
			name:      "web.dev.svc.cluster.local", want: "10.0.0.1", namespace: "dev", ttl: 30,
		},
		"the oldest ServiceEntry wins": {
			resources: []*registryv1.Resource{aged(200, entry("dev", "x", "a.example.com", "192.0.2.1")), aged(100, entry("qa", "x", "a.example.com", "192.0.2.2"))},
			name:      "a.example.com", want: "192.0.2.2", namespace: "qa", ttl: 30,
		},
		"ServiceEntries of the winning namespace are joined, the oldest first, each address once": {
			resources: []*registryv1.Resource{
				aged(200, entry("dev", "new", "a.example.com", "192.0.2.3", "192.0.2.1", "2001:db8::3")),
				aged(100, entry("dev", "old", "a.example.com", "192.0.2.2", "192.0.2.1", "2001:db8::2")),
				aged(150, entry("qa", "x", "a.example.com", "192.0.2.9")),
			},
			name: "a.example.com", want: "192.0.2.2 192.0.2.1 192.0.2.3 2001:db8::2 2001:db8::3", namespace: "dev", ttl: 30,
		},
		"endpoint addresses get the endpoint TTL": {
			resources: []*registryv1.Resource{ofKind(registryv1.AddressKind_ADDRESS_KIND_ENDPOINT, entry("dev", "x", "a.example.com", "192.0.2.1"))},
			name:      "a.example.com", want: "192.0.2.1", namespace: "dev", ttl: 5,
		},
		"a virtual IP gets the TTL": {
			resources: []*registryv1.Resource{ofKind(registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP, entry("dev", "x", "a.example.com", "240.240.0.1"))},
			name:      "a.example.com", want: "240.240.0.1", namespace: "dev", ttl: 30,
		},
		"one joined claim's endpoints give all the endpoint TTL": {
			resources: []*registryv1.Resource{
				entryResource(entry("dev", "a", "a.example.com", "192.0.2.1")),
				ofKind(registryv1.AddressKind_ADDRESS_KIND_ENDPOINT, entry("dev", "b", "a.example.com", "192.0.2.2")),
			},
			name: "a.example.com", want: "192.0.2.1 192.0.2.2", namespace: "dev", ttl: 5,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			host := loaded(t, tc.resources...).State().Host(tc.name)
			if got := answers(t, host); got != tc.want {
				t.Fatalf("Host(%q): got %q, want %q", tc.name, got, tc.want)
			}
			if host == nil {
				return
			}
			if host.Namespace != tc.namespace {
				t.Errorf("Namespace: got %q, want %q", host.Namespace, tc.namespace)
			}
			for _, set := range []*RRset{host.A, host.AAAA} {
				if set != nil && set.TTL != tc.ttl {
					t.Errorf("TTL: got %d, want %d", set.TTL, tc.ttl)
				}
			}
		})
	}
}

func aged(created int64, s *registryv1.Service) *registryv1.Resource {
	s.CreatedAt = created
	return entryResource(s)
}

func ofKind(kind registryv1.AddressKind, s *registryv1.Service) *registryv1.Resource {
	s.AddressKind = kind
	return entryResource(s)
}

func TestHostSaysWhereItComesFrom(t *testing.T) {
	web, other := kubernetesService("dev", "web", "10.0.0.1"), serviceEntry("qa", "x", "web.dev.svc.cluster.local", "192.0.2.1")
	host := loaded(t, other, web).State().Host("web.dev.svc.cluster.local")
	got := fmt.Sprint(host.Origin, host.AddressKind, host.Namespace, host.Name, host.Claims)
	want := fmt.Sprint(registryv1.Origin_ORIGIN_KUBERNETES, registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP, "dev", "web", []string{web.Key, other.Key})
	if got != want {
		t.Errorf("Host: got %s, want %s", got, want)
	}
}

func TestClaimsComeAndGo(t *testing.T) {
	const name = "web.dev.svc.cluster.local"
	service, claim := kubernetesService("dev", "web", "10.0.0.1"), serviceEntry("qa", "x", name, "192.0.2.1")
	moved := serviceEntry("qa", "x", "web2.dev.svc.cluster.local", "192.0.2.1")
	moved.Key = claim.Key
	m := loaded(t, claim)
	steps := []struct {
		change func(*State) Change
		want   string
	}{
		{func(s *State) Change { return delta(s, nil, service) }, "10.0.0.1"},
		{func(s *State) Change { return delta(s, nil, kubernetesService("dev", "web", "10.0.0.2")) }, "10.0.0.2"},
		{func(s *State) Change { return delta(s, []string{service.Key}) }, "192.0.2.1"},
		{func(s *State) Change { return delta(s, nil, moved) }, "none"},
		{func(s *State) Change { return delta(s, nil, claim) }, "192.0.2.1"},
		{func(s *State) Change { return delta(s, []string{claim.Key}) }, "none"},
	}
	for i, step := range steps {
		mustApply(t, m, step.change(m.State()))
		if got := answers(t, m.State().Host(name)); got != step.want {
			t.Errorf("After step %d: got %q, want %q", i+1, got, step.want)
		}
	}
}

func TestWildcard(t *testing.T) {
	state := loaded(t,
		serviceEntry("prod", "wide", "*.example.com", "192.0.2.1"),
		serviceEntry("prod", "narrow", "*.a.example.com", "192.0.2.2", "2001:db8::2"),
		serviceEntry("prod", "exact", "x.a.example.com", "192.0.2.3"),
		serviceEntry("prod", "top", "*.test", "192.0.2.4"),
	).State()
	tests := map[string]struct{ name, want string }{
		"one label below":            {"b.example.com", "*.example.com. 192.0.2.1"},
		"any depth below":            {"e.d.c.b.example.com", "*.example.com. 192.0.2.1"},
		"the longest suffix":         {"b.a.example.com", "*.a.example.com. 192.0.2.2 2001:db8::2"},
		"the longest, at any depth":  {"c.b.a.example.com", "*.a.example.com. 192.0.2.2 2001:db8::2"},
		"never its own apex":         {"example.com", "none"},
		"an apex below a wider one":  {"a.example.com", "*.example.com. 192.0.2.1"},
		"an exact host is left out":  {"y.x.a.example.com", "*.a.example.com. 192.0.2.2 2001:db8::2"},
		"an asterisk asked for":      {"*.example.com", "*.example.com. 192.0.2.1"},
		"a suffix is whole labels":   {"b.notexample.com", "none"},
		"a suffix of one label":      {"a.test", "*.test. 192.0.2.4"},
		"a single label":             {"test", "none"},
		"the empty name":             {"", "none"},
		"elsewhere":                  {"example.org", "none"},
		"a name of nothing but dots": {"...", "none"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			host := state.Wildcard(tc.name)
			got := answers(t, host)
			if host != nil {
				got = host.FQDN() + " " + got
			}
			if got != tc.want {
				t.Errorf("Wildcard(%q): got %q, want %q", tc.name, got, tc.want)
			}
		})
	}
	if got := answers(t, state.Host("x.a.example.com")); got != "192.0.2.3" {
		t.Errorf("Exact host: got %q, want 192.0.2.3", got)
	}
}

func TestHeadless(t *testing.T) {
	const name = "db.prod.svc.cluster.local"
	db := headlessService("prod", "db")
	tests := map[string]struct {
		resources []*registryv1.Resource
		want      string
		endpoints map[string]string // by label
	}{
		"no slice": {
			resources: []*registryv1.Resource{db}, want: "headless",
			endpoints: map[string]string{"db-0": "none"},
		},
		"none ready": {
			resources: []*registryv1.Resource{db, endpointSlice("prod", "db-1", "db", notReady("db-0", "10.1.0.1"))}, want: "headless",
			endpoints: map[string]string{"db-0": "none", "10-1-0-1": "none"},
		},
		"ready ones only, in order of address": {
			resources: []*registryv1.Resource{db, endpointSlice("prod", "db-1", "db",
				ready("db-2", "10.1.0.3"), notReady("db-1", "10.1.0.2"), ready("db-0", "10.1.0.1"))},
			want:      "headless 10.1.0.1 10.1.0.3",
			endpoints: map[string]string{"db-0": "10.1.0.1", "db-1": "none", "db-2": "10.1.0.3", "10-1-0-1": "none"},
		},
		"all slices, each address once": {
			resources: []*registryv1.Resource{db,
				endpointSlice("prod", "db-1", "db", ready("", "10.1.0.2"), ready("", "10.1.0.1")),
				endpointSlice("prod", "db-2", "db", ready("", "10.1.0.2"), ready("", "10.1.0.3"))},
			want:      "headless 10.1.0.1 10.1.0.2 10.1.0.3",
			endpoints: map[string]string{"10-1-0-1": "10.1.0.1", "10-1-0-2": "10.1.0.2", "10-1-0-3": "10.1.0.3"},
		},
		"IPv6 has dashes for colons, and a zero after a dash at the end": {
			resources: []*registryv1.Resource{db, endpointSlice("prod", "db-1", "db", ready("", "2001:db8::1"), ready("", "2001:db8::"))},
			want:      "headless 2001:db8:: 2001:db8::1",
			endpoints: map[string]string{"2001-db8--1": "2001:db8::1", "2001-db8--0": "2001:db8::", "2001-db8--": "none"},
		},
		"one hostname, several endpoints": {
			resources: []*registryv1.Resource{db,
				endpointSlice("prod", "db-v4", "db", ready("db-0", "10.1.0.2"), ready("db-0", "10.1.0.1")),
				endpointSlice("prod", "db-v6", "db", ready("db-0", "2001:db8::1"))},
			want:      "headless 10.1.0.1 10.1.0.2 2001:db8::1",
			endpoints: map[string]string{"db-0": "10.1.0.1 10.1.0.2 2001:db8::1"},
		},
		"ready in one slice and not in another": {
			resources: []*registryv1.Resource{db,
				endpointSlice("prod", "db-1", "db", notReady("db-0", "10.1.0.1")),
				endpointSlice("prod", "db-2", "db", ready("db-0", "10.1.0.1"))},
			want:      "headless 10.1.0.1",
			endpoints: map[string]string{"db-0": "10.1.0.1"},
		},
		"slices of other Services do not count": {
			resources: []*registryv1.Resource{db,
				endpointSlice("dev", "db-1", "db", ready("db-0", "10.1.0.1")),
				endpointSlice("prod", "web-1", "web", ready("db-0", "10.1.0.2"))},
			want:      "headless",
			endpoints: map[string]string{"db-0": "none"},
		},
		"only labels right below": {
			resources: []*registryv1.Resource{db, endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"))},
			want:      "headless 10.1.0.1",
			endpoints: map[string]string{"x.db-0": "none", "*": "none", "": "none"},
		},
		"a host of its own comes before an endpoint": {
			resources: []*registryv1.Resource{db, endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1")),
				serviceEntry("prod", "x", "db-0."+name, "192.0.2.1")},
			want:      "headless 10.1.0.1",
			endpoints: map[string]string{"db-0": "192.0.2.1"},
		},
	}
	for about, tc := range tests {
		t.Run(about, func(t *testing.T) {
			// Whatever comes first, and whether at once or one by one, the answer is the same.
			orders := map[string][]*registryv1.Resource{"forwards": tc.resources, "backwards": slices.Clone(tc.resources)}
			slices.Reverse(orders["backwards"])
			for order, resources := range orders {
				oneByOne := loaded(t)
				for _, resource := range resources {
					mustApply(t, oneByOne, delta(oneByOne.State(), nil, resource))
				}
				for how, m := range map[string]*Mirror{"at once": loaded(t, resources...), "one by one": oneByOne} {
					if got := answers(t, m.State().Host(name)); got != tc.want {
						t.Errorf("%s, %s: got %q, want %q", order, how, got, tc.want)
					}
					for label, want := range tc.endpoints {
						if got := answers(t, m.State().Host(label+"."+name)); got != want {
							t.Errorf("%s, %s: endpoint %q: got %q, want %q", order, how, label, got, want)
						}
					}
				}
			}
		})
	}
}

func TestHeadlessComesAndGoes(t *testing.T) {
	const name = "db.prod.svc.cluster.local"
	db, slice := headlessService("prod", "db"), endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"))
	m := loaded(t)
	for i, step := range []struct {
		removals                []string
		upserts                 []*registryv1.Resource
		service, endpoint, back string
	}{
		{nil, []*registryv1.Resource{slice}, "none", "none", ""},
		{nil, []*registryv1.Resource{db}, "headless 10.1.0.1", "10.1.0.1", "db-0." + name},
		{nil, []*registryv1.Resource{endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"), ready("db-1", "10.1.0.2"))}, "headless 10.1.0.1 10.1.0.2", "10.1.0.1", "db-0." + name},
		{nil, []*registryv1.Resource{endpointSlice("prod", "db-1", "db", ready("a", "10.1.0.1"))}, "headless 10.1.0.1", "none", "a." + name},
		{[]string{db.Key}, []*registryv1.Resource{slice}, "none", "none", ""},
		{nil, []*registryv1.Resource{db}, "headless 10.1.0.1", "10.1.0.1", "db-0." + name},
		{nil, []*registryv1.Resource{kubernetesService("prod", "db", "10.0.0.1")}, "10.0.0.1", "none", ""},
		{nil, []*registryv1.Resource{db}, "headless 10.1.0.1", "10.1.0.1", "db-0." + name},
		{[]string{slice.Key}, nil, "headless", "none", ""},
	} {
		mustApply(t, m, delta(m.State(), step.removals, step.upserts...))
		state := m.State()
		if got := answers(t, state.Host(name)); got != step.service {
			t.Errorf("Step %d: service: got %q, want %q", i, got, step.service)
		}
		if got := answers(t, state.Host("db-0."+name)); got != step.endpoint {
			t.Errorf("Step %d: endpoint: got %q, want %q", i, got, step.endpoint)
		}
		if got := strings.Join(state.Pointers(netip.MustParseAddr("10.1.0.1")), " "); got != step.back {
			t.Errorf("Step %d: pointers: got %q, want %q", i, got, step.back)
		}
	}
}

func TestEndpointIsOfItsService(t *testing.T) {
	state := loaded(t, headlessService("prod", "db"), endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"))).State()
	for _, name := range []string{"db.prod.svc.cluster.local", "db-0.db.prod.svc.cluster.local"} {
		host := state.Host(name)
		got := fmt.Sprint(host.Origin, host.AddressKind, host.Namespace, host.Name, host.A.TTL)
		want := fmt.Sprint(registryv1.Origin_ORIGIN_KUBERNETES, registryv1.AddressKind_ADDRESS_KIND_ENDPOINT, "prod", "db", 5)
		if got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if host := state.Host("db-0.db.prod.svc.cluster.local"); host.Headless {
		t.Error("Endpoint: got headless, want a host with addresses")
	}
}

// TestUntouchedEndpointsStay: one pod's restart must cost one endpoint, not all of its Service's, where
// anybody has asked for them.
func TestUntouchedEndpointsStay(t *testing.T) {
	const name = "db.prod.svc.cluster.local"
	m := loaded(t, headlessService("prod", "db"),
		endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"), ready("db-1", "10.1.0.2")),
		endpointSlice("prod", "db-2", "db", ready("db-2", "10.1.0.3")))
	before := m.State()
	before.Host(name)
	// db-1 restarts, and db-2 moves to the other slice.
	mustApply(t, m, delta(before, nil,
		endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"), ready("db-1", "10.1.0.9"), ready("db-2", "10.1.0.3")),
		endpointSlice("prod", "db-2", "db")))
	after := m.State()
	for label, want := range map[string]bool{"db-0": true, "db-1": false, "db-2": true} {
		if got := before.Host(label+"."+name) == after.Host(label+"."+name); got != want {
			t.Errorf("Endpoint %s stays: got %t, want %t", label, got, want)
		}
	}
	old, now := before.Host(name).A.RRs, after.Host(name).A.RRs
	if len(now) != 3 || now[0] != old[0] || now[1] != old[2] {
		t.Errorf("Records of the Service: got %v after %v, want the first and the last of them taken over", now, old)
	}
}

// TestAnotherHeadlessWinner: endpoints say whose they are, so they are not those of the Service before.
func TestAnotherHeadlessWinner(t *testing.T) {
	const host = "db.example.com"
	claim := func(namespace string, created int64) *registryv1.Resource {
		s := entry(namespace, "db-of-"+namespace, host)
		s.Origin, s.Headless, s.CreatedAt = registryv1.Origin_ORIGIN_SERVICE_IMPORT, true, created
		return entryResource(s)
	}
	young, old := claim("dev", 200), claim("qa", 100)
	m := loaded(t, young,
		endpointSlice("dev", "s", "db-of-dev", ready("db-0", "10.1.0.1"), ready("db-1", "10.1.0.2")),
		endpointSlice("qa", "s", "db-of-qa", ready("db-0", "10.1.0.1"), ready("db-2", "10.1.0.3")))
	for _, step := range []struct {
		change Change
		want   string
	}{
		{Change{Upserts: []*registryv1.Resource{old}}, "qa/db-of-qa qa/db-of-qa none 10.1.0.3"},
		{Change{Removals: []string{old.Key}}, "dev/db-of-dev dev/db-of-dev 10.1.0.2 none"},
	} {
		mustApply(t, m, delta(m.State(), step.change.Removals, step.change.Upserts...))
		s := m.State()
		service, endpoint := s.Host(host), s.Host("db-0."+host)
		got := fmt.Sprintf("%s/%s %s/%s %s %s", service.Namespace, service.Name, endpoint.Namespace, endpoint.Name,
			answers(t, s.Host("db-1."+host)), answers(t, s.Host("db-2."+host)))
		if got != step.want {
			t.Errorf("Service, endpoint, others: got %s, want %s", got, step.want)
		}
		checkInvariants(t, s)
	}
}

func TestEndpointNameTooLong(t *testing.T) {
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + "." + strings.Repeat("c", 60) + "." + testDomain
	state := loaded(t,
		serviceResource("s", &registryv1.Service{Host: long, Namespace: "prod", Name: "db", Origin: registryv1.Origin_ORIGIN_KUBERNETES, Headless: true}),
		endpointSlice("prod", "db-1", "db", ready(strings.Repeat("d", 63), "10.1.0.1")),
	).State()
	if got := answers(t, state.Host(long)); got != "headless 10.1.0.1" {
		t.Errorf("Service: got %q, want headless 10.1.0.1", got)
	}
	if got := state.Pointers(netip.MustParseAddr("10.1.0.1")); got != nil {
		t.Errorf("Pointers: got %q, want none", got)
	}
}

func TestEncloses(t *testing.T) {
	services := []*registryv1.Resource{
		kubernetesService("prod", "web", "10.0.0.1"),
		kubernetesService("prod", "api", "10.0.0.2"),
		kubernetesService("dev", "web", "10.0.0.3"),
		namespaceResource("empty"), namespaceResource("dev"),
		serviceEntry("prod", "deep", "a.b.c.cluster.local", "192.0.2.1"),
		serviceEntry("prod", "host", "b.c.cluster.local", "192.0.2.2"),
		serviceEntry("prod", "wild", "*.w.cluster.local", "192.0.2.3"),
		serviceEntry("prod", "outside", "a.example.com", "192.0.2.4"),
		serviceEntry("prod", "lookalike", "a.notcluster.local", "192.0.2.4"),
		serviceEntry("prod", "wild-outside", "*.w.example.net", "192.0.2.4"),
	}
	tests := map[string]struct {
		removals []string
		name     string
		want     bool
	}{
		"svc":                                  {name: "svc.cluster.local", want: true},
		"a namespace with Services":            {name: "prod.svc.cluster.local", want: true},
		"a namespace without":                  {name: "empty.svc.cluster.local", want: true},
		"an unknown namespace":                 {name: "nobody.svc.cluster.local"},
		"a host":                               {name: "web.prod.svc.cluster.local"},
		"below a host":                         {name: "a.web.prod.svc.cluster.local"},
		"the cluster domain itself":            {name: "cluster.local", want: true},
		"above the cluster domain":             {name: "local", want: true},
		"a tail of the cluster domain":         {name: "ocal"},
		"above a ServiceEntry's host":          {name: "c.cluster.local", want: true},
		"a host that has another below":        {name: "b.c.cluster.local"},
		"the same without the host":            {removals: []string{services[6].Key}, name: "b.c.cluster.local", want: true},
		"above a wildcard":                     {name: "w.cluster.local", want: true},
		"above a host outside":                 {name: "example.com", want: true},
		"far above a host outside":             {name: "com", want: true},
		"above a host outside that is gone":    {removals: []string{services[8].Key}, name: "example.com"},
		"far above a host that is gone":        {removals: []string{services[8].Key}, name: "com"},
		"above a host in a look-alike":         {name: "notcluster.local", want: true},
		"above a wildcard outside":             {name: "w.example.net", want: true},
		"one of two Services gone":             {removals: []string{services[0].Key}, name: "prod.svc.cluster.local", want: true},
		"both gone":                            {removals: []string{services[0].Key, services[1].Key}, name: "prod.svc.cluster.local"},
		"the Service gone, the namespace not":  {removals: []string{services[2].Key}, name: "dev.svc.cluster.local", want: true},
		"the namespace gone, its Service not":  {removals: []string{services[4].Key}, name: "dev.svc.cluster.local", want: true},
		"both the namespace and the Service":   {removals: []string{services[2].Key, services[4].Key}, name: "dev.svc.cluster.local"},
		"an empty namespace gone":              {removals: []string{services[3].Key}, name: "empty.svc.cluster.local"},
		"svc while one namespace is left":      {removals: []string{services[0].Key, services[1].Key, services[2].Key, services[4].Key}, name: "svc.cluster.local", want: true},
		"svc when no Service, no namespace is": {removals: []string{services[0].Key, services[1].Key, services[2].Key, services[3].Key, services[4].Key}, name: "svc.cluster.local"},
		"the empty name":                       {name: ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m := loaded(t, services...)
			mustApply(t, m, delta(m.State(), tc.removals))
			if got := m.State().Encloses(tc.name); got != tc.want {
				t.Errorf("Encloses(%q): got %t, want %t", tc.name, got, tc.want)
			}
		})
	}
}

func TestPointers(t *testing.T) {
	db := headlessService("prod", "db")
	dbSlice := endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"), notReady("db-1", "10.1.0.2"), ready("", "10.1.0.3"))
	tests := map[string]struct {
		resources []*registryv1.Resource
		address   string
		want      string
	}{
		"a cluster IP":                  {[]*registryv1.Resource{kubernetesService("prod", "web", "10.0.0.1")}, "10.0.0.1", "web.prod.svc.cluster.local"},
		"IPv6":                          {[]*registryv1.Resource{kubernetesService("prod", "web", "10.0.0.1", "2001:db8::1")}, "2001:db8::1", "web.prod.svc.cluster.local"},
		"IPv4 within IPv6":              {[]*registryv1.Resource{kubernetesService("prod", "web", "10.0.0.1")}, "::ffff:10.0.0.1", "web.prod.svc.cluster.local"},
		"unknown":                       {[]*registryv1.Resource{kubernetesService("prod", "web", "10.0.0.1")}, "10.0.0.2", ""},
		"an endpoint by its hostname":   {[]*registryv1.Resource{db, dbSlice}, "10.1.0.1", "db-0.db.prod.svc.cluster.local"},
		"an endpoint by its address":    {[]*registryv1.Resource{db, dbSlice}, "10.1.0.3", "10-1-0-3.db.prod.svc.cluster.local"},
		"an endpoint that is not ready": {[]*registryv1.Resource{db, dbSlice}, "10.1.0.2", ""},
		"a slice without its Service":   {[]*registryv1.Resource{dbSlice}, "10.1.0.1", ""},
		"a literal address":             {[]*registryv1.Resource{serviceEntry("prod", "a", "a.example.com", "192.0.2.1")}, "192.0.2.1", "a.example.com"},
		"a virtual IP":                  {[]*registryv1.Resource{ofKind(registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP, entry("prod", "a", "a.example.com", "240.240.0.1"))}, "240.240.0.1", "a.example.com"},
		"a ServiceEntry's endpoint":     {[]*registryv1.Resource{ofKind(registryv1.AddressKind_ADDRESS_KIND_ENDPOINT, entry("prod", "a", "a.example.com", "192.0.2.1"))}, "192.0.2.1", "a.example.com"},
		"never a wildcard":              {[]*registryv1.Resource{serviceEntry("prod", "a", "*.example.com", "192.0.2.1")}, "192.0.2.1", ""},
		"never a claim that lost":       {[]*registryv1.Resource{kubernetesService("prod", "web", "10.0.0.1"), serviceEntry("dev", "x", "web.prod.svc.cluster.local", "192.0.2.1")}, "192.0.2.1", ""},
		"an endpoint that is shadowed":  {[]*registryv1.Resource{db, dbSlice, serviceEntry("prod", "x", "db-0.db.prod.svc.cluster.local", "192.0.2.1")}, "10.1.0.1", ""},
		"all Services that select an endpoint": {
			[]*registryv1.Resource{db, dbSlice, headlessService("prod", "all"), endpointSlice("prod", "all-1", "all", ready("", "10.1.0.1"))},
			"10.1.0.1", "10-1-0-1.all.prod.svc.cluster.local db-0.db.prod.svc.cluster.local",
		},
		"the first of Services with one cluster IP, then endpoints, then ServiceEntries": {
			[]*registryv1.Resource{
				serviceEntry("prod", "b", "b.example.com", "10.1.0.1"), serviceEntry("prod", "a", "a.example.com", "10.1.0.1"),
				kubernetesService("prod", "web-2", "10.1.0.1"), kubernetesService("prod", "web-1", "10.1.0.1"), kubernetesService("prod", "web-3", "10.1.0.1"),
				db, dbSlice,
			},
			"10.1.0.1", "web-1.prod.svc.cluster.local db-0.db.prod.svc.cluster.local a.example.com b.example.com",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m := loaded(t, tc.resources...)
			address := netip.MustParseAddr(tc.address)
			got := m.State().Pointers(address)
			if text := strings.Join(got, " "); text != tc.want || cap(got) != len(got) {
				t.Errorf("Pointers(%s): got %q with room for %d, want %q and no room", address, got, cap(got), tc.want)
			}
			var keys []string
			for _, resource := range tc.resources {
				keys = append(keys, resource.Key)
			}
			mustApply(t, m, delta(m.State(), keys))
			if got := m.State().Pointers(address); got != nil {
				t.Errorf("Pointers(%s) of an emptied mirror: got %q, want none", address, got)
			}
		})
	}
}

func TestShadowedEndpointIsBack(t *testing.T) {
	shadow := serviceEntry("prod", "x", "db-0.db.prod.svc.cluster.local", "192.0.2.1")
	m := loaded(t, headlessService("prod", "db"), endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1")), shadow)
	mustApply(t, m, delta(m.State(), []string{shadow.Key}))
	if got := strings.Join(m.State().Pointers(netip.MustParseAddr("10.1.0.1")), " "); got != "db-0.db.prod.svc.cluster.local" {
		t.Errorf("Pointers: got %q, want the endpoint's name", got)
	}
}

// TestLookUpsAllocateNothing holds the promise that a query costs no garbage.
func TestLookUpsAllocateNothing(t *testing.T) {
	m := loaded(t, append(manyServices(1000),
		serviceEntry("prod", "wild", "*.wild.example.com", "192.0.2.1"),
		headlessService("prod", "db"), endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1")))...)
	address := netip.MustParseAddr("10.0.0.1")
	for name, look := range map[string]func(*State) bool{
		"host":          func(s *State) bool { return s.Host("reviews-1.team-0.svc.cluster.local") != nil },
		"miss":          func(s *State) bool { return s.Host("nobody.team-0.svc.cluster.local") == nil },
		"endpoint":      func(s *State) bool { return s.Host("db-0.db.prod.svc.cluster.local") != nil },
		"wildcard":      func(s *State) bool { return s.Wildcard("a.b.wild.example.com") != nil },
		"wildcard miss": func(s *State) bool { return s.Wildcard("a.b.tame.example.com") == nil },
		"encloses":      func(s *State) bool { return s.Encloses("team-0.svc.cluster.local") },
		"pointers":      func(s *State) bool { return s.Pointers(address) != nil },
	} {
		t.Run(name, func(t *testing.T) {
			if !look(m.State()) {
				t.Fatal("Look-up: got the wrong answer")
			}
			if got := testing.AllocsPerRun(100, func() { look(m.State()) }); got != 0 {
				t.Errorf("Allocations: got %g, want 0", got)
			}
		})
	}
}
