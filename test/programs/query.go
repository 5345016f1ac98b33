package programs

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FreeAddress returns 127.0.0.1 with a port that nobody had a moment ago, neither
// for UDP nor for TCP, and that the kernel gives to nobody who asks for any.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	tcp, udp := listen(tb)
	if err := errors.Join(tcp.Close(), udp.Close()); err != nil {
		tb.Fatal(err)
	}
	return tcp.Addr().String()
}

// Ports that Linux does not use for outgoing connections and queries, of which tests
// make thousands. IANA's registered ones begin to be rare here.
const firstPort, lastPort = 10_000, 32_000

// listen takes a port of 127.0.0.1 for both.
func listen(tb testing.TB) (net.Listener, net.PacketConn) {
	tb.Helper()
	var config net.ListenConfig
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort)))
		tcp, err := config.Listen(tb.Context(), "tcp", address)
		if err != nil {
			continue
		}
		if udp, err := config.ListenPacket(tb.Context(), "udp", address); err == nil {
			return tcp, udp
		}
		tcp.Close()
	}
	tb.Fatal("no port of 127.0.0.1 is free for both UDP and TCP")
	return nil, nil
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
	tcp, udp := listen(tb)
	for _, server := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		started, ended := make(chan struct{}), make(chan error, 1)
		server.Handler, server.NotifyStartedFunc = handler, func() { close(started) }
		go func() { ended <- server.ActivateAndServe() }()
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
	return tcp.Addr().String()
}

// Said is what a reply says: nothing but its rcode, or the data of its records, sorted, joined by spaces. NODATA is empty.
func Said(reply *dns.Msg) string {
	if reply.Rcode != dns.RcodeSuccess {
		return dns.RcodeToString[reply.Rcode]
	}
	var data []string
	for _, record := range reply.Answer {
		data = append(data, strings.TrimPrefix(record.String(), record.Header().String()))
	}
	slices.Sort(data)
	return strings.Join(data, " ")
}
