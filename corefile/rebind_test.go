package corefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/test/programs"
)

// attacker is a name server on loopback that answers with the records it is told to, and counts queries.
type attacker struct {
	address string
	asked   atomic.Int64
	inside  atomic.Int64 // of names in cluster.local
}

// newAttacker starts a name server. Its names below evil.example say what they point to.
func newAttacker(t *testing.T) *attacker {
	t.Helper()
	a := &attacker{address: programs.FreeAddress(t)}
	for _, network := range []string{"udp", "tcp"} {
		started, ended := make(chan struct{}), make(chan error, 1)
		server := &dns.Server{Addr: a.address, Net: network, Handler: a, NotifyStartedFunc: func() { close(started) }}
		go func() { ended <- server.ListenAndServe() }()
		select {
		case <-started:
		case err := <-ended:
			t.Fatalf("Upstream over %s: %v", network, err)
		}
		t.Cleanup(func() {
			if err := errors.Join(server.Shutdown(), <-ended); err != nil {
				t.Errorf("Upstream over %s: %v", network, err)
			}
		})
	}
	return a
}

// ServeDNS implements dns.Handler.
func (a *attacker) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	a.asked.Add(1)
	question := r.Question[0]
	if dns.IsSubDomain("cluster.local.", strings.ToLower(question.Name)) {
		a.inside.Add(1)
	}
	reply := new(dns.Msg).SetReply(r)
	first, _, _ := strings.Cut(question.Name, ".")
	lines := map[string][]string{
		"harmless": {"A 192.0.2.53"},
		"virtual":  {"A 192.0.2.53", "A 240.240.0.1"},
		"cluster":  {"A 10.96.0.1"},
		"mapped":   {"AAAA ::ffff:10.96.0.1"},
		"hints":    {"HTTPS 1 . alpn=h2 ipv4hint=10.96.0.1"},
		"long":     {"A 10.96.0.1"},
	}[first]
	if first == "long" {
		for i := range 100 {
			lines = append(lines, fmt.Sprintf("A 192.0.2.%d", i))
		}
	}
	for _, line := range lines {
		rr, err := dns.NewRR(question.Name + " 60 IN " + line)
		if err != nil {
			panic(err) // The lines stand above.
		}
		reply.Answer = append(reply.Answer, rr)
	}
	if opt := r.IsEdns0(); opt != nil {
		reply.SetEdns0(1232, opt.Do())
	}
	if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp {
		reply.Truncate(dns.MinMsgSize)
	}
	// A client that has gone away is no fault of the test.
	_ = w.WriteMsg(reply)
}

// TestRebindProtection lets a name server point its names into the mesh, and asks the whole resolver of a VM, with
// its cache and its forwarding.
func TestRebindProtection(t *testing.T) {
	registry := []*registryv1.Resource{
		service(t, registryv1.ServiceKey("", "default", "reviews"), &registryv1.Service{
			Host: "reviews.default.svc.cluster.local", Namespace: "default", Name: "reviews",
			Origin: registryv1.Origin_ORIGIN_KUBERNETES, AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP,
			Addresses: [][]byte{{10, 96, 0, 1}},
		}),
		service(t, registryv1.ServiceKey("", "default", "outside"), &registryv1.Service{
			Host: "outside.default.svc.cluster.local", Namespace: "default", Name: "outside",
			Origin: registryv1.Origin_ORIGIN_KUBERNETES, ExternalName: "cluster.partner.example",
		}),
	}
	upstream := newAttacker(t)
	s := startWith(t, "vm", upstream.address, registry, "rebind_protection except corp.example")
	tests := []struct {
		name    string
		qtype   uint16
		records int // 0: withheld
	}{
		{"harmless.evil.example", dns.TypeA, 1},
		{"virtual.evil.example", dns.TypeA, 0},
		{"cluster.evil.example", dns.TypeA, 0},
		{"mapped.evil.example", dns.TypeAAAA, 0},
		{"hints.evil.example", dns.TypeHTTPS, 0},
		{"long.evil.example", dns.TypeA, 0},
		{"cluster.corp.example", dns.TypeA, 1},
		{"reviews.default.svc.cluster.local", dns.TypeA, 1},
		{"outside.default.svc.cluster.local", dns.TypeA, 2},
	}
	for _, test := range tests {
		for _, network := range []string{"udp", "tcp"} {
			// Again, so that the cache answers too; and with and without the wish for signatures.
			for _, signed := range []bool{false, true, false, true} {
				t.Run(fmt.Sprintf("%s over %s, DO %t", test.name, network, signed), func(t *testing.T) {
					query := new(dns.Msg).SetQuestion(test.name+".", test.qtype)
					query.SetEdns0(1232, signed)
					client := &dns.Client{Net: network, Timeout: 10 * time.Second}
					reply, _, err := client.Exchange(query, s.address)
					if err != nil {
						t.Fatal(err)
					}
					if reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != test.records || reply.Truncated {
						t.Errorf("Reply: got\n%v\nwant NOERROR with %d records", reply, test.records)
					}
					if blocked := strings.Contains(reply.String(), "EDE: 15 (Blocked)"); blocked != (test.records == 0) {
						t.Errorf("Extended error: got 15 %t, want %t, in\n%v", blocked, test.records == 0, reply)
					}
				})
			}
		}
	}
	if text := metrics(t, s.metric); !strings.Contains(text, `coredns_meshvm_rebind_refused_total{reason="cluster_ip"}`) {
		t.Errorf("Metrics: got none of what was withheld")
	}
	if got := strings.Count(s.process.Output(), "withhold an answer"); got < 1 || got > 3 {
		t.Errorf("Log: got %d lines of what was withheld, want one in ten seconds:\n%s", got, s.process.Output())
	}
}

// TestNothingOfTheMeshGoesUpstream asks a whole resolver for names of the mesh in odd ways, before it has a
// registry and with one.
func TestNothingOfTheMeshGoesUpstream(t *testing.T) {
	for _, loaded := range []bool{false, true} {
		t.Run(fmt.Sprintf("loaded %t", loaded), func(t *testing.T) {
			var registry []*registryv1.Resource
			if loaded {
				registry = []*registryv1.Resource{service(t, registryv1.ServiceKey("", "default", "reviews"), &registryv1.Service{
					Host: "reviews.default.svc.cluster.local", Namespace: "default", Name: "reviews",
					Origin: registryv1.Origin_ORIGIN_KUBERNETES, AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP,
					Addresses: [][]byte{{10, 96, 0, 1}},
				})}
			}
			upstream := newAttacker(t)
			s := start(t, "vm", upstream.address, registry)
			client := &dns.Client{Net: "tcp", Timeout: 10 * time.Second}
			for _, name := range []string{"cluster.local.", "CLUSTER.Local.", "absent.default.svc.cluster.local.", `\000.cluster.local.`, "www.example.net.svc.cluster.local."} {
				for _, qtype := range []uint16{dns.TypeA, dns.TypeANY, dns.TypeDS, dns.TypeAXFR, dns.TypeSOA, dns.TypeHTTPS, 65280} {
					for _, class := range []uint16{dns.ClassINET, dns.ClassCHAOS, dns.ClassANY} {
						for _, opcode := range []int{dns.OpcodeQuery, dns.OpcodeNotify, dns.OpcodeUpdate} {
							query := new(dns.Msg).SetQuestion(name, qtype)
							query.Question[0].Qclass, query.Opcode = class, opcode
							if _, _, err := client.Exchange(query, s.address); err != nil {
								t.Errorf("Ask for %s %s, class %d, opcode %d: %v", name, dns.Type(qtype), class, opcode, err)
							}
						}
					}
				}
			}
			programs.Query(t, "udp", s.address, "harmless.example.net", dns.TypeA)
			if asked, inside := upstream.asked.Load(), upstream.inside.Load(); asked == 0 || inside != 0 {
				t.Errorf("Upstream: got %d queries, %d of names of the mesh, want some and none", asked, inside)
			}
		})
	}
}

func metrics(t *testing.T, address string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
