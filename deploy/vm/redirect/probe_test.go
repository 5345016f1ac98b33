package redirect

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serveOne answers at a loopback address, until the test ends.
func serveOne(tb testing.TB, answer dns.HandlerFunc) netip.AddrPort {
	tb.Helper()
	for range 20 {
		packets := listenPacket(tb)
		at := netip.MustParseAddrPort(packets.LocalAddr().String())
		if tryServe(tb, packets, at, answer) == nil {
			return at
		}
	}
	tb.Fatal("No port is free for both UDP and TCP")
	return netip.AddrPort{}
}

func rcode(code int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, question *dns.Msg) { reply(w, question, code, "") }
}

// outsideIs is a CoreDNS that knows the mesh, and answers so for all else.
func outsideIs(code int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, question *dns.Msg) {
		if strings.HasSuffix(question.Question[0].Name, "cluster.local.") {
			answerMesh(w, question)
			return
		}
		reply(w, question, code, "")
	}
}

func TestProbe(t *testing.T) {
	zones := []string{"cluster.local"}
	cases := map[string]struct {
		coreDNS   dns.HandlerFunc
		zones     []string
		allNames  bool
		upstreams []dns.HandlerFunc
		want      string // "" is that it answers.
	}{
		"knows the version of the mesh": {coreDNS: answerMesh, zones: zones},
		"has only the zone's SOA": {coreDNS: func(w dns.ResponseWriter, question *dns.Msg) {
			if question.Question[0].Qtype == dns.TypeSOA {
				reply(w, question, dns.RcodeSuccess, question.Question[0].Name+" 5 SOA ns.dns.cluster.local. root.cluster.local. 1 7200 1800 86400 5")
				return
			}
			reply(w, question, dns.RcodeNameError, "")
		}, zones: zones},
		"has no registry yet":                   {coreDNS: rcode(dns.RcodeServerFailure), zones: zones, want: "does not answer: cluster.local. SOA over udp: SERVFAIL"},
		"is somebody else":                      {coreDNS: rcode(dns.RcodeNameError), zones: zones, want: "cluster.local. SOA over udp: NXDOMAIN"},
		"has an empty answer":                   {coreDNS: rcode(dns.RcodeSuccess), zones: zones, want: "cluster.local. SOA: no such record"},
		"all names":                             {coreDNS: outsideIs(dns.RcodeSuccess), zones: zones, allNames: true},
		"all names, no zone":                    {coreDNS: outsideIs(dns.RcodeSuccess), allNames: true},
		"all names, no such name":               {coreDNS: outsideIs(dns.RcodeNameError), zones: zones, allNames: true},
		"all names, fails, upstreams unknown":   {coreDNS: outsideIs(dns.RcodeServerFailure), zones: zones, allNames: true},
		"all names, refuses, upstreams unknown": {coreDNS: outsideIs(dns.RcodeRefused), zones: zones, allNames: true, want: "has to forward them first"},
		"all names, fails, upstream answers":    {coreDNS: outsideIs(dns.RcodeServerFailure), zones: zones, allNames: true, upstreams: []dns.HandlerFunc{rcode(dns.RcodeRefused), answerOutside}, want: "for names outside the mesh, while 127.0.0.1:"},
		"all names, fails, as upstreams do":     {coreDNS: outsideIs(dns.RcodeServerFailure), zones: zones, allNames: true, upstreams: []dns.HandlerFunc{rcode(dns.RcodeServerFailure)}},
		"all names, refuses, as upstreams do":   {coreDNS: outsideIs(dns.RcodeRefused), zones: zones, allNames: true, upstreams: []dns.HandlerFunc{rcode(dns.RcodeRefused)}, want: "has to forward them first"},
		"not all names, refuses those":          {coreDNS: outsideIs(dns.RcodeRefused), zones: zones},
		"no zone, and not all names":            {coreDNS: answerMesh, want: "serves no zone of the mesh"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var upstreams []netip.AddrPort
			for _, upstream := range c.upstreams {
				upstreams = append(upstreams, serveOne(t, upstream))
			}
			err := probeServer(t.Context(), serveOne(t, c.coreDNS), c.zones, c.allNames, upstreams)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Probe: got %v, want %q", err, c.want)
			}
		})
	}
}

// TestProbeWithoutTCP holds that CoreDNS has to answer over both.
func TestProbeWithoutTCP(t *testing.T) {
	packets := listenPacket(t)
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(answerMesh)}
	done := make(chan error, 1)
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { done <- server.ActivateAndServe() }()
	<-started
	err := probeServer(t.Context(), netip.MustParseAddrPort(packets.LocalAddr().String()), []string{"cluster.local"}, false, nil)
	if err == nil || !strings.Contains(err.Error(), "over tcp") {
		t.Errorf("Probe: got %v, want that TCP is not answered", err)
	}
	if err := server.Shutdown(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAwait holds that a CoreDNS that answers later is waited for, and one that never does no longer than said.
func TestAwait(t *testing.T) {
	var asked atomic.Int32
	later := serveOne(t, func(w dns.ResponseWriter, question *dns.Msg) {
		if asked.Add(1) < 4 {
			reply(w, question, dns.RcodeServerFailure, "")
			return
		}
		answerMesh(w, question)
	})
	if err := Await(t.Context(), Plan{Server: later, Zones: []string{"cluster.local"}}); err != nil {
		t.Errorf("Await one that answers later: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*awaitPause)
	defer cancel()
	started := time.Now()
	if err := Await(ctx, Plan{Server: serveOne(t, rcode(dns.RcodeServerFailure)), Zones: []string{"cluster.local"}}); err == nil || !strings.Contains(err.Error(), "SERVFAIL") {
		t.Errorf("Await one that never does: got %v, want its SERVFAIL", err)
	}
	if waited := time.Since(started); waited > time.Minute {
		t.Errorf("Await one that never does: took %s, want about %s", waited, 2*awaitPause)
	}
}
