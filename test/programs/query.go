package programs

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FreeAddress returns 127.0.0.1 with a port that nobody had a moment ago, neither
// for UDP nor for TCP.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	var config net.ListenConfig
	for range 100 {
		tcp, err := config.Listen(tb.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		address := tcp.Addr().String()
		udp, err := config.ListenPacket(tb.Context(), "udp", address)
		tcp.Close()
		if err != nil {
			continue // the port is free for TCP only
		}
		udp.Close()
		return address
	}
	tb.Fatal("no port of 127.0.0.1 is free for both UDP and TCP")
	return ""
}

// FreePort is the port of a FreeAddress.
func FreePort(tb testing.TB) string {
	tb.Helper()
	_, port, err := net.SplitHostPort(FreeAddress(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// Query asks the server at address over network (udp or tcp) and returns its
// answer.
func Query(tb testing.TB, network, address, name string, qtype uint16) *dns.Msg {
	tb.Helper()
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	question.SetEdns0(1232, false)
	client := &dns.Client{Net: network, Timeout: 10 * time.Second}
	answer, _, err := client.Exchange(question, address)
	if err != nil {
		tb.Fatalf("ask %s for %s %s: %v", address, name, dns.TypeToString[qtype], err)
	}
	return answer
}

// Outside is the address that Upstream gives to every name it knows.
const Outside = "192.0.2.53"

// Upstream answers every A query below example.com, example.net and example.org
// with Outside, and others with NXDOMAIN, until the test ends. It returns its
// address.
func Upstream(tb testing.TB) string {
	tb.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		answer := new(dns.Msg).SetReply(r)
		question := r.Question[0]
		switch {
		case !slices.ContainsFunc([]string{"example.com.", "example.net.", "example.org."}, func(zone string) bool {
			return dns.IsSubDomain(zone, dns.CanonicalName(question.Name))
		}):
			answer.Rcode = dns.RcodeNameError
		case question.Qtype == dns.TypeA:
			answer.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
				A:   net.ParseIP(Outside),
			}}
		}
		if err := w.WriteMsg(answer); err != nil {
			tb.Errorf("upstream: %v", err)
		}
	})
	address := FreeAddress(tb)
	for _, network := range []string{"udp", "tcp"} {
		started, ended := make(chan struct{}), make(chan error, 1)
		server := &dns.Server{Addr: address, Net: network, Handler: handler, NotifyStartedFunc: func() { close(started) }}
		go func() { ended <- server.ListenAndServe() }()
		select {
		case <-started:
		case err := <-ended:
			tb.Fatalf("upstream: %v", err)
		}
		tb.Cleanup(func() {
			if err := errors.Join(server.Shutdown(), <-ended); err != nil {
				tb.Errorf("upstream: %v", err)
			}
		})
	}
	return address
}
