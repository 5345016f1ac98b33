package watch

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestResolver(t *testing.T) {
	errRefused := errors.New("refused")
	tests := map[string]struct {
		address string
		found   []string
		fault   error
		// refuse and swallow are addresses that refuse connections, or never answer.
		refuse, swallow []string
		// connected is what one of the addresses that are tried must be; none: fails with text.
		connected []string
		text      string
		within    time.Duration
	}{
		"a literal address is not looked up": {address: "192.0.2.1:15054", fault: errors.New("looked up"), connected: []string{"192.0.2.1:15054"}},
		"a literal IPv6 address":             {address: "[2001:db8::1]:15054", fault: errors.New("looked up"), connected: []string{"[2001:db8::1]:15054"}},
		"any of a name's addresses": {address: "syncer.example:1", found: []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"},
			connected: []string{"192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"}},
		"IPv4 in IPv6": {address: "syncer.example:1", found: []string{"::ffff:192.0.2.1"}, connected: []string{"192.0.2.1:1"}},
		"another where one refuses": {address: "syncer.example:1", found: []string{"192.0.2.1", "192.0.2.2"}, refuse: []string{"192.0.2.1:1"},
			connected: []string{"192.0.2.2:1"}},
		"another where one swallows packets": {address: "syncer.example:1", found: []string{"192.0.2.1", "192.0.2.2"}, swallow: []string{"192.0.2.1:1"},
			connected: []string{"192.0.2.2:1"}, within: 5 * time.Second},
		"none where all refuse": {address: "syncer.example:1", found: []string{"192.0.2.1", "192.0.2.2"}, refuse: []string{"192.0.2.1:1", "192.0.2.2:1"}, text: "refused"},
		"none where all swallow packets": {address: "syncer.example:1", found: []string{"192.0.2.1", "192.0.2.2"},
			swallow: []string{"192.0.2.1:1", "192.0.2.2:1"}, text: "deadline", within: 10 * time.Second},
		"the name is unknown":        {address: "syncer.example:1", fault: errors.New("no such host"), text: "no such host"},
		"the name has no address":    {address: "syncer.example:1", text: "syncer.example has no address"},
		"the address is none at all": {address: "syncer.example", text: "missing port"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var last string
				r := resolver{
					lookUp: func(context.Context, string, string) ([]netip.Addr, error) {
						var found []netip.Addr
						for _, text := range test.found {
							found = append(found, netip.MustParseAddr(text))
						}
						return found, test.fault
					},
					dial: func(ctx context.Context, _, address string) (net.Conn, error) {
						switch {
						case slices.Contains(test.refuse, address):
							return nil, errRefused
						case slices.Contains(test.swallow, address):
							<-ctx.Done()
							return nil, ctx.Err()
						}
						last = address
						conn, other := net.Pipe()
						return conn, other.Close()
					},
					patience: 10 * time.Second,
				}
				seen := map[string]bool{}
				for range 200 {
					began := time.Now()
					conn, err := r.connect(t.Context(), test.address)
					if took := time.Since(began); took > test.within {
						t.Fatalf("took %s, want %s at most", took, test.within)
					}
					if len(test.connected) == 0 {
						if err == nil || !strings.Contains(err.Error(), test.text) {
							t.Fatalf("got %v, want an error with %q", err, test.text)
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					seen[last] = true
					if err := conn.Close(); err != nil {
						t.Fatal(err)
					}
				}
				// That one of three is never first in 200 tries has a chance below 10^-34.
				for _, want := range test.connected {
					if !seen[want] {
						t.Errorf("connected to %v, want %s among them", seen, want)
					}
				}
				if len(seen) != len(test.connected) {
					t.Errorf("connected to %v, want %v", seen, test.connected)
				}
			})
		})
	}
}
