package meshvm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// answer is what a test expects of a reply. Records are written as `TYPE DATA`, in order.
type answer struct {
	rcode   int
	records []string
	// additional is written as records are, with the owner in front.
	additional []string
	// authority is the owner of the SOA record in the authority section.
	authority string
	// passed: the next plugin answered, and nothing else counts.
	passed bool
}

func records(rcode int, records ...string) answer { return answer{rcode: rcode, records: records} }
func noDataOf(zone string) answer                 { return answer{authority: zone} }
func nameErrorOf(zone string) answer              { return answer{rcode: dns.RcodeNameError, authority: zone} }

func (a answer) with(additional ...string) answer { a.additional = additional; return a }

var passedOn = answer{passed: true}

func ask(t *testing.T, m *Meshvm, name string, qtype uint16, edns bool) *dns.Msg {
	t.Helper()
	r := new(dns.Msg)
	r.SetQuestion(name, qtype)
	if edns {
		r.SetEdns0(1232, false)
	}
	recorder := dnstest.NewRecorder(&test.ResponseWriter{})
	rcode, err := m.ServeDNS(context.Background(), recorder, r)
	if err != nil || recorder.Msg == nil {
		t.Fatalf("ServeDNS(%s %s): got no reply, rcode %s, error %v", name, dns.TypeToString[qtype], dns.RcodeToString[rcode], err)
	}
	return recorder.Msg
}

// data is a record without owner, class and TTL.
func data(rr dns.RR) string {
	return dns.TypeToString[rr.Header().Rrtype] + " " + strings.TrimPrefix(rr.String(), rr.Header().String())
}

func check(t *testing.T, reply *dns.Msg, want answer) {
	t.Helper()
	if passed := reply.Rcode == dns.RcodeNotImplemented; passed != want.passed {
		t.Fatalf("Passed on: got %t, want %t\n%v", passed, want.passed, reply)
	} else if passed {
		return
	}
	if reply.Rcode != want.rcode {
		t.Errorf("Rcode: got %s, want %s", dns.RcodeToString[reply.Rcode], dns.RcodeToString[want.rcode])
	}
	var got []string
	for _, rr := range reply.Answer {
		got = append(got, data(rr))
		owner := reply.Question[0].Name
		if i := len(got) - 2; i >= 0 {
			if alias, ok := reply.Answer[i].(*dns.CNAME); ok {
				owner = alias.Target
			} else {
				owner = reply.Answer[i].Header().Name
			}
		}
		if rr.Header().Name != owner {
			t.Errorf("Owner: got %s, want %s, the query's own spelling or its alias", rr.Header().Name, owner)
		}
	}
	if !slices.Equal(got, want.records) {
		t.Errorf("Answer: got %q, want %q", got, want.records)
	}
	var additional []string
	for _, rr := range reply.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			additional = append(additional, rr.Header().Name+" "+data(rr))
		}
	}
	if !slices.Equal(additional, want.additional) {
		t.Errorf("Additional: got %q, want %q", additional, want.additional)
	}
	if want.rcode == dns.RcodeServerFailure || want.rcode == dns.RcodeRefused {
		return
	}
	if !reply.Authoritative || !reply.RecursionAvailable || !reply.Response {
		t.Errorf("Flags: got aa=%t ra=%t qr=%t, want all", reply.Authoritative, reply.RecursionAvailable, reply.Response)
	}
	authority := ""
	if len(reply.Ns) > 0 {
		soa, ok := reply.Ns[0].(*dns.SOA)
		if !ok || soa.Minttl != DefaultEndpointTTL || soa.Hdr.Ttl != DefaultEndpointTTL || soa.Serial == 0 {
			t.Errorf("Authority: got %v, want one SOA with TTL and minimum %d and a serial", reply.Ns, DefaultEndpointTTL)
		} else {
			authority = soa.Hdr.Name
		}
	}
	if authority != want.authority {
		t.Errorf("SOA of: got %q, want %q", authority, want.authority)
	}
}

// TestAnswers is what a query gets, case by case: section 7 of the design.
func TestAnswers(t *testing.T) {
	const zone = DefaultZone
	ok := dns.RcodeSuccess
	tests := []struct {
		name  string
		query string // NAME TYPE
		want  answer
	}{
		{"service, IPv4", "reviews.prod.svc.cluster.local. A", records(ok, "A 10.96.0.10")},
		{"service, IPv6", "reviews.prod.svc.cluster.local. AAAA", records(ok, "AAAA fd00::10")},
		{"owner names echo the query's spelling", "Reviews.PROD.svc.Cluster.Local. A", records(ok, "A 10.96.0.10")},
		{"family that a service lacks", "v4only.prod.svc.cluster.local. AAAA", noDataOf(zone)},
		{"service without addresses", "none.prod.svc.cluster.local. A", noDataOf(zone)},
		{"type that a service lacks", "reviews.prod.svc.cluster.local. MX", noDataOf(zone)},
		{"HTTPS of a service", "reviews.prod.svc.cluster.local. HTTPS", noDataOf(zone)},
		{"unknown service", "nope.prod.svc.cluster.local. A", nameErrorOf(zone)},
		{"unknown namespace", "reviews.nope.svc.cluster.local. A", nameErrorOf(zone)},
		{"below a service", "x.reviews.prod.svc.cluster.local. A", nameErrorOf(zone)},
		{"foreign first label", "prod.endpoints.cluster.local. A", nameErrorOf(zone)},
		{"pods", "pod.cluster.local. A", noDataOf(zone)},
		{"pods of a namespace", "prod.pod.cluster.local. A", nameErrorOf(zone)},
		{"pod", "10-0-0-1.prod.pod.cluster.local. A", nameErrorOf(zone)},
		{"zone transfer without the transfer plugin", "cluster.local. AXFR", answer{rcode: dns.RcodeRefused}},
		{"incremental transfer", "svc.cluster.local. IXFR", answer{rcode: dns.RcodeRefused}},
		{"namespace with services", "prod.svc.cluster.local. A", noDataOf(zone)},
		{"empty namespace", "empty.svc.cluster.local. A", noDataOf(zone)},
		{"svc", "svc.cluster.local. AAAA", noDataOf(zone)},
		{"apex", "cluster.local. A", noDataOf(zone)},
		{"not the zone, only its tail", "notcluster.local. A", passedOn},
		{"an escaped dot is no label's end", `x\.cluster.local. A`, passedOn},

		{"headless", "db.prod.svc.cluster.local. A", records(ok, "A 10.0.0.1", "A 10.0.0.2")},
		{"headless, IPv6", "db.prod.svc.cluster.local. AAAA", records(ok, "AAAA fd01::1")},
		{"headless, other type", "db.prod.svc.cluster.local. TXT", noDataOf(zone)},
		{"headless without ready endpoints", "idle.prod.svc.cluster.local. A", nameErrorOf(zone)},
		{"headless without ready endpoints, other type", "idle.prod.svc.cluster.local. TXT", nameErrorOf(zone)},
		{"endpoint by hostname", "db-0.db.prod.svc.cluster.local. A", records(ok, "A 10.0.0.1")},
		{"endpoint by hostname, IPv6", "db-0.db.prod.svc.cluster.local. AAAA", records(ok, "AAAA fd01::1")},
		{"endpoint by address", "10-0-0-2.db.prod.svc.cluster.local. A", records(ok, "A 10.0.0.2")},
		{"endpoint not ready", "db-3.db.prod.svc.cluster.local. A", nameErrorOf(zone)},
		{"endpoint, family it lacks", "10-0-0-2.db.prod.svc.cluster.local. AAAA", noDataOf(zone)},

		{"SRV", "_http._tcp.reviews.prod.svc.cluster.local. SRV", records(ok, "SRV 0 50 80 reviews.prod.svc.cluster.local.").
			with("reviews.prod.svc.cluster.local. A 10.96.0.10", "reviews.prod.svc.cluster.local. AAAA fd00::10")},
		{"SRV, spelling", "_HTTP._tcp.Reviews.prod.svc.cluster.LOCAL. SRV", records(ok, "SRV 0 50 80 reviews.prod.svc.cluster.local.").
			with("reviews.prod.svc.cluster.local. A 10.96.0.10", "reviews.prod.svc.cluster.local. AAAA fd00::10")},
		{"SRV without underscores", "http.tcp.reviews.prod.svc.cluster.local. SRV", records(ok, "SRV 0 50 80 reviews.prod.svc.cluster.local.").
			with("reviews.prod.svc.cluster.local. A 10.96.0.10", "reviews.prod.svc.cluster.local. AAAA fd00::10")},
		{"SRV of all ports", "reviews.prod.svc.cluster.local. SRV", records(ok,
			"SRV 0 16 80 reviews.prod.svc.cluster.local.", "SRV 0 16 9090 reviews.prod.svc.cluster.local.", "SRV 0 16 53 reviews.prod.svc.cluster.local.").
			with("reviews.prod.svc.cluster.local. A 10.96.0.10", "reviews.prod.svc.cluster.local. AAAA fd00::10")},
		{"SRV, unknown port", "_nope._tcp.reviews.prod.svc.cluster.local. SRV", nameErrorOf(zone)},
		{"SRV, port of the other protocol", "_http._udp.reviews.prod.svc.cluster.local. SRV", nameErrorOf(zone)},
		{"SRV, service without ports", "v4only.prod.svc.cluster.local. SRV", noDataOf(zone)},
		{"SRV, too many labels", "x._http._tcp.reviews.prod.svc.cluster.local. SRV", nameErrorOf(zone)},
		{"address of a port", "_http._tcp.reviews.prod.svc.cluster.local. A", records(ok, "A 10.96.0.10")},
		{"other type of a port", "_http._tcp.reviews.prod.svc.cluster.local. TXT", noDataOf(zone)},
		{"above a service's ports", "_tcp.reviews.prod.svc.cluster.local. SRV", noDataOf(zone)},
		{"above no port", "_udp.reviews.prod.svc.cluster.local. SRV", nameErrorOf(zone)},
		{"SRV, headless", "_sql._tcp.db.prod.svc.cluster.local. SRV", records(ok,
			"SRV 0 33 3306 10-0-0-2.db.prod.svc.cluster.local.", "SRV 0 33 3306 db-0.db.prod.svc.cluster.local.").
			with("10-0-0-2.db.prod.svc.cluster.local. A 10.0.0.2", "db-0.db.prod.svc.cluster.local. A 10.0.0.1", "db-0.db.prod.svc.cluster.local. AAAA fd01::1")},
		{"SRV, headless, port of one slice", "_metrics._tcp.db.prod.svc.cluster.local. SRV", records(ok,
			"SRV 0 50 9104 10-0-0-2.db.prod.svc.cluster.local.", "SRV 0 50 9104 db-0.db.prod.svc.cluster.local.").
			with("10-0-0-2.db.prod.svc.cluster.local. A 10.0.0.2", "db-0.db.prod.svc.cluster.local. A 10.0.0.1", "db-0.db.prod.svc.cluster.local. AAAA fd01::1")},
		{"SRV, headless without ready endpoints", "idle.prod.svc.cluster.local. SRV", nameErrorOf(zone)},
		{"SRV, headless, not at every slice's port", "mixed.prod.svc.cluster.local. SRV", records(ok, "SRV 0 33 443 web.mixed.prod.svc.cluster.local.").
			with("web.mixed.prod.svc.cluster.local. A 10.0.0.8")},
		{"SRV, endpoint", "10-0-0-2.db.prod.svc.cluster.local. SRV", records(ok,
			"SRV 0 50 3306 10-0-0-2.db.prod.svc.cluster.local.", "SRV 0 50 9104 10-0-0-2.db.prod.svc.cluster.local.").
			with("10-0-0-2.db.prod.svc.cluster.local. A 10.0.0.2")},
		{"endpoint of several labels", "group-10.0.3.5.vms.prod.svc.cluster.local. A", records(ok, "A 10.0.3.5")},
		{"endpoint of several labels, IPv6", "group-10.0.3.5.vms.prod.svc.cluster.local. AAAA", records(ok, "AAAA fd03::5")},
		{"endpoint of several labels, other type", "group-10.0.3.5.vms.prod.svc.cluster.local. TXT", noDataOf(zone)},
		{"endpoint of several labels, not ready", "group-10.0.3.6.vms.prod.svc.cluster.local. A", nameErrorOf(zone)},
		{"endpoint of several labels, between it and its service", "0.3.5.vms.prod.svc.cluster.local. A", noDataOf(zone)},
		{"endpoint of several labels, below its service", "5.vms.prod.svc.cluster.local. A", noDataOf(zone)},
		{"endpoint of several labels, beside it", "group-10.3.5.vms.prod.svc.cluster.local. A", nameErrorOf(zone)},
		{"endpoint of several labels, below it", "x.group-10.0.3.5.vms.prod.svc.cluster.local. A", nameErrorOf(zone)},
		{"endpoint of several labels, a label of one that is not ready", "6.vms.prod.svc.cluster.local. A", nameErrorOf(zone)},
		{"SRV, endpoint of several labels", "_ssh._tcp.vms.prod.svc.cluster.local. SRV", records(ok,
			"SRV 0 50 22 group-10.0.3.5.vms.prod.svc.cluster.local.").
			with("group-10.0.3.5.vms.prod.svc.cluster.local. A 10.0.3.5", "group-10.0.3.5.vms.prod.svc.cluster.local. AAAA fd03::5")},
		{"SRV of an endpoint of several labels", "group-10.0.3.5.vms.prod.svc.cluster.local. SRV", records(ok,
			"SRV 0 50 22 group-10.0.3.5.vms.prod.svc.cluster.local.").
			with("group-10.0.3.5.vms.prod.svc.cluster.local. A 10.0.3.5", "group-10.0.3.5.vms.prod.svc.cluster.local. AAAA fd03::5")},
		{"PTR of an endpoint of several labels", "5.3.0.10.in-addr.arpa. PTR", records(ok, "PTR group-10.0.3.5.vms.prod.svc.cluster.local.")},
		{"ports are not an endpoint's", "_sql._tcp.db-0.db.prod.svc.cluster.local. SRV", nameErrorOf(zone)},
		{"addresses of a headless port", "_sql._tcp.db.prod.svc.cluster.local. A", records(ok, "A 10.0.0.1", "A 10.0.0.2")},
		{"above a headless service's ports", "_tcp.db.prod.svc.cluster.local. A", noDataOf(zone)},
		{"SRV, ServiceEntry inside the zone", "_http._tcp.legacy.prod.svc.cluster.local. SRV", records(ok, "SRV 0 100 8080 legacy.prod.svc.cluster.local.").
			with("legacy.prod.svc.cluster.local. A 240.240.0.5")},

		{"SRV, ServiceEntry host", "_https._tcp.api.example.com. SRV", records(ok, "SRV 0 100 443 api.example.com.").with("api.example.com. A 240.240.0.1")},
		{"SRV, ServiceEntry host, all ports", "api.example.com. SRV", records(ok, "SRV 0 100 443 api.example.com.").with("api.example.com. A 240.240.0.1")},
		{"SRV, ServiceEntry host, spelling", "_https._TCP.API.example.com. SRV", records(ok, "SRV 0 100 443 api.example.com.").with("api.example.com. A 240.240.0.1")},
		{"SRV, ServiceEntry host without ports", "exact.wild.example.com. SRV", noDataOf("exact.wild.example.com.")},
		{"SRV, ServiceEntry host, unknown port", "_sip._tcp.api.example.com. SRV", passedOn},
		{"SRV, ServiceEntry host, no port", "_._.api.example.com. SRV", passedOn},
		{"SRV, ServiceEntry host, no underscores", "https.tcp.api.example.com. SRV", passedOn},
		{"SRV, ServiceEntry host without addresses", "_https._tcp.bare.example.com. SRV", passedOn},
		{"address of a ServiceEntry host's port", "_https._tcp.api.example.com. A", passedOn},
		{"SRV, wildcard", "_tls._tcp.a.wild.example.com. SRV", records(ok, "SRV 0 100 443 a.wild.example.com.").with("a.wild.example.com. A 240.240.0.3")},
		{"SRV, wildcard, all ports", "A.wild.example.com. SRV", records(ok, "SRV 0 100 443 a.wild.example.com.").with("a.wild.example.com. A 240.240.0.3")},
		{"SRV, wildcard, unknown port", "_sip._tcp.a.wild.example.com. SRV", passedOn},

		{"ServiceEntry inside the zone", "legacy.prod.svc.cluster.local. A", records(ok, "A 240.240.0.5")},
		{"ServiceEntry inside the zone without addresses", "pending.prod.svc.cluster.local. A", noDataOf(zone)},

		{"ServiceEntry host", "api.example.com. A", records(ok, "A 240.240.0.1")},
		{"ServiceEntry host, spelling", "API.example.COM. A", records(ok, "A 240.240.0.1")},
		{"ServiceEntry host, family it lacks", "api.example.com. AAAA", noDataOf("api.example.com.")},
		{"ServiceEntry host, HTTPS", "api.example.com. HTTPS", noDataOf("api.example.com.")},
		{"ServiceEntry host, SVCB", "api.example.com. SVCB", noDataOf("api.example.com.")},
		{"ServiceEntry host, MX", "api.example.com. MX", passedOn},
		{"ServiceEntry host, TXT", "api.example.com. TXT", passedOn},
		{"ServiceEntry host without addresses", "bare.example.com. A", passedOn},
		{"ServiceEntry host without addresses, HTTPS", "bare.example.com. HTTPS", passedOn},
		{"ServiceEntry host of one label", "vault. A", records(ok, "A 240.240.0.6")},
		{"beside a ServiceEntry host", "other.example.com. A", passedOn},
		{"below a ServiceEntry host", "x.api.example.com. A", passedOn},
		{"parent of a ServiceEntry host", "example.com. A", passedOn},
		{"root", ". A", passedOn},

		{"wildcard", "a.wild.example.com. A", records(ok, "A 240.240.0.3")},
		{"wildcard, any depth", "c.b.a.wild.example.com. A", records(ok, "A 240.240.0.3")},
		{"wildcard, spelling", "A.Wild.Example.Com. A", records(ok, "A 240.240.0.3")},
		{"wildcard, never the apex", "wild.example.com. A", passedOn},
		{"wildcard, longest suffix", "a.deep.wild.example.com. A", records(ok, "A 240.240.0.4")},
		{"wildcard, longest suffix, IPv6", "a.deep.wild.example.com. AAAA", records(ok, "AAAA 2001:2::4")},
		{"wildcard, apex of a deeper one", "deep.wild.example.com. A", records(ok, "A 240.240.0.3")},
		{"wildcard, exact host first", "exact.wild.example.com. A", records(ok, "A 240.240.0.2")},
		{"wildcard, below an exact host", "x.exact.wild.example.com. A", records(ok, "A 240.240.0.3")},
		{"wildcard, family it lacks", "a.wild.example.com. AAAA", noDataOf("a.wild.example.com.")},
		{"wildcard, HTTPS", "a.wild.example.com. HTTPS", noDataOf("a.wild.example.com.")},
		{"wildcard, MX", "a.wild.example.com. MX", passedOn},

		{"PTR of a cluster IP", "10.0.96.10.in-addr.arpa. PTR", records(ok, "PTR reviews.prod.svc.cluster.local.")},
		{"PTR of a cluster IP, IPv6", reverse("fd00::10") + " PTR", records(ok, "PTR reviews.prod.svc.cluster.local.")},
		{"PTR of an endpoint", "1.0.0.10.in-addr.arpa. PTR", records(ok, "PTR db-0.db.prod.svc.cluster.local.")},
		{"PTR of an endpoint without hostname", "2.0.0.10.in-addr.arpa. PTR", records(ok, "PTR 10-0-0-2.db.prod.svc.cluster.local.")},
		{"PTR of an endpoint, spelling", strings.ToUpper(reverse("fd01::1")) + " PTR", records(ok, "PTR db-0.db.prod.svc.cluster.local.")},
		{"PTR of an endpoint not ready", "3.0.0.10.in-addr.arpa. PTR", passedOn},
		{"PTR of a virtual IP", "1.0.240.240.in-addr.arpa. PTR", records(ok, "PTR api.example.com.")},
		{"PTR of a wildcard's virtual IP", "3.0.240.240.in-addr.arpa. PTR", passedOn},
		{"PTR of another address", "8.8.8.8.in-addr.arpa. PTR", passedOn},
		{"PTR of no address", "x.in-addr.arpa. PTR", passedOn},
		{"other type of a reverse name", "10.0.96.10.in-addr.arpa. A", passedOn},

		{"SOA", "cluster.local. SOA", answer{records: []string{"SOA"}}},
		{"NS", "cluster.local. NS", records(ok, "NS ns.dns.cluster.local.").with("ns.dns.cluster.local. A 127.0.0.1")},
		{"name of the name server", "ns.dns.cluster.local. A", records(ok, "A 127.0.0.1")},
		{"name of the name server, other family", "ns.dns.cluster.local. AAAA", noDataOf(zone)},
		{"version", "dns-version.cluster.local. TXT", records(ok, `TXT "1.1.0"`)},
		{"version, other type", "dns-version.cluster.local. A", noDataOf(zone)},

		{"ExternalName, CNAME", "ext.prod.svc.cluster.local. CNAME", records(ok, "CNAME target.example.net.")},
		{"ExternalName, target nowhere to be resolved", "ext.prod.svc.cluster.local. A", records(ok, "CNAME target.example.net.")},
		{"ExternalName, chain", "first.prod.svc.cluster.local. A", records(ok,
			"CNAME second.prod.svc.cluster.local.", "CNAME reviews.prod.svc.cluster.local.", "A 10.96.0.10")},
		{"ExternalName, chain, spelling", "First.prod.svc.cluster.local. AAAA", records(ok,
			"CNAME second.prod.svc.cluster.local.", "CNAME reviews.prod.svc.cluster.local.", "AAAA fd00::10")},
		{"ExternalName, chain, CNAME", "first.prod.svc.cluster.local. CNAME", records(ok, "CNAME second.prod.svc.cluster.local.")},
		{"ExternalName, chain, SRV", "second.prod.svc.cluster.local. SRV", records(ok, "CNAME reviews.prod.svc.cluster.local.",
			"SRV 0 16 80 reviews.prod.svc.cluster.local.", "SRV 0 16 9090 reviews.prod.svc.cluster.local.", "SRV 0 16 53 reviews.prod.svc.cluster.local.").
			with("reviews.prod.svc.cluster.local. A 10.96.0.10", "reviews.prod.svc.cluster.local. AAAA fd00::10")},
		{"ExternalName, type that the target lacks", "second.prod.svc.cluster.local. TXT", answer{records: []string{"CNAME reviews.prod.svc.cluster.local."}, authority: zone}},
		{"ExternalName, target unknown", "lost.prod.svc.cluster.local. A", answer{
			rcode: dns.RcodeNameError, records: []string{"CNAME nope.prod.svc.cluster.local."}, authority: zone}},
		{"ExternalName, circle", "circle.prod.svc.cluster.local. A", answer{rcode: dns.RcodeServerFailure}},
		{"ExternalName, circle, CNAME", "circle.prod.svc.cluster.local. CNAME", records(ok, "CNAME round.prod.svc.cluster.local.")},
		{"below an ExternalName", "x.ext.prod.svc.cluster.local. A", nameErrorOf(zone)},
		{"ports of an ExternalName", "_http._tcp.ext.prod.svc.cluster.local. SRV", nameErrorOf(zone)},
	}
	m := serving(t, defaultConfig(), mesh())
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			name, qtype, _ := strings.Cut(tc.query, " ")
			reply := ask(t, m, name, dns.StringToType[qtype], false)
			if qtype == "SOA" {
				checkSOA(t, reply)
				return
			}
			check(t, reply, tc.want)
		})
	}
}

func reverse(address string) string {
	name, err := dns.ReverseAddr(address)
	if err != nil {
		panic(err)
	}
	return name
}

func checkSOA(t *testing.T, reply *dns.Msg) {
	t.Helper()
	if len(reply.Answer) != 1 {
		t.Fatalf("Answer: got %v, want one SOA", reply.Answer)
	}
	soa := reply.Answer[0].(*dns.SOA)
	got := fmt.Sprint(soa.Hdr.Name, " ", soa.Ns, " ", soa.Mbox)
	if want := "cluster.local. ns.dns.cluster.local. hostmaster.cluster.local."; got != want {
		t.Errorf("SOA: got %q, want %q", got, want)
	}
}

func TestTTL(t *testing.T) {
	config := defaultConfig()
	config.TTL, config.EndpointTTL = 120, 7
	tests := map[string]struct {
		config *Config
		query  string
		want   uint32
	}{
		"SRV of a cluster IP":               {defaultConfig(), "_http._tcp.reviews.prod.svc.cluster.local. SRV", 30},
		"SRV of endpoints":                  {defaultConfig(), "_sql._tcp.db.prod.svc.cluster.local. SRV", 5},
		"SRV, other than prepared":          {config, "_sql._tcp.db.prod.svc.cluster.local. SRV", 7},
		"PTR of a cluster IP":               {defaultConfig(), "10.0.96.10.in-addr.arpa. PTR", 30},
		"PTR of an endpoint":                {defaultConfig(), "1.0.0.10.in-addr.arpa. PTR", 5},
		"cluster IP":                        {defaultConfig(), "reviews.prod.svc.cluster.local.", 30},
		"endpoints":                         {defaultConfig(), "db.prod.svc.cluster.local.", 5},
		"endpoint":                          {defaultConfig(), "db-0.db.prod.svc.cluster.local.", 5},
		"virtual IP":                        {defaultConfig(), "api.example.com.", 30},
		"wildcard":                          {defaultConfig(), "a.wild.example.com.", 30},
		"cluster IP, other than prepared":   {config, "reviews.prod.svc.cluster.local.", 120},
		"endpoints, other than prepared":    {config, "db.prod.svc.cluster.local.", 7},
		"wildcard, other than was prepared": {config, "a.wild.example.com.", 120},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			query, qtype, found := strings.Cut(tc.query, " ")
			if !found {
				qtype = "A"
			}
			reply := ask(t, serving(t, tc.config, mesh()), query, dns.StringToType[qtype], false)
			if len(reply.Answer) == 0 {
				t.Fatal("Got no answer")
			}
			for _, rr := range slices.Concat(reply.Answer, reply.Extra) {
				if got := rr.Header().Ttl; got != tc.want {
					t.Errorf("TTL of %v: got %d, want %d", rr, got, tc.want)
				}
			}
		})
	}
}

func TestNothingLoaded(t *testing.T) {
	tests := map[string]answer{
		"reviews.prod.svc.cluster.local. A":   {rcode: dns.RcodeServerFailure},
		"cluster.local. SOA":                  {rcode: dns.RcodeServerFailure},
		"reviews.prod.svc.cluster.local. MX":  {rcode: dns.RcodeServerFailure},
		"example.com. A":                      passedOn,
		"10.0.96.10.in-addr.arpa. PTR":        passedOn,
		"reviews.prod.svc.cluster.local. PTR": {rcode: dns.RcodeServerFailure},
	}
	for query, want := range tests {
		t.Run(query, func(t *testing.T) {
			name, qtype, _ := strings.Cut(query, " ")
			m := serving(t, defaultConfig(), nil)
			check(t, ask(t, m, name, dns.StringToType[qtype], false), want)
			if reply := ask(t, m, name, dns.StringToType[qtype], true); !want.passed && !hasError(reply, dns.ExtendedErrorCodeNotReady) {
				t.Errorf("Extended error: want Not Ready in\n%v", reply)
			}
		})
	}
}

func hasError(reply *dns.Msg, code uint16) bool {
	opt := reply.IsEdns0()
	return opt != nil && slices.ContainsFunc(opt.Option, func(option dns.EDNS0) bool {
		extended, ok := option.(*dns.EDNS0_EDE)
		return ok && extended.InfoCode == code
	})
}

func TestStale(t *testing.T) {
	serve, fail := defaultConfig(), defaultConfig()
	fail.StaleAction = StaleFail
	failed := answer{rcode: dns.RcodeServerFailure}
	tests := map[string]struct {
		config *Config
		age    time.Duration
		query  string
		want   answer
		error  bool
	}{
		"fresh":                 {serve, 59 * time.Minute, "v4only.prod.svc.cluster.local.", records(0, "A 10.96.0.11"), false},
		"serve, service":        {serve, 2 * time.Hour, "v4only.prod.svc.cluster.local.", records(0, "A 10.96.0.11"), true},
		"serve, negative":       {serve, 2 * time.Hour, "nope.prod.svc.cluster.local.", nameErrorOf(DefaultZone), true},
		"serve, overlaid":       {serve, 2 * time.Hour, "api.example.com.", records(0, "A 240.240.0.1"), true},
		"serve, outside":        {serve, 2 * time.Hour, "example.com.", passedOn, false},
		"fail while fresh":      {fail, 59 * time.Minute, "v4only.prod.svc.cluster.local.", records(0, "A 10.96.0.11"), false},
		"fail, service":         {fail, 2 * time.Hour, "v4only.prod.svc.cluster.local.", failed, true},
		"fail, negative":        {fail, 2 * time.Hour, "nope.prod.svc.cluster.local.", failed, true},
		"fail, overlaid":        {fail, 2 * time.Hour, "api.example.com.", failed, true},
		"fail, outside":         {fail, 2 * time.Hour, "example.com.", passedOn, false},
		"fail, host not served": {fail, 2 * time.Hour, "bare.example.com.", passedOn, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m := serving(t, tc.config, mesh())
			m.follower.age.Store(int64(tc.age))
			check(t, ask(t, m, tc.query, dns.TypeA, false), tc.want)
			plain := ask(t, m, tc.query, dns.TypeA, false)
			if plain.IsEdns0() != nil {
				t.Errorf("OPT record for a client without EDNS:\n%v", plain)
			}
			reply := ask(t, m, tc.query, dns.TypeA, true)
			if got := hasError(reply, dns.ExtendedErrorCodeStaleAnswer); got != tc.error {
				t.Errorf("Stale Answer: got %t, want %t in\n%v", got, tc.error, reply)
			}
		})
	}
}

func TestShortNames(t *testing.T) {
	on := defaultConfig()
	on.ShortNames = true
	searching := defaultConfig()
	searching.ShortNames, searching.Search = true, []string{"prod.", "svc.cluster.local."}
	tests := map[string]struct {
		config *Config
		query  string
		want   answer
	}{
		"below a foreign search domain":  {searching, "reviews.prod.", passedOn},
		"below the mesh's search domain": {searching, "short.", records(0, "A 10.96.0.12")},
		"off":                            {defaultConfig(), "short.", passedOn},
		"NAME":                           {on, "short.", records(0, "A 10.96.0.12")},
		"NAME, spelling":                 {on, "SHORT.", records(0, "A 10.96.0.12")},
		"NAME of another namespace":      {on, "reviews.", passedOn},
		"NAME.NS":                        {on, "reviews.prod.", records(0, "A 10.96.0.10")},
		"NAME.NS.svc":                    {on, "reviews.prod.svc.", records(0, "A 10.96.0.10")},
		"NAME.NS of a ServiceEntry":      {on, "legacy.prod.", passedOn},
		"NAME.NS.com":                    {on, "reviews.prod.com.", passedOn},
		"below a search domain":          {on, "short.corp.example.com.", passedOn},
		"a host of its own comes first":  {on, "vault.", records(0, "A 240.240.0.6")},
		"unknown":                        {on, "nope.prod.", passedOn},
		"endpoint under a short service": {on, "db-0.db.prod.svc.", passedOn},
		"root":                           {on, ".", passedOn},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			check(t, ask(t, serving(t, tc.config, mesh()), tc.query, dns.TypeA, false), tc.want)
		})
	}
}

func TestZones(t *testing.T) {
	config := defaultConfig()
	config.Zones = []string{"mesh.example.org.", DefaultZone, "96.10.in-addr.arpa.", "d.f.ip6.arpa.", "sub.mesh.example.org."}
	around, part := defaultConfig(), defaultConfig()
	around.Zones = []string{DefaultZone, "example.com."}
	part.Zones = []string{"prod.svc.cluster.local."}
	above := defaultConfig()
	above.Zones = []string{"local."}
	foreign := defaultConfig()
	foreign.Zones = []string{"mesh.example.org."}
	tests := map[string]struct {
		config *Config
		query  string
		want   answer
	}{
		"the cluster's own domain":        {config, "v4only.prod.svc.cluster.local. A", records(0, "A 10.96.0.11")},
		"another zone":                    {config, "v4only.prod.svc.mesh.example.org. A", records(0, "A 10.96.0.11")},
		"another zone, negative":          {config, "nope.svc.mesh.example.org. A", nameErrorOf("mesh.example.org.")},
		"another zone, non-terminal":      {config, "svc.mesh.example.org. A", noDataOf("mesh.example.org.")},
		"hosts in a zone of their own":    {around, "api.example.com. A", records(0, "A 240.240.0.1")},
		"above a wildcard in such a zone": {around, "wild.example.com. A", noDataOf("example.com.")},
		"another zone, SRV": {config, "_http._tcp.reviews.prod.svc.mesh.example.org. SRV", records(0, "SRV 0 50 80 reviews.prod.svc.mesh.example.org.").
			with("reviews.prod.svc.mesh.example.org. A 10.96.0.10", "reviews.prod.svc.mesh.example.org. AAAA fd00::10")},
		"another zone, SRV of endpoints": {config, "10-0-0-2.db.prod.svc.mesh.example.org. SRV", records(0,
			"SRV 0 50 3306 10-0-0-2.db.prod.svc.mesh.example.org.", "SRV 0 50 9104 10-0-0-2.db.prod.svc.mesh.example.org.").
			with("10-0-0-2.db.prod.svc.mesh.example.org. A 10.0.0.2")},
		"wildcards in such a zone":        {around, "a.wild.example.com. A", records(0, "A 240.240.0.3")},
		"negatives in such a zone":        {around, "other.example.com. A", nameErrorOf("example.com.")},
		"no address in such a zone":       {around, "bare.example.com. A", noDataOf("example.com.")},
		"part of the cluster's domain":    {part, "v4only.prod.svc.cluster.local. A", records(0, "A 10.96.0.11")},
		"part of it, negative":            {part, "nope.prod.svc.cluster.local. A", nameErrorOf("prod.svc.cluster.local.")},
		"part of it, not doubled":         {part, "v4only.prod.svc.prod.svc.cluster.local. A", nameErrorOf("prod.svc.cluster.local.")},
		"part of it, PTR inside":          {part, "11.0.96.10.in-addr.arpa. PTR", records(0, "PTR v4only.prod.svc.cluster.local.")},
		"part of it, PTR outside":         {part, "12.0.96.10.in-addr.arpa. PTR", records(0, "PTR short.vm.svc.cluster.local.")},
		"around the cluster's domain":     {above, "v4only.prod.svc.cluster.local. A", records(0, "A 10.96.0.11")},
		"around it, the domain itself":    {above, "cluster.local. A", noDataOf("local.")},
		"around it, beside":               {above, "v4only.prod.svc.local. A", nameErrorOf("local.")},
		"the rest of it":                  {part, "short.vm.svc.cluster.local. A", passedOn},
		"the longest zone":                {config, "nope.sub.mesh.example.org. A", nameErrorOf("sub.mesh.example.org.")},
		"own reverse zone, known":         {config, "11.0.96.10.in-addr.arpa. PTR", records(0, "PTR v4only.prod.svc.mesh.example.org.")},
		"own reverse zone, other type":    {config, "11.0.96.10.in-addr.arpa. A", noDataOf("96.10.in-addr.arpa.")},
		"own reverse zone, network":       {config, "0.96.10.in-addr.arpa. NS", noDataOf("96.10.in-addr.arpa.")},
		"own reverse zone, IPv6 network":  {config, "0.0.0.d.f.ip6.arpa. PTR", noDataOf("d.f.ip6.arpa.")},
		"own reverse zone, no address":    {config, "x.0.96.10.in-addr.arpa. PTR", nameErrorOf("96.10.in-addr.arpa.")},
		"own reverse zone, below one":     {config, "1.11.0.96.10.in-addr.arpa. PTR", nameErrorOf("96.10.in-addr.arpa.")},
		"own reverse zone, name server":   {config, "ns.dns.96.10.in-addr.arpa. A", records(0, "A 127.0.0.1")},
		"own reverse zone, above that":    {config, "dns.96.10.in-addr.arpa. A", noDataOf("96.10.in-addr.arpa.")},
		"own reverse zone, no version":    {config, "dns-version.96.10.in-addr.arpa. TXT", nameErrorOf("96.10.in-addr.arpa.")},
		"own reverse zone, apex":          {config, "96.10.in-addr.arpa. PTR", noDataOf("96.10.in-addr.arpa.")},
		"own reverse zone, unknown":       {config, "99.0.96.10.in-addr.arpa. PTR", nameErrorOf("96.10.in-addr.arpa.")},
		"foreign reverse zone, unknown":   {config, "99.0.97.10.in-addr.arpa. PTR", passedOn},
		"cluster's domain not among them": {foreign, "v4only.prod.svc.cluster.local. A", passedOn},
		"PTR moves into the zone":         {foreign, "11.0.96.10.in-addr.arpa. PTR", records(0, "PTR v4only.prod.svc.mesh.example.org.")},
		"SRV of a host in the cluster's own domain stays": {foreign, "legacy.prod.svc.cluster.local. SRV", records(0, "SRV 0 100 8080 legacy.prod.svc.cluster.local.").
			with("legacy.prod.svc.cluster.local. A 240.240.0.5")},
		"PTR of a host elsewhere stays": {foreign, "1.0.240.240.in-addr.arpa. PTR", records(0, "PTR api.example.com.")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			query, qtype, _ := strings.Cut(tc.query, " ")
			check(t, ask(t, serving(t, tc.config, mesh()), query, dns.StringToType[qtype], false), tc.want)
		})
	}
}

func TestFallthrough(t *testing.T) {
	all, some := defaultConfig(), defaultConfig()
	all.Fall.SetZonesFromArgs(nil)
	some.Fall.SetZonesFromArgs([]string{"prod.svc.cluster.local"})
	tests := map[string]struct {
		config *Config
		query  string
		want   answer
	}{
		"unknown name":                {all, "nope.prod.svc.cluster.local.", passedOn},
		"known name stays":            {all, "v4only.prod.svc.cluster.local.", records(0, "A 10.96.0.11")},
		"non-terminal stays":          {all, "prod.svc.cluster.local.", noDataOf(DefaultZone)},
		"host without addresses":      {all, "pending.prod.svc.cluster.local.", passedOn},
		"unknown name, its zone":      {some, "nope.prod.svc.cluster.local.", passedOn},
		"unknown name, another's":     {some, "nope.vm.svc.cluster.local.", nameErrorOf(DefaultZone)},
		"headless without endpoints":  {some, "idle.prod.svc.cluster.local.", passedOn},
		"service without addresses":   {some, "none.prod.svc.cluster.local.", noDataOf(DefaultZone)},
		"unknown name outside it all": {some, "example.com.", passedOn},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			check(t, ask(t, serving(t, tc.config, mesh()), tc.query, dns.TypeA, false), tc.want)
		})
	}
}

// TestPreparedRecordsAreNotModified asks in every way that makes copies and looks whether the prepared
// records are as they were.
func TestPreparedRecordsAreNotModified(t *testing.T) {
	m := serving(t, defaultConfig(), mesh())
	before := ask(t, m, "db.prod.svc.cluster.local.", dns.TypeA, false).Copy()
	ask(t, m, "DB.prod.svc.cluster.local.", dns.TypeA, true)
	m.config.EndpointTTL = 99
	ask(t, m, "db.prod.svc.cluster.local.", dns.TypeA, true)
	m.config.EndpointTTL = DefaultEndpointTTL
	after := ask(t, m, "db.prod.svc.cluster.local.", dns.TypeA, false)
	for i := range before.Answer {
		if got, want := after.Answer[i].String(), before.Answer[i].String(); got != want {
			t.Errorf("Record %d: got %s, want %s", i, got, want)
		}
	}
	appended := append(after.Answer, &dns.A{})
	if &appended[0] == &after.Answer[0] {
		t.Error("Appending to an answer writes into the prepared set")
	}
}

func TestPods(t *testing.T) {
	insecure := defaultConfig()
	insecure.Pods = PodsInsecure
	insecure.Zones = append(insecure.Zones, "mesh.example.org.")
	tests := map[string]struct {
		query string // NAME TYPE
		want  answer
	}{
		"pods":                        {"pod.cluster.local. A", noDataOf(DefaultZone)},
		"pods of a namespace":         {"prod.pod.cluster.local. A", noDataOf(DefaultZone)},
		"pods of an empty namespace":  {"empty.pod.cluster.local. TXT", noDataOf(DefaultZone)},
		"pods of an unknown one":      {"nope.pod.cluster.local. A", nameErrorOf(DefaultZone)},
		"IPv4":                        {"10-0-0-9.prod.pod.cluster.local. A", records(0, "A 10.0.0.9")},
		"IPv4, another zone":          {"10-0-0-9.prod.pod.mesh.example.org. A", records(0, "A 10.0.0.9")},
		"IPv4, spelling":              {"10-0-0-9.Prod.POD.cluster.local. A", records(0, "A 10.0.0.9")},
		"IPv4, other family":          {"10-0-0-9.prod.pod.cluster.local. AAAA", noDataOf(DefaultZone)},
		"IPv4, other type":            {"10-0-0-9.prod.pod.cluster.local. SRV", noDataOf(DefaultZone)},
		"IPv4, unknown namespace":     {"10-0-0-9.nope.pod.cluster.local. A", nameErrorOf(DefaultZone)},
		"IPv4, no octet":              {"10-0-0-256.prod.pod.cluster.local. A", nameErrorOf(DefaultZone)},
		"IPv4, leading zero":          {"10-0-0-09.prod.pod.cluster.local. A", nameErrorOf(DefaultZone)},
		"IPv4, too short":             {"10-0-0.prod.pod.cluster.local. A", nameErrorOf(DefaultZone)},
		"IPv6":                        {"fd00--9.prod.pod.cluster.local. AAAA", records(0, "AAAA fd00::9")},
		"IPv6, in full":               {"fd00-0-0-0-0-0-0-9.prod.pod.cluster.local. AAAA", records(0, "AAAA fd00::9")},
		"IPv6, other family":          {"fd00--9.prod.pod.cluster.local. A", noDataOf(DefaultZone)},
		"IPv6 that is IPv4":           {"--ffff-a00-9.prod.pod.cluster.local. A", records(0, "A 10.0.0.9")},
		"IPv6 with a zone":            {"fe80--9%1.prod.pod.cluster.local. AAAA", nameErrorOf(DefaultZone)},
		"no address":                  {"web.prod.pod.cluster.local. A", nameErrorOf(DefaultZone)},
		"below a pod":                 {"x.10-0-0-9.prod.pod.cluster.local. A", nameErrorOf(DefaultZone)},
		"outside the plugin's zones":  {"10-0-0-9.prod.pod. A", passedOn},
		"a name that only ends in it": {"10-0-0-9.prod.xpod.cluster.local. A", nameErrorOf(DefaultZone)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			query, qtype, _ := strings.Cut(tc.query, " ")
			want := tc.want
			if strings.HasSuffix(query, "mesh.example.org.") && want.authority != "" {
				want.authority = "mesh.example.org."
			}
			check(t, ask(t, serving(t, insecure, mesh()), query, dns.StringToType[qtype], false), want)
		})
	}
}

// TestAliasChains follows as many aliases as CoreDNS's kubernetes plugin does, and not one more.
func TestAliasChains(t *testing.T) {
	resources := []*registryv1.Resource{service("end", "prod", "10.96.0.1")}
	for i := range maxAliases + 1 {
		target := "end"
		if i > 0 {
			target = fmt.Sprintf("alias-%d", i)
		}
		resources = append(resources, externalName(fmt.Sprintf("alias-%d", i+1), "prod", target+".prod.svc.cluster.local"))
	}
	m := serving(t, defaultConfig(), resources)
	longest := ask(t, m, fmt.Sprintf("alias-%d.prod.svc.cluster.local.", maxAliases), dns.TypeA, false)
	if got := len(longest.Answer); longest.Rcode != dns.RcodeSuccess || got != maxAliases+1 {
		t.Errorf("Chain of %d: got %s with %d records, want all aliases and an address", maxAliases, dns.RcodeToString[longest.Rcode], got)
	}
	longer := ask(t, m, fmt.Sprintf("alias-%d.prod.svc.cluster.local.", maxAliases+1), dns.TypeA, true)
	if longer.Rcode != dns.RcodeServerFailure || !hasError(longer, dns.ExtendedErrorCodeOther) {
		t.Errorf("Chain of %d: got\n%v\nwant SERVFAIL with the reason", maxAliases+1, longer)
	}
}
