package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/registry"
)

// clientTLS is a client's side of TLS, with a certificate of an authority or without.
func clientTLS(t *testing.T, roots, signer *authority) *tls.Config {
	t.Helper()
	config := &tls.Config{RootCAs: roots.pool(), ServerName: "127.0.0.1", NextProtos: []string{"h2"}}
	if signer != nil {
		pair, err := tls.X509KeyPair(signer.issue("vm", "spiffe://cluster.local/ns/prod/sa/vm"))
		if err != nil {
			t.Fatal(err)
		}
		// Whatever authorities the syncer asks for.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config
}

// closedByPeer waits until the other end has closed a connection.
func closedByPeer(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("the connection is open after %s", patience)
	}
}

func isTimeout(err error) bool {
	timeout, is := errors.AsType[net.Error](err)
	return is && timeout.Timeout()
}

func TestConnectionsThatProveNothing(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	long := StrangerBounds{FirstWord: time.Hour, Proving: time.Hour, Idle: time.Hour}
	shakeHands := func(signer *authority) func(*testing.T, *syncer, net.Conn) {
		return func(t *testing.T, _ *syncer, conn net.Conn) {
			_ = tls.Client(conn, clientTLS(t, ours, signer)).Handshake() // TLS 1.3 tells the client later, and not here
			closedByPeer(t, conn)
		}
	}
	tests := map[string]struct {
		edit func(*StrangerBounds)
		does func(t *testing.T, s *syncer, conn net.Conn)
		want string
	}{
		"says nothing": {
			func(b *StrangerBounds) { b.FirstWord = 20 * time.Millisecond },
			func(t *testing.T, _ *syncer, conn net.Conn) { closedByPeer(t, conn) }, failedSilent,
		},
		"goes again": {nil, func(_ *testing.T, _ *syncer, conn net.Conn) { _ = conn.Close() }, failedSilent},
		"stops in the middle of a word": {
			func(b *StrangerBounds) { b.FirstWord = 20 * time.Millisecond },
			func(t *testing.T, _ *syncer, conn net.Conn) {
				write(t, conn, "\x16\x03\x01\x02\x00\x01")
				closedByPeer(t, conn)
			}, failedSilent,
		},
		"speaks HTTP": {nil, func(t *testing.T, _ *syncer, conn net.Conn) {
			write(t, conn, "GET / HTTP/1.1\r\n\r\n")
			closedByPeer(t, conn)
		}, failedProtocol},
		"sends a record that is too long": {nil, func(t *testing.T, _ *syncer, conn net.Conn) {
			write(t, conn, "\x16\x03\x01\xff\xff")
			closedByPeer(t, conn)
		}, failedProtocol},
		"sends a record of nonsense": {nil, func(t *testing.T, _ *syncer, conn net.Conn) {
			write(t, conn, "\x16\x03\x01\x00\x04\x01\x00\x00\x00")
			closedByPeer(t, conn)
		}, failedHandshake},
		"has no certificate":              {nil, shakeHands(nil), failedHandshake},
		"has a certificate of another CA": {nil, shakeHands(theirs), failedHandshake},
		"opens no stream": {
			func(b *StrangerBounds) { b.Proving = 20 * time.Millisecond },
			func(t *testing.T, _ *syncer, conn net.Conn) {
				secured := tls.Client(conn, clientTLS(t, ours, ours))
				write(t, secured, http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
				closedByPeer(t, conn)
			}, failedNoStream,
		},
		"floods before it opens one": {nil, func(t *testing.T, _ *syncer, conn net.Conn) {
			secured := tls.Client(conn, clientTLS(t, ours, ours))
			write(t, secured, http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
			var frames bytes.Buffer
			for range 1000 {
				if err := http2.NewFramer(&frames, nil).WriteWindowUpdate(0, 1); err != nil {
					t.Fatal(err)
				}
			}
			deadline := time.Now().Add(patience)
			for {
				if _, err := secured.Write(frames.Bytes()); err != nil {
					return
				}
				if time.Now().After(deadline) {
					t.Fatal("the syncer reads on and on")
				}
			}
		}, failedNoStream},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			files := writeTLS(t, ours, ours)
			s := start(t, func(o *Options) {
				o.TLS, o.Strangers = &files, long
				if test.edit != nil {
					test.edit(&o.Strangers)
				}
			})
			test.does(t, s, s.from("127.0.0.2"))
			s.expectFailures(map[string]float64{test.want: 1})
			eventually(t, "nothing is left of it", func() bool { return s.server.accepted.Load().count() == 0 })
		})
	}
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// expectFailures holds the counters of connections that came to nothing.
func (s *syncer) expectFailures(want map[string]float64) {
	s.t.Helper()
	failures := func(reason string) float64 {
		return counterValue(s.t, s.server.metrics.failures.WithLabelValues(reason))
	}
	for reason, count := range want {
		eventually(s.t, reason+" is counted", func() bool { return failures(reason) >= count })
	}
	for _, reason := range []string{failedSilent, failedProtocol, failedHandshake, failedNoStream, failedUnauthenticated} {
		if got := failures(reason); got != want[reason] {
			s.t.Errorf("connection_failures_total{reason=%q} = %v, want %v", reason, got, want[reason])
		}
	}
}

func TestRefusedVMsAreStrangers(t *testing.T) {
	ours := newAuthority(t, "ours")
	tests := map[string]struct {
		token   string
		broken  error
		code    codes.Code
		want    map[string]float64
		debited bool
		// stays: the VM is in, and its connection with it.
		stays bool
	}{
		"a good token":    {"good", nil, codes.OK, nil, false, true},
		"a bad one":       {"bad", nil, codes.Unauthenticated, map[string]float64{failedUnauthenticated: 1}, true, false},
		"nobody can tell": {"good", io.ErrUnexpectedEOF, codes.Unavailable, nil, false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			files := writeTLS(t, ours, ours)
			directory := &accounts{broken: test.broken}
			directory.tokens = map[string]identity.Identity{"good": tokenOf("prod", "vm", time.Time{})}
			s := start(t, func(o *Options) {
				o.TLS, o.Tokens = &files, directory
				o.Strangers.Proving = time.Second
			})
			client := s.dialWith(as(t, ours.pool(), nil, ""), grpc.WithPerRPCCredentials(withToken("Bearer "+test.token)))
			_, _, err := arrive(t, client, "prod")
			if status.Code(err) != test.code {
				t.Errorf("got %v, want %v", err, test.code)
			}
			open := func() int { return s.server.accepted.Load().count() }
			if !test.stays {
				eventually(t, "the connection is closed", func() bool { return open() == 0 })
			} else if got := open(); got != 1 {
				t.Errorf("%d connections are open, want one", got)
			}
			s.expectFailures(test.want)
			book := s.server.accepted.Load().strangers
			book.mu.Lock()
			defer book.mu.Unlock()
			if got := book.unknown.count > 0; got != test.debited {
				t.Errorf("debits: %v, want some: %t", book.unknown.count, test.debited)
			}
		})
	}
}

// dialFrom is dialWith from an address of this machine.
func (s *syncer) dialFrom(source string, options ...grpc.DialOption) registryv1.RegistryClient {
	s.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	soon := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond}
	return s.dialWith(append(options, grpc.WithConnectParams(grpc.ConnectParams{Backoff: soon, MinConnectTimeout: patience}), grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", address)
	}))...)
}

// TestVMsAmongStrangers: while strangers come without end from one address, VMs are served, and others get in: at once from
// elsewhere, by and by from there.
func TestVMsAmongStrangers(t *testing.T) {
	const strangers = "127.0.0.66"
	ours := newAuthority(t, "ours")
	files := writeTLS(t, ours, ours)
	s := start(t, func(o *Options) { o.TLS, o.Strangers = &files, StrangerBounds{AtOnce: 16} })
	mine := as(t, ours.pool(), ours, "spiffe://cluster.local/ns/prod/sa/vm")
	began := time.Now()
	before := watch(t, s.dialWith(mine), &registryv1.Hello{Node: "before"})

	ctx, end := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	stop := sync.OnceFunc(func() { end(); flood.Wait() })
	defer stop()
	config := clientTLS(t, ours, nil)
	for range 8 {
		flood.Go(func() {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(strangers)}}
			pace := time.NewTicker(40 * time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				<-pace.C
				conn, err := dialer.DialContext(ctx, "tcp", s.address)
				if err != nil {
					continue
				}
				release := context.AfterFunc(ctx, func() { _ = conn.Close() })
				if tls.Client(conn, config).HandshakeContext(ctx) == nil {
					_, _ = io.Copy(io.Discard, conn)
				}
				release()
				_ = conn.Close()
			}
		})
	}
	eventually(t, "strangers are closed as soon as they are accepted", func() bool {
		return counterValue(t, s.server.metrics.refused.WithLabelValues(refusedStranger)) >= 20
	})
	getsIn := func(source string) {
		t.Helper()
		client := s.dialFrom(source, mine)
		eventually(t, "a VM gets in from "+source, func() bool {
			stream, err := client.Watch(t.Context(), grpc.WaitForReady(true))
			if err != nil {
				return false
			}
			_ = stream.Send(helloOf(&registryv1.Hello{Node: "late"})) // Recv says why
			_, err = stream.Recv()
			return err == nil
		})
	}
	getsIn("127.0.0.67")
	getsIn(strangers)
	s.apply(service("prod", "new", "10.0.0.1", registry.Public()))
	before.until("the change", func() bool { _, found := before.resources[key("prod", "new")]; return found })

	stop()
	eventually(t, "only VMs have connections", func() bool { return s.server.accepted.Load().count() == 3 })
	if got, most := strings.Count(s.logs.String(), "too many came to nothing"), 1+int(time.Since(began)/strangersLogged); got < 1 || got > most {
		t.Errorf("strangers are logged %d times, want once to %d times:\n%s", got, most, s.logs)
	}
	if got := s.server.accepted.Load().strangers.size(); got != 3 {
		t.Errorf("%d sources are remembered, want 3", got)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	s := start(t, func(o *Options) { o.Strangers.Idle = 20 * time.Millisecond })
	ctx, end := context.WithCancel(t.Context())
	stream, err := s.dial().Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	v := &vm{t: t, stream: stream, resources: map[string][]byte{}}
	v.say(helloOf(&registryv1.Hello{}))
	v.until("the first heartbeat", func() bool { return v.heartbeat != nil })
	end()
	eventually(t, "the connection is closed", func() bool { return s.server.accepted.Load().count() == 0 })
}

func TestHTTPConnectionsAreBounded(t *testing.T) {
	s := start(t, nil)
	address := strings.TrimPrefix(s.http, "http://")
	for range maxHTTPConnections / 2 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	more, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer more.Close()
	closedByPeer(t, more)
	if got := counterValue(t, s.server.metrics.refused.WithLabelValues(refusedHTTP)); got != 1 {
		t.Errorf("refused: %v, want 1", got)
	}
}
