package corefile

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/acl" // Registers the directive that the test sets up.
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/test/programs"
)

// TestAccess asks the acl of every sample from several addresses, as if there were no bind.
func TestAccess(t *testing.T) {
	sources := map[string]bool{
		"127.0.0.1": true, "127.8.9.1": true, "::1": true,
		"10.0.0.1": false, "192.168.1.1": false, "198.51.100.7": false, "128.0.0.1": false, "126.255.255.255": false,
		"::2": false, "fe80::1": false, "fd00::1": false, "2001:db8::1": false,
	}
	for _, name := range samples(t) {
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			blocks := regexp.MustCompile(`(?ms)^    acl \{.*?^    \}`).FindAllString(string(content), -1)
			if len(blocks) != 1 {
				t.Fatalf("Got %d acl blocks in %s, want 1", len(blocks), name)
			}
			setup, err := caddy.DirectiveAction("dns", "acl")
			if err != nil {
				t.Fatal(err)
			}
			controller := caddy.NewTestController("dns", blocks[0])
			dnsserver.GetConfig(controller).Zone = "."
			controller.ServerBlockKeys = []string{"."}
			if err := setup(controller); err != nil {
				t.Fatalf("Set up %s: %v", blocks[0], err)
			}
			chain := plugin.Handler(plugin.HandlerFunc(answerEmpty))
			for _, above := range dnsserver.GetConfig(controller).Plugin {
				chain = above(chain)
			}
			for source, allowed := range sources {
				for _, tcp := range []bool{false, true} {
					w := dnstest.NewRecorder(&test.ResponseWriter{RemoteIP: source, TCP: tcp})
					rcode, err := serve(t, chain, w)
					if err != nil {
						t.Fatalf("Serve %s: %v", source, err)
					}
					if w.Msg != nil {
						rcode = w.Msg.Rcode
					}
					want := dns.RcodeRefused
					if allowed {
						want = dns.RcodeSuccess
					}
					if rcode != want {
						t.Errorf("From %s, TCP %t: got %s, want %s", source, tcp, dns.RcodeToString[rcode], dns.RcodeToString[want])
					}
				}
			}
		})
	}
}

// TestAmplification asks every sample for much, over UDP with the largest of buffers.
func TestAmplification(t *testing.T) {
	const most = 1232
	endpoints := make([]*registryv1.Endpoint, 200)
	for i := range endpoints {
		endpoints[i] = &registryv1.Endpoint{Addresses: [][]byte{{10, 7, 0, byte(i)}}, Hostname: fmt.Sprintf("many-%d", i), Ready: true}
	}
	registry := []*registryv1.Resource{
		service(t, registryv1.ServiceKey("", "default", "many"), &registryv1.Service{
			Host: "many.default.svc.cluster.local", Namespace: "default", Name: "many",
			Origin: registryv1.Origin_ORIGIN_KUBERNETES, Headless: true,
		}),
		endpointSlice(t, registryv1.EndpointSliceKey("", "default", "many-1"), &registryv1.EndpointSlice{
			Namespace: "default", Name: "many-1", Service: "many", Endpoints: endpoints,
			Ports: []*registryv1.Port{{Name: "http", Number: 80, Protocol: registryv1.Protocol_PROTOCOL_TCP}},
		}),
	}
	for _, name := range samples(t) {
		t.Run(name, func(t *testing.T) {
			s := start(t, name, programs.Upstream(t), registry)
			for _, host := range []string{"many.default.svc.cluster.local.", "cluster.local.", "www.example.net.", "."} {
				reply, size := datagram(t, s.address, host, dns.TypeANY)
				if reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 1 || reply.Answer[0].Header().Rrtype != dns.TypeHINFO || size > 512 {
					t.Errorf("ANY of %s: got %d bytes,\n%v\nwant one small HINFO", host, size, reply)
				}
			}
			for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
				reply, size := datagram(t, s.address, "many.default.svc.cluster.local.", qtype)
				if size > most || !reply.Truncated {
					t.Errorf("%s over UDP: got %d bytes, truncated %t, want at most %d, truncated", dns.TypeToString[qtype], size, reply.Truncated, most)
				}
				full := programs.Query(t, "tcp", s.address, "many.default.svc.cluster.local", qtype)
				if full.Truncated || len(full.Answer) != len(endpoints) {
					t.Errorf("%s over TCP: got %d records, truncated %t, want %d", dns.TypeToString[qtype], len(full.Answer), full.Truncated, len(endpoints))
				}
			}
		})
	}
}

// datagram sends a query that allows for any answer, and returns the reply and its size.
func datagram(t *testing.T, address, name string, qtype uint16) (*dns.Msg, int) {
	t.Helper()
	connection, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	query := new(dns.Msg).SetQuestion(name, qtype)
	query.SetEdns0(dns.MaxMsgSize-1, true)
	packed, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Write(packed); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, dns.MaxMsgSize)
	size, err := connection.Read(buffer)
	if err != nil {
		t.Fatalf("Read the reply to %s %s: %v", name, dns.TypeToString[qtype], err)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(buffer[:size]); err != nil {
		t.Fatalf("Unpack the reply to %s %s: %v", name, dns.TypeToString[qtype], err)
	}
	return reply, size
}

// answerEmpty stands behind the acl.
func answerEmpty(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return dns.RcodeSuccess, w.WriteMsg(new(dns.Msg).SetReply(r))
}

func serve(t *testing.T, chain plugin.Handler, w dns.ResponseWriter) (int, error) {
	t.Helper()
	return chain.ServeDNS(t.Context(), w, new(dns.Msg).SetQuestion("reviews.default.svc.cluster.local.", dns.TypeA))
}

func endpointSlice(t *testing.T, key string, s *registryv1.EndpointSlice) *registryv1.Resource {
	t.Helper()
	body, err := proto.Marshal(&registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: s}})
	if err != nil {
		t.Fatal(err)
	}
	return &registryv1.Resource{Key: key, Body: body}
}
