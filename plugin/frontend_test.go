package meshvm

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// settings are the ways to set up the plugin that fuzz targets choose from.
var settings = []struct {
	name string
	set  func(*Config)
	// age is the registry's.
	age     time.Duration
	nothing bool
}{
	{name: "defaults", set: func(*Config) {}},
	{name: "short names and pods", set: func(c *Config) {
		c.ShortNames, c.Pods, c.Search = true, PodsInsecure, []string{"corp.example.com.", "prod."}
	}},
	{name: "several zones", set: func(c *Config) {
		c.Zones = []string{"mesh.example.org.", DefaultZone, "example.com.", "10.in-addr.arpa.", "d.f.ip6.arpa.", "sub.mesh.example.org."}
		c.TTL, c.EndpointTTL, c.Pods = 3600, 0, PodsInsecure
	}},
	{name: "another domain", set: func(c *Config) { c.Zones, c.ShortNames = []string{"mesh.example.org."}, true }},
	{name: "part of the domain", set: func(c *Config) { c.Zones = []string{"prod.svc.cluster.local."} }},
	{name: "fallthrough", set: func(c *Config) { c.Fall.SetZonesFromArgs(nil); c.Pods = PodsInsecure }},
	{name: "stale", set: func(*Config) {}, age: 2 * DefaultMaxStale},
	{name: "stale, fail", set: func(c *Config) { c.StaleAction = StaleFail }, age: 2 * DefaultMaxStale},
	{name: "nothing loaded", set: func(*Config) {}, nothing: true},
}

// frontend is a whole CoreDNS server with the plugin in it.
type frontend struct {
	*Meshvm
	server *dnsserver.Server
}

func startServers(tb testing.TB) []*frontend {
	tb.Helper()
	resources := largeMesh()
	servers := make([]*frontend, 0, len(settings))
	for _, setting := range settings {
		config := defaultConfig()
		setting.set(config)
		held := resources
		if setting.nothing {
			held = nil
		}
		m := serving(tb, config, held)
		m.Next = world
		m.follower.age.Store(int64(setting.age))
		server, err := dnsserver.NewServer("dns://127.0.0.1:53", []*dnsserver.Config{{
			Zone: ".",
			// Else the server would recover from a panic.
			Debug:  true,
			Plugin: []plugin.Plugin{func(plugin.Handler) plugin.Handler { return m }},
		}})
		if err != nil {
			tb.Fatal(err)
		}
		servers = append(servers, &frontend{m, server})
	}
	return servers
}

// largeMesh is mesh, a Service whose answers do not fit into a datagram, and aliases of many kinds.
func largeMesh() []*registryv1.Resource {
	endpoints := []*registryv1.Endpoint{
		{Addresses: addresses("10.7.1.1"), Hostname: "one", Ready: true}, {Addresses: addresses("10.7.1.1"), Hostname: "two", Ready: true},
	}
	for i := range 40 {
		endpoints = append(endpoints, &registryv1.Endpoint{
			Addresses: addresses(fmt.Sprintf("10.7.0.%d", i), fmt.Sprintf("fd07::%x", i)), Ready: true,
		})
	}
	resources := append(mesh(),
		headless("many", "prod"), withPorts(slice("many-1", "many", "prod", endpoints...), tcp("http", 80), udp("dns", 53)),
		withPorts(serviceEntry("inzone", "*.wild.svc.cluster.local", "240.240.0.9"), tcp("http", 80)))
	// In order: what a fuzz target found is told by places in lists.
	for _, target := range []string{
		"big.example.net", "gone.example.net", "broken.example.net", "www.example.net", "api.example.com", "any.wild.example.com", "short",
		"cluster.local", "10-0-0-1.prod.pod.cluster.local", "_http._tcp.reviews.prod.svc.cluster.local", "dns-version.cluster.local",
	} {
		first, _, _ := strings.Cut(strings.TrimPrefix(target, "_"), ".")
		resources = append(resources, externalName("to-"+first, "prod", target))
	}
	for i := range 10 {
		resources = append(resources, externalName(fmt.Sprintf("hop-%d", i), "prod", fmt.Sprintf("hop-%d.prod.svc.cluster.local", i+1)))
	}
	return append(resources, service("hop-10", "prod", "10.96.0.99"))
}

// probe follows one query of a client through the server.
type probe struct {
	query   *dns.Msg
	passed  bool
	lookups int
}

type probeKey struct{}

// world is what stands behind the plugin: upstream servers that know a few names, and answer NOTIMP for
// all others.
var world = plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	probe := ctx.Value(probeKey{}).(*probe)
	if r == probe.query {
		probe.passed = true
	} else {
		probe.lookups++
	}
	reply := new(dns.Msg).SetReply(r)
	if opt := r.IsEdns0(); opt != nil {
		reply.SetEdns0(4096, opt.Do())
	}
	header := dns.RR_Header{Name: r.Question[0].Name, Rrtype: r.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
	negative := []dns.RR{&dns.SOA{
		Hdr: dns.RR_Header{Name: "example.net.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
		Ns:  "ns.example.net.", Mbox: "hostmaster.example.net.", Minttl: 60,
	}}
	known := map[string]int{"target.example.net.": 1, "big.example.net.": 60}
	switch name := strings.ToLower(header.Name); {
	case known[name] > 0 && header.Rrtype == dns.TypeA:
		for i := range known[name] {
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: net.IPv4(192, 0, 2, byte(i))})
		}
	case known[name] > 0:
		reply.Ns = negative
	case name == "www.example.net.":
		header.Rrtype = dns.TypeCNAME
		reply.Answer = []dns.RR{&dns.CNAME{Hdr: header, Target: "reviews.prod.svc.cluster.local."}}
	case name == "gone.example.net.":
		reply.Rcode, reply.Ns = dns.RcodeNameError, negative
	case name == "broken.example.net.":
		reply.Rcode = dns.RcodeServerFailure
	default:
		reply.Rcode = dns.RcodeNotImplemented
	}
	return dns.RcodeSuccess, w.WriteMsg(reply)
})

// packedWriter is a client that keeps what it is sent.
type packedWriter struct {
	dns.ResponseWriter
	sent [][]byte
	// said is the code and the records that were packed last.
	said string
	err  error
}

// WriteMsg packs as a server's own writer does.
func (w *packedWriter) WriteMsg(reply *dns.Msg) error {
	data, err := reply.Pack()
	if err != nil {
		w.err = err
		return err
	}
	w.sent, w.said = append(w.sent, data), sections(reply)
	return nil
}

// Write keeps what was packed elsewhere.
func (w *packedWriter) Write(data []byte) (int, error) {
	w.sent = append(w.sent, data)
	return len(data), nil
}

// ask sends a message that can be unpacked, and checks the form of the reply.
func (s *frontend) ask(t *testing.T, message []byte, tcp bool) exchange {
	t.Helper()
	// The server writes into the query that it answers.
	r, query, reply := new(dns.Msg), new(dns.Msg), new(dns.Msg)
	for _, m := range []*dns.Msg{r, query} {
		if err := m.Unpack(message); err != nil {
			t.Fatalf("Unpack the query: %v", err)
		}
	}
	w := &packedWriter{ResponseWriter: &test.ResponseWriter{TCP: tcp}}
	p := &probe{query: r}
	ctx := context.WithValue(context.WithValue(t.Context(), dnsserver.Key{}, s.server), dnsserver.LoopKey{}, 0)
	s.server.ServeDNS(context.WithValue(ctx, probeKey{}, p), w, r)
	if w.err != nil || len(w.sent) != 1 {
		t.Fatalf("Got %d replies and error %v, want one reply to\n%v", len(w.sent), w.err, query)
	}
	if err := reply.Unpack(w.sent[0]); err != nil {
		t.Fatalf("Unpack the reply: %v, to\n%v", err, query)
	}
	if got := sections(reply); got != w.said {
		t.Errorf("Unpacked: got\n%s\nwant\n%s", got, w.said)
	}
	x := exchange{query: query, reply: reply, tcp: tcp, size: len(w.sent[0]), passed: p.passed, lookups: p.lookups}
	checkForm(t, x)
	if x.ours() {
		checkAnswer(t, x)
	}
	if x.lookups > maxAliases {
		t.Errorf("Lookups: got %d, want at most %d", x.lookups, maxAliases)
	}
	x.report(t)
	return x
}

// report ends the test when it has failed, with what was asked and answered.
func (x exchange) report(t *testing.T) {
	t.Helper()
	if t.Failed() {
		t.Fatalf("Query:\n%v\nReply, %d bytes, TCP %t, passed %t:\n%v", x.query, x.size, x.tcp, x.passed, x.reply)
	}
}
