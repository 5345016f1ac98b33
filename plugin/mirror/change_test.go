package mirror

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

func TestNewMirrorHoldsNothing(t *testing.T) {
	s := New(Options{}).State()
	if s.Loaded() || s.Position() != nil || s.ClusterDomain() != "" || s.Digest() != 0 || s.Resources() != 0 || s.Serial() != 0 {
		t.Errorf("State: got %+v, want nothing", s)
	}
	if s.Host("a") != nil || s.Wildcard("a.b") != nil || s.Encloses("svc.cluster.local") || s.Host("") != nil {
		t.Error("Look-ups: got answers, want none")
	}
}

func TestApplyMovesThePosition(t *testing.T) {
	web, api := kubernetesService("prod", "web", "10.0.0.1"), kubernetesService("prod", "api", "10.0.0.2")
	m := loaded(t, web)
	check := func(revision uint64, resources ...*registryv1.Resource) {
		t.Helper()
		s := m.State()
		want := &registryv1.Position{Generation: testGeneration, Revision: revision, View: testView}
		if !s.Loaded() || !proto.Equal(s.Position(), want) || s.ClusterDomain() != testDomain {
			t.Errorf("Position: got %v, loaded %t, domain %s, want %v", s.Position(), s.Loaded(), s.ClusterDomain(), want)
		}
		var digest registryv1.Digest
		for _, resource := range resources {
			digest.Add(registryv1.DigestResource(resource.Key, resource.Body))
		}
		if s.Digest() != digest || s.Resources() != len(resources) {
			t.Errorf("Digest: got %x of %d, want %x of %d", s.Digest(), s.Resources(), digest, len(resources))
		}
	}
	check(1, web)
	mustApply(t, m, delta(m.State(), nil, api))
	check(2, web, api)
	mustApply(t, m, delta(m.State(), nil, api)) // what it has already
	check(3, web, api)
	mustApply(t, m, delta(m.State(), []string{web.Key}))
	check(4, api)
	mustApply(t, m, delta(m.State(), nil))
	check(5, api)
	mustApply(t, m, replace(2, web)) // also backwards
	check(2, web)
	mustApply(t, m, replace(0))
	check(0)
}

func TestApplyRefuses(t *testing.T) {
	web := kubernetesService("prod", "web", "10.0.0.1")
	next := func(change func(*Change)) Change {
		c := Change{Generation: testGeneration, View: testView, ClusterDomain: testDomain, From: 1, To: 2}
		change(&c)
		return c
	}
	upsert := func(resources ...*registryv1.Resource) Change { return next(func(c *Change) { c.Upserts = resources }) }
	service := func(s *registryv1.Service) Change { return upsert(serviceResource("bad", s)) }
	host := func(host string) Change { return service(&registryv1.Service{Host: host}) }
	label := strings.Repeat("a", 63)
	tests := map[string]struct {
		change   Change
		position bool // the error is ErrPosition
		err      string
	}{
		"no generation":                 {change: next(func(c *Change) { c.Generation = "" }), err: "names no generation"},
		"another generation":            {change: next(func(c *Change) { c.Generation = "other" }), position: true, err: `of generation "other", and the mirror is at "generation-1"`},
		"another view":                  {change: next(func(c *Change) { c.View = "dev" }), position: true, err: `of the view of "dev", and the mirror is of "prod"`},
		"another cluster domain":        {change: next(func(c *Change) { c.ClusterDomain = "other" }), position: true, err: `cluster domain is "other"`},
		"a gap":                         {change: next(func(c *Change) { c.From, c.To = 2, 3 }), position: true, err: "from revision 2, and the mirror is at 1"},
		"an old revision":               {change: next(func(c *Change) { c.From = 0 }), position: true, err: "from revision 0, and the mirror is at 1"},
		"backwards":                     {change: next(func(c *Change) { c.To = 0 }), position: true, err: "goes back from revision 1 to 0"},
		"no cluster domain":             {change: next(func(c *Change) { c.Replace, c.ClusterDomain = true, "" }), err: `cluster domain "": is not a DNS name: empty label`},
		"an illegal cluster domain":     {change: next(func(c *Change) { c.Replace, c.ClusterDomain = true, "cluster.local." }), err: `cluster domain "cluster.local."`},
		"a key that is empty":           {change: upsert(&registryv1.Resource{Body: web.Body}), err: "no key"},
		"a resource that is nil":        {change: upsert(nil), err: "no key"},
		"a removal that is empty":       {change: next(func(c *Change) { c.Removals = []string{""} }), err: "no key"},
		"a key twice":                   {change: upsert(web, web), err: `resource "Service/prod/web" comes twice in one change`},
		"a removal twice":               {change: next(func(c *Change) { c.Removals = []string{web.Key, web.Key} }), err: "comes twice"},
		"removed and upserted":          {change: next(func(c *Change) { c.Removals, c.Upserts = []string{web.Key}, []*registryv1.Resource{web} }), err: "comes twice"},
		"removal of an unknown key":     {change: next(func(c *Change) { c.Removals = []string{"Service/prod/nobody"} }), err: `remove resource "Service/prod/nobody": the mirror does not hold it`},
		"removal in a Replace":          {change: next(func(c *Change) { c.Replace, c.Removals = true, []string{web.Key} }), err: "does not hold it"},
		"no body":                       {change: upsert(&registryv1.Resource{Key: "bad"}), err: `resource "bad": has no body`},
		"a body that does not decode":   {change: upsert(&registryv1.Resource{Key: "bad", Body: []byte{0xff}}), err: `resource "bad": decode body`},
		"a key with control characters": {change: upsert(&registryv1.Resource{Key: "a\x1b[31m\n", Body: []byte{0xff}}), err: `resource "a\x1b[31m\n"`},
		"no host":                       {change: host(""), err: `host "": is not a DNS name: empty label`},
		"a trailing dot":                {change: host("a.b."), err: `host "a.b.": is not a DNS name: empty label`},
		"an empty label":                {change: host("a..b"), err: "empty label"},
		"upper case":                    {change: host("Web.prod"), err: `character 'W'`},
		"a space":                       {change: host("a b"), err: `character ' '`},
		"a label too long":              {change: host("a" + label + ".b"), err: "label longer than 63"},
		"a name too long":               {change: host(strings.Repeat(label+".", 3) + label), err: "longer than 253"},
		"a wildcard too long":           {change: host("*." + strings.Repeat(label+".", 3) + strings.Repeat("a", 60)), err: "longer than 253"},
		"an asterisk alone":             {change: host("*"), err: `character '*'`},
		"an asterisk inside":            {change: host("a.*.b"), err: `character '*'`},
		"an asterisk in a label":        {change: host("*a.b"), err: `character '*'`},
		"two asterisks":                 {change: host("*.*.b"), err: `character '*'`},
		"an asterisk over nothing":      {change: host("*."), err: "empty label"},
		"an illegal external name":      {change: service(&registryv1.Service{Host: "a.b", ExternalName: "x..y"}), err: `external name "x..y" of host "a.b"`},
		"an address of three bytes":     {change: service(&registryv1.Service{Host: "a.b", Addresses: [][]byte{{1, 2, 3}}}), err: `host "a.b": address of 3 bytes: want 4 or 16`},
		"an address of no bytes":        {change: service(&registryv1.Service{Host: "a.b", Addresses: [][]byte{{}}}), err: "address of 0 bytes"},
		"a port out of range":           {change: service(&registryv1.Service{Host: "a.b", Ports: []*registryv1.Port{{Number: 70000}}}), err: "port 70000: at most 65535"},
		"no namespace":                  {change: service(&registryv1.Service{Host: "a.b", Name: "a"}), err: `namespace "" is not a DNS label`},
		"a slice of no Service":         {change: upsert(endpointSlice("prod", "bad", "")), err: `resource "EndpointSlice/prod/bad": service "" is not a DNS label`},
		"a hostname of two labels":      {change: upsert(endpointSlice("prod", "bad", "db", ready("a.b", "10.0.0.1"))), err: `endpoint 0: hostname "a.b" is not a DNS label`},
		"an endpoint's address":         {change: upsert(endpointSlice("prod", "bad", "db", ready(""), &registryv1.Endpoint{Addresses: [][]byte{{1}}})), err: "endpoint 1: address of 1 bytes"},
		"a namespace without a name":    {change: upsert(namespaceResource("")), err: `namespace "" is not a DNS label`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m := loaded(t, web)
			before := m.State()
			content := dump(before)
			// Whatever else is in the change must not be applied either.
			tc.change.Upserts = append([]*registryv1.Resource{kubernetesService("prod", "good", "10.0.0.9")}, tc.change.Upserts...)
			err := m.Apply(tc.change)
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("Error: got %v, want one with %q", err, tc.err)
			}
			if errors.Is(err, ErrPosition) != tc.position {
				t.Errorf("Error is ErrPosition: got %t, want %t", !tc.position, tc.position)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("Error: got control characters in %q, want none", err)
			}
			if m.State() != before || dump(before) != content {
				t.Error("State: got a change, want none")
			}
		})
	}
}

func TestApplyDeltaToNothing(t *testing.T) {
	m := New(Options{})
	err := m.Apply(Change{Generation: testGeneration, ClusterDomain: testDomain, To: 1})
	if !errors.Is(err, ErrPosition) {
		t.Errorf("Error: got %v, want ErrPosition", err)
	}
}

func TestErrorIsNoLongerThanALine(t *testing.T) {
	err := loaded(t).Apply(replace(2, &registryv1.Resource{Key: strings.Repeat("k", 1<<20), Body: []byte{0xff}}))
	if err == nil || len(err.Error()) > 1000 {
		t.Errorf("Error: got %d bytes, want at most 1000", len(fmt.Sprint(err)))
	}
}

// TestUnknownKindsAreKept: a newer syncer may send kinds that this version does not know. They count in
// the digest, or every heartbeat would call for a repair.
func TestUnknownKindsAreKept(t *testing.T) {
	newer := &registryv1.Resource{Key: "Gateway/prod/x", Body: protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("body"))}
	m := loaded(t, newer)
	if got, want := m.State().Digest(), registryv1.DigestResource(newer.Key, newer.Body); got != want {
		t.Errorf("Digest: got %x, want %x", got, want)
	}
	mustApply(t, m, delta(m.State(), nil, &registryv1.Resource{Key: newer.Key, Body: kubernetesService("prod", "x", "10.0.0.1").Body}))
	if got := answers(t, m.State().Host("x.prod.svc.cluster.local")); got != "10.0.0.1" {
		t.Errorf("Host: got %q, want 10.0.0.1", got)
	}
	mustApply(t, m, delta(m.State(), nil, newer))
	mustApply(t, m, delta(m.State(), []string{newer.Key}))
	if got, want := dump(m.State()), dump(loaded(t).State()); got != want {
		t.Errorf("State: got\n%s\nwant\n%s", got, want)
	}
}

func TestReplaceMayChangeEverything(t *testing.T) {
	m := loaded(t, kubernetesService("prod", "web", "10.0.0.1"))
	mustApply(t, m, Change{Generation: "generation-2", View: "dev", ClusterDomain: "mesh.test", Replace: true, To: 7, Upserts: []*registryv1.Resource{
		serviceEntry("prod", "x", "a.example.com", "192.0.2.1"), serviceEntry("dev", "x", "a.example.com", "192.0.2.2"), namespaceResource("dev"),
	}})
	s := m.State()
	if got := s.Host("web.prod.svc.cluster.local"); got != nil {
		t.Errorf("Old host: got %s, want none", answers(t, got))
	}
	if got := answers(t, s.Host("a.example.com")); got != "192.0.2.2" {
		t.Errorf("Host of the new view: got %q, want 192.0.2.2", got)
	}
	if !s.Encloses("dev.svc.mesh.test") || s.Encloses("prod.svc.cluster.local") || s.ClusterDomain() != "mesh.test" {
		t.Errorf("Cluster domain: got %s, want mesh.test in every name", s.ClusterDomain())
	}
}

func TestNamespaceStandsInForTheView(t *testing.T) {
	claims := []*registryv1.Resource{serviceEntry("dev", "x", "a.example.com", "192.0.2.1"), serviceEntry("qa", "x", "a.example.com", "192.0.2.2")}
	for _, tc := range []struct{ namespace, view, want string }{
		{"qa", "", "192.0.2.2"}, {"qa", "dev", "192.0.2.1"}, {"", "qa", "192.0.2.2"}, {"", "", "192.0.2.1"},
	} {
		m := New(Options{Namespace: tc.namespace})
		mustApply(t, m, Change{Generation: testGeneration, View: tc.view, ClusterDomain: testDomain, Replace: true, Upserts: claims})
		if got := answers(t, m.State().Host("a.example.com")); got != tc.want || m.State().Position().GetView() != tc.view {
			t.Errorf("Namespace %q, view %q: got %s in view %q, want %s", tc.namespace, tc.view, got, m.State().Position().GetView(), tc.want)
		}
	}
}

// TestApplyCostsWhatItTouches: a change of one Service must not cost more for those beside it. A trie of
// forty times the size is one level deeper, two at most, and each of five edits copies three more pieces a
// level.
func TestApplyCostsWhatItTouches(t *testing.T) {
	cost := func(count int) float64 {
		m := loaded(t, manyServices(count)...)
		version := byte(0)
		return testing.AllocsPerRun(200, func() {
			version ^= 1
			mustApply(t, m, delta(m.State(), nil, numberedService(count/2, version)))
		})
	}
	small, large := cost(500), cost(20_000)
	if large > small+2*5*3 {
		t.Errorf("Allocations: got %g among 20,000 Services, and %g among 500, want them about equal", large, small)
	}
}

func TestStateIsImmutable(t *testing.T) {
	db := headlessService("prod", "db")
	m := loaded(t, kubernetesService("prod", "web", "10.0.0.1"), db, endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"), ready("db-1", "10.1.0.2")), namespaceResource("prod"))
	kept := m.State()
	content := dump(kept)
	mustApply(t, m, delta(m.State(), nil, kubernetesService("prod", "web", "10.0.0.2"), endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.3"))))
	m.SetTTL(60, 10)
	mustApply(t, m, delta(m.State(), []string{db.Key}))
	mustApply(t, m, replace(9))
	if got := dump(kept); got != content {
		t.Errorf("Kept State: got\n%s\nwant\n%s", got, content)
	}
}

func TestChanged(t *testing.T) {
	m := New(Options{})
	closed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	first := m.Changed()
	if err := m.Apply(Change{}); err == nil || closed(first) {
		t.Errorf("After a failed Apply (%v): got closed %t, want open", err, closed(first))
	}
	m.SetTTL(1, 1)
	m.Confirm(time.Now())
	if closed(first) {
		t.Error("After SetTTL and Confirm: got closed, want open")
	}
	mustApply(t, m, replace(1))
	second := m.Changed()
	if !closed(first) || closed(second) {
		t.Errorf("After Apply: got closed %t, and the next one %t, want true, false", closed(first), closed(second))
	}
	mustApply(t, m, delta(m.State(), nil))
	if !closed(second) {
		t.Error("After the second Apply: got open, want closed")
	}
}

func TestSetTTL(t *testing.T) {
	m := loaded(t, kubernetesService("prod", "web", "10.0.0.1", "2001:db8::1"), headlessService("prod", "db"),
		endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1")), serviceEntry("prod", "w", "*.example.com", "192.0.2.1"))
	before := m.State()
	m.SetTTL(30, 5)
	if m.State() != before {
		t.Error("The same TTLs: got another State, want the same")
	}
	m.SetTTL(60, 10)
	after := m.State()
	for name, want := range map[string]uint32{"web.prod.svc.cluster.local": 60, "db.prod.svc.cluster.local": 10, "db-0.db.prod.svc.cluster.local": 10} {
		host := after.Host(name)
		texts(t, host.A, name)
		if host.A.TTL != want || host.A.RRs[0].Header().Ttl != want {
			t.Errorf("TTL of %s: got %d, want %d", name, host.A.TTL, want)
		}
	}
	if got := after.Wildcard("a.example.com").A.TTL; got != 60 {
		t.Errorf("TTL of the wildcard: got %d, want 60", got)
	}
	if got := before.Host("web.prod.svc.cluster.local").A.RRs[0].Header().Ttl; got != 30 {
		t.Errorf("TTL in the State before: got %d, want 30", got)
	}
	mustApply(t, m, delta(after, nil, kubernetesService("prod", "api", "10.0.0.2"), endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"), ready("db-1", "10.1.0.2"))))
	if got := m.State().Host("api.prod.svc.cluster.local").A.TTL; got != 60 {
		t.Errorf("TTL of a later host: got %d, want 60", got)
	}
	texts(t, m.State().Host("db.prod.svc.cluster.local").A, "db.prod.svc.cluster.local")
}

func TestSetTTLBeforeAnything(t *testing.T) {
	m := New(Options{TTL: 30})
	m.SetTTL(60, 10)
	mustApply(t, m, replace(1, kubernetesService("prod", "web", "10.0.0.1")))
	if got := m.State().Host("web.prod.svc.cluster.local").A.TTL; got != 60 {
		t.Errorf("TTL: got %d, want 60", got)
	}
}

func TestConfirm(t *testing.T) {
	m := New(Options{})
	if got := m.ConfirmedAt(); !got.IsZero() {
		t.Errorf("Never confirmed: got %v, want zero", got)
	}
	for _, at := range []time.Time{time.Unix(1700000000, 5), time.Unix(1600000000, 0)} {
		m.Confirm(at)
		m.Confirm(time.Time{})
		if got := m.ConfirmedAt(); !got.Equal(at) {
			t.Errorf("ConfirmedAt: got %v, want %v", got, at)
		}
	}
}

func TestNextSerial(t *testing.T) {
	tests := map[string]struct {
		previous uint32
		now      int64
		want     uint32
	}{
		"the first":                      {0, 1700000000, 1700000000},
		"a later second":                 {1700000000, 1700000009, 1700000009},
		"the same second":                {1700000000, 1700000000, 1700000001},
		"the clock went back":            {1700000000, 1600000000, 1700000001},
		"a serial ahead of the clock":    {1700000005, 1700000001, 1700000006},
		"the clock passes 32 bits":       {1<<32 - 1, 1 << 32, 0},
		"counting passes 32 bits":        {1<<32 - 1, 1<<32 - 5, 0},
		"just after the clock's passing": {1<<32 - 2, 1<<32 + 100, 100},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := nextSerial(tc.previous, time.Unix(tc.now, 0))
			if got != tc.want {
				t.Errorf("Serial after %d at %d: got %d, want %d", tc.previous, tc.now, got, tc.want)
			}
			if tc.previous != 0 && int32(got-tc.previous) <= 0 {
				t.Errorf("Serial %d is not greater than %d in RFC 1982's arithmetic", got, tc.previous)
			}
		})
	}
}

func TestSerial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := kubernetesService("prod", "web", "10.0.0.1")
		m := loaded(t, web)
		start := uint32(time.Now().Unix())
		expect := func(when string, want uint32) {
			t.Helper()
			if got := m.State().Serial() - start; got != want {
				t.Errorf("Serial %s: got %d after the start, want %d", when, got, want)
			}
		}
		expect("at first", 0)
		mustApply(t, m, delta(m.State(), nil, kubernetesService("prod", "web", "10.0.0.2")))
		mustApply(t, m, delta(m.State(), nil, web))
		expect("after two changes within a second", 2)
		time.Sleep(time.Minute)
		mustApply(t, m, delta(m.State(), nil))
		expect("after a revision that changes nothing", 2)
		mustApply(t, m, replace(9, web))
		expect("after the same content anew", 2)
		mustApply(t, m, replace(10, web, kubernetesService("prod", "api", "10.0.0.3")))
		expect("after a minute", 60)
		m.SetTTL(60, 10)
		expect("after other TTLs", 61)
	})
}
