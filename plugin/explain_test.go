package meshvm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/plugin/status"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// explainedTypes are those that names are asked for in tests.
var explainedTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeCNAME, dns.TypeTXT, dns.TypeHTTPS, dns.TypeSOA, dns.TypeNS}

// answerOf is what ServeDNS answers a client on this machine over TCP.
func (m *Meshvm) answerOf(t *testing.T, name string, qtype uint16) (rcode string, records []string, passed bool) {
	t.Helper()
	w := &explained{witness: witness{local: m.local()}}
	if _, err := m.ServeDNS(t.Context(), w, new(dns.Msg).SetQuestion(name, qtype)); err != nil {
		t.Fatalf("ServeDNS %s: %v", name, err)
	}
	if w.reply.Rcode == dns.RcodeNotImplemented {
		return "", nil, true // What stands behind the plugin said so.
	}
	for _, section := range [][]dns.RR{w.reply.Answer, w.reply.Ns, w.reply.Extra} {
		for _, rr := range section {
			records = append(records, strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	return dns.RcodeToString[w.reply.Rcode], records, false
}

// explained is a client that keeps its reply.
type explained struct {
	witness
	reply *dns.Msg
}

func (w *explained) WriteMsg(reply *dns.Msg) error {
	w.reply = reply
	return nil
}

// checkExplained holds that an explanation's answer is the one that ServeDNS gives.
func checkExplained(t *testing.T, m *Meshvm, name string, qtype uint16) status.Explanation {
	t.Helper()
	e := m.explain(name, qtype)
	rcode, records, passed := m.answerOf(t, name, qtype)
	if (e.Outcome == "passed-on") != passed || e.Rcode != rcode || !slices.Equal(e.Records, records) {
		t.Errorf("%s %s: explained as %s %s %q, answered with %s %q, passed on %t", name, dns.Type(qtype), e.Outcome, e.Rcode, e.Records, rcode, records, passed)
	}
	if e.Reason == "" {
		t.Errorf("%s %s: no reason for %s", name, dns.Type(qtype), e.Outcome)
	}
	if e.Host != "" && !slices.ContainsFunc(e.Claims, func(claim status.Claim) bool { return claim.Winner && claim.Reason != "" }) {
		t.Errorf("%s %s: claims of %s: got %+v, want a winner with a reason", name, dns.Type(qtype), e.Host, e.Claims)
	}
	return e
}

// TestExplainedAsAnswered asks for every name that the mesh knows, and names below, in every setting.
func TestExplainedAsAnswered(t *testing.T) {
	names, labels := vocabulary(t)
	for _, setting := range settings {
		t.Run(setting.name, func(t *testing.T) {
			config, resources := defaultConfig(), largeMesh()
			setting.set(config)
			if setting.nothing {
				resources = nil
			}
			m := serving(t, config, resources)
			m.follower.age.Store(int64(setting.age))
			random := rand.New(rand.NewPCG(1, uint64(len(setting.name))))
			for _, name := range names {
				for _, below := range []string{"", "x.", "_http._tcp.", labels[random.IntN(len(labels))] + "."} {
					asked := dns.Fqdn(below + strings.TrimPrefix(name, "."))
					if _, valid := dns.IsDomainName(asked); !valid {
						continue
					}
					for _, qtype := range explainedTypes {
						checkExplained(t, m, asked, qtype)
					}
				}
			}
		})
	}
}

// TestExplainedAsAnsweredAtRandom has objects compete for hosts at random.
func TestExplainedAsAnsweredAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(7, seed))
		pick := func(words ...string) string { return words[random.IntN(len(words))] }
		host := func() string {
			return pick("a.prod.svc.cluster.local", "b.vm.svc.cluster.local", "*.prod.svc.cluster.local", "a.example.com", "*.example.com", "*.a.example.com", "b.a.example.com")
		}
		resources := []*registryv1.Resource{namespace("prod")}
		for i := range random.IntN(12) {
			s := &registryv1.Service{
				Host: host(), Namespace: pick("prod", "vm", "other"), Name: fmt.Sprintf("s%d", random.IntN(4)), Origin: entry, CreatedAt: int64(random.IntN(3)),
				Addresses: addresses(fmt.Sprintf("240.240.0.%d", i+1)), AddressKind: registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP, ExportedByName: random.IntN(2) == 0,
			}
			switch random.IntN(5) {
			case 0:
				s.Addresses, s.AddressKind = nil, registryv1.AddressKind_ADDRESS_KIND_PENDING
			case 1:
				s.Addresses = nil
			case 2:
				if !strings.HasPrefix(s.GetHost(), "*") {
					s.Origin, s.AddressKind = kubernetes, registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP
				}
			}
			resources = append(resources, serviceResource(registryv1.ServiceEntryKey("", s.GetNamespace(), fmt.Sprint(s.GetName(), "-", i), s.GetHost()), s))
		}
		config := defaultConfig()
		config.ShortNames = random.IntN(2) == 0
		if random.IntN(3) == 0 {
			config.Fall.SetZonesFromArgs(nil)
		}
		m := serving(t, config, resources)
		for range 60 {
			name := strings.Replace(host(), "*", pick("x", "a", "y.x", "a.b"), 1)
			e := checkExplained(t, m, name+".", explainedTypes[random.IntN(len(explainedTypes))])
			checkClaims(t, m, e)
		}
	}
}

// checkClaims holds that what won by an explanation is what the mirror answers with.
func checkClaims(t *testing.T, m *Meshvm, e status.Explanation) {
	t.Helper()
	if e.Host == "" || e.Match == "endpoint" {
		return
	}
	state := m.follower.mirror.State()
	host := state.Host(e.Host)
	if suffix, wild := strings.CutPrefix(e.Host, "*."); wild {
		host = state.Wildcard("x." + suffix)
	}
	if host == nil {
		t.Fatalf("Host %s of an explanation: got none", e.Host)
	}
	var want, got []string
	for _, set := range []*mirror.RRset{host.A, host.AAAA} {
		if set == nil {
			continue
		}
		for _, rr := range set.RRs {
			want = append(want, rr.(*dns.A).A.String())
		}
	}
	for _, claim := range e.Claims {
		if claim.Winner {
			got = append(got, claim.Addresses...)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(slices.Compact(got), want) || len(e.Claims) != len(host.Claims) {
		t.Errorf("%s: %d claims, winners with %q; want %d, %q", e.Host, len(e.Claims), got, len(host.Claims), want)
	}
}

func TestExplanations(t *testing.T) {
	insecure, short := defaultConfig(), defaultConfig()
	insecure.Pods, short.ShortNames = PodsInsecure, true
	tests := []struct {
		name, asked string
		qtype       uint16
		config      *Config
		want        status.Explanation
		hint        string
	}{
		{"a Service", "Reviews.prod.svc.cluster.local.", dns.TypeA, nil,
			status.Explanation{Outcome: "answered", Match: "exact", Host: "reviews.prod.svc.cluster.local", Rcode: "NOERROR"}, ""},
		{"no such type", "v4only.prod.svc.cluster.local.", dns.TypeAAAA, nil,
			status.Explanation{Outcome: "nodata", Match: "exact", Host: "v4only.prod.svc.cluster.local", Rcode: "NOERROR"}, ""},
		{"a wildcard", "a.b.wild.example.com.", dns.TypeA, nil,
			status.Explanation{Outcome: "answered", Match: "wildcard", Host: "*.wild.example.com", Rcode: "NOERROR"}, ""},
		{"an endpoint", "db-0.db.prod.svc.cluster.local.", dns.TypeA, nil,
			status.Explanation{Outcome: "answered", Match: "endpoint", Host: "db-0.db.prod.svc.cluster.local", Rcode: "NOERROR"}, ""},
		{"a port", "_http._tcp.reviews.prod.svc.cluster.local.", dns.TypeSRV, nil,
			status.Explanation{Outcome: "answered", Match: "port", Host: "reviews.prod.svc.cluster.local", Rcode: "NOERROR"}, ""},
		{"a pod", "1-2-3-4.prod.pod.cluster.local.", dns.TypeA, insecure,
			status.Explanation{Outcome: "answered", Match: "pod", Rcode: "NOERROR"}, ""},
		{"a short name", "short.", dns.TypeA, short,
			status.Explanation{Outcome: "answered", Match: "short-name", Host: "short.vm.svc.cluster.local", Rcode: "NOERROR"}, ""},
		{"an address", "10.0.96.10.in-addr.arpa.", dns.TypePTR, nil,
			status.Explanation{Outcome: "answered", Match: "reverse", Rcode: "NOERROR"}, ""},
		{"somebody else's address", "1.0.0.127.in-addr.arpa.", dns.TypePTR, nil,
			status.Explanation{Outcome: "passed-on", Match: "none"}, ""},
		{"an alias that leads elsewhere", "ext.prod.svc.cluster.local.", dns.TypeA, nil,
			status.Explanation{Outcome: "answered", Match: "exact", Host: "ext.prod.svc.cluster.local", Target: "target.example.net", Rcode: "NOERROR"}, ""},
		{"headless without endpoints", "idle.prod.svc.cluster.local.", dns.TypeA, nil,
			status.Explanation{Outcome: "nxdomain", Match: "exact", Host: "idle.prod.svc.cluster.local", Rcode: "NXDOMAIN"}, ""},
		{"an empty non-terminal", "prod.svc.cluster.local.", dns.TypeA, nil,
			status.Explanation{Outcome: "nodata", Match: "enclosed", Rcode: "NOERROR"}, ""},
		{"a slip of the pen", "reveiws.prod.svc.cluster.local.", dns.TypeA, nil,
			status.Explanation{Outcome: "nxdomain", Match: "none", Rcode: "NXDOMAIN", ClosestEncloser: "prod.svc.cluster.local", Nearest: []string{"reviews.prod.svc.cluster.local"}},
			"meshvmctl lookup reveiws.prod.svc.cluster.local --http"},
		{"another namespace", "reviews.vm.svc.cluster.local.", dns.TypeA, nil,
			status.Explanation{Outcome: "nxdomain", Match: "none", Rcode: "NXDOMAIN", ClosestEncloser: "vm.svc.cluster.local", Nearest: []string{"reviews.prod.svc.cluster.local"}},
			"elsewhere: is it reviews.prod.svc.cluster.local?"},
		{"a host without addresses", "bare.example.com.", dns.TypeA, nil,
			status.Explanation{Outcome: "passed-on", Match: "exact", Host: "bare.example.com"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := test.config
			if config == nil {
				config = defaultConfig()
			}
			got := checkExplained(t, serving(t, config, mesh()), test.asked, test.qtype)
			hints := strings.Join(got.Hints, "\n")
			if !strings.Contains(hints, test.hint) {
				t.Errorf("Hints: got %q, want one with %q", hints, test.hint)
			}
			want := test.want
			if got.Outcome != want.Outcome || got.Match != want.Match || got.Host != want.Host || got.Rcode != want.Rcode || got.Target != want.Target ||
				got.ClosestEncloser != want.ClosestEncloser || !slices.Equal(got.Nearest, want.Nearest) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	m := serving(t, defaultConfig(), mesh())
	m.follower.age.Store(int64(2 * time.Hour))
	if got := m.explain("reviews.prod.svc.cluster.local.", dns.TypeA); !got.Stale || len(got.Hints) == 0 {
		t.Errorf("Stale: got %t, hints %q, want it said", got.Stale, got.Hints)
	}
}

func TestQuestions(t *testing.T) {
	for _, bad := range []status.Question{{}, {Name: "a..b"}, {Name: strings.Repeat("a.", 200)}, {Name: strings.Repeat("a", 64)}, {Name: "a", Type: "NONSENSE"}, {Name: "a", Type: "OPT"}} {
		if _, _, err := checkQuestion(bad); err == nil {
			t.Errorf("%+v: got no error", bad)
		}
	}
	if name, qtype, err := checkQuestion(status.Question{Name: "a.b", Type: "srv"}); name != "a.b." || qtype != dns.TypeSRV || err != nil {
		t.Errorf("got %q %d %v, want a.b. SRV", name, qtype, err)
	}
}

// TestDistance holds the distance against its textbook definition.
func TestDistance(t *testing.T) {
	var plain func(a, b string) int
	plain = func(a, b string) int {
		switch {
		case a == "" || b == "":
			return len(a) + len(b)
		case a[0] == b[0]:
			return plain(a[1:], b[1:])
		}
		least := min(plain(a[1:], b), plain(a, b[1:]), plain(a[1:], b[1:]))
		if len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] {
			least = min(least, plain(a[2:], b[2:]))
		}
		return 1 + least
	}
	random := rand.New(rand.NewPCG(3, 3))
	word := func() string {
		letters := make([]byte, random.IntN(7))
		for i := range letters {
			letters[i] = "abc"[random.IntN(3)]
		}
		return string(letters)
	}
	for range 5000 {
		a, b, limit := word(), word(), random.IntN(5)
		if got, want := distance(a, b, limit), min(plain(a, b), limit+1); got != want {
			t.Fatalf("distance(%q, %q, %d): got %d, want %d", a, b, limit, got, want)
		}
	}
}
