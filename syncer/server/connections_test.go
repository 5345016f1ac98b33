package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/identity"
)

// from is a TCP connection to the syncer from an address of this machine.
func (s *syncer) from(source string) net.Conn {
	s.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.DialContext(context.Background(), "tcp", s.address)
	if err != nil {
		s.t.Fatalf("dial from %s: %v", source, err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// speaks reports whether the syncer talks on a connection, which it does first, or has closed it.
func speaks(t *testing.T, conn net.Conn) bool {
	t.Helper()
	n, err := conn.Read(make([]byte, 9)) // an HTTP/2 frame header
	if err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("read: %v", err)
	}
	return n > 0
}

func TestConnectionsAreBounded(t *testing.T) {
	s := start(t, func(o *Options) { o.MaxConnections, o.MaxConnectionsPerAddress = 3, 2 })
	refused := func(bound string) float64 {
		return counterValue(t, s.server.metrics.refused.WithLabelValues(bound))
	}
	first, second := s.from("127.0.0.2"), s.from("127.0.0.2")
	for _, conn := range []net.Conn{first, second} {
		if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
			t.Fatal(err)
		}
		if !speaks(t, conn) {
			t.Fatal("a connection within the bounds was closed")
		}
	}
	if speaks(t, s.from("127.0.0.2")) {
		t.Error("a third connection from one address is served, want two")
	}
	if got := refused(refusedAddress); got != 1 {
		t.Errorf("refused by address: %v, want 1", got)
	}
	s.from("127.0.0.3")
	eventually(t, "another address has a connection", func() bool { return s.server.accepted.Load().count() == 3 })
	if speaks(t, s.from("127.0.0.4")) {
		t.Error("a fourth connection is served, want three")
	}
	if got := refused(refusedConnections); got != 1 {
		t.Errorf("refused by number: %v, want 1", got)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a closed connection is forgotten", func() bool { return s.server.accepted.Load().count() == 2 })
	watch(t, s.dial(), &registryv1.Hello{Node: "let in"})
}

func TestSourceOfAConnection(t *testing.T) {
	tests := map[string]struct {
		address net.Addr
		want    string
	}{
		"IPv4 is counted by address":     {&net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 5}, "192.0.2.7/32"},
		"IPv4 in IPv6 as well":           {net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[::ffff:192.0.2.7]:5")), "192.0.2.7/32"},
		"IPv6 by its network":            {&net.TCPAddr{IP: net.ParseIP("2001:db8:1:2:3:4:5:6"), Port: 5}, "2001:db8:1:2::/64"},
		"a zone does not matter":         {&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 5}, "fe80::/64"},
		"what is no address is one more": {&net.UnixAddr{Name: "/x", Net: "unix"}, "invalid Prefix"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := sourceOf(test.address).String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestStreamsOfAnIdentityAreBounded(t *testing.T) {
	s := start(t, func(o *Options) { o.MaxStreamsPerIdentity = 2 })
	of := func(name string) *stream {
		st := newStream(t.Context(), s.server, nil, func(error) {}) // the server looks at whoever has begun
		st.who = watcher{Identity: identity.Identity{Name: name}}
		return st
	}
	const account = "spiffe://cluster.local/ns/prod/sa/vm"
	var held []*stream
	for range 2 {
		st := of(account)
		if err := st.begin(st.who); err != nil {
			t.Fatalf("within the bound: %v", err)
		}
		held = append(held, st)
	}
	more := of(account)
	err := more.begin(more.who)
	if hint := hintOf(t, err); hint < longestHint/2 || hint > longestHint {
		t.Errorf("come again in %s, want %s to %s", hint, longestHint/2, longestHint)
	}
	if got := status.Convert(err); got.Code() != codes.ResourceExhausted || !strings.Contains(got.Message(), account) {
		t.Errorf("got %v, want the identity named", got)
	}
	if got := counterValue(t, s.server.metrics.refused.WithLabelValues(refusedIdentity)); got != 1 {
		t.Errorf("refused %v times, want once", got)
	}
	other := of("spiffe://cluster.local/ns/prod/sa/other")
	if err := other.begin(other.who); err != nil {
		t.Errorf("another identity: %v", err)
	}
	other.finish()
	held[0].finish()
	if err := more.begin(more.who); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
	more.finish()
	held[1].finish()
	if len(s.server.identities) > 0 {
		t.Errorf("identities that are gone are kept: %v", s.server.identities)
	}
}
