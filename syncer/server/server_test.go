package server

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/syncer/registry"
)

func TestPlaintextIsForLoopbackOnly(t *testing.T) {
	tests := map[string]struct {
		address string
		want    bool
	}{
		"IPv4 loopback":       {"127.0.0.1:15054", true},
		"other IPv4 loopback": {"127.1.2.3:15054", true},
		"IPv6 loopback":       {"[::1]:15054", true},
		"every address":       {"0.0.0.0:15054", false},
		"every IPv6 address":  {"[::]:15054", false},
		"private":             {"10.0.0.1:15054", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			address := net.TCPAddrFromAddrPort(mustAddrPort(t, test.address))
			if err := checkLoopback(address); (err == nil) != test.want {
				t.Errorf("checkLoopback(%s) = %v, want allowed %t", address, err, test.want)
			}
		})
	}
}

func TestServeRefusesPlaintextOffLoopback(t *testing.T) {
	server, err := New(registry.New(registry.Options{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	vms, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	err = server.Serve(t.Context(), vms, listen(t))
	if err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("Serve = %v, want a refusal", err)
	}
	if connection, err := net.Dial("tcp", vms.Addr().String()); err == nil {
		connection.Close()
		t.Error("the listener is still open")
	}
}

func TestServeReportsAListenerThatFails(t *testing.T) {
	for name, broken := range map[string]int{"VMs": 0, "HTTP": 1} {
		t.Run(name, func(t *testing.T) {
			server, err := New(registry.New(registry.Options{}), Options{ShutdownTimeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			listeners := []net.Listener{listen(t), listen(t)}
			listeners[broken].Close()
			err = server.Serve(t.Context(), listeners[0], listeners[1])
			if err == nil || !strings.Contains(err.Error(), "serve "+name) {
				t.Errorf("Serve = %v, want an error about %s", err, name)
			}
		})
	}
}

func TestServeEndsWithADeadlineToo(t *testing.T) {
	server, err := New(registry.New(registry.Options{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := server.Serve(ctx, listen(t), listen(t)); err != nil {
		t.Errorf("Serve = %v, want nil", err)
	}
}

func TestPanicEndsOneStreamOnly(t *testing.T) {
	s := start(t, nil)
	ended := make(chan error, 1)
	s.server.goStream(func(err error) { ended <- err }, func() error { panic("fault") })
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("got %v, want INTERNAL", err)
	}
	if log := s.logs.String(); !strings.Contains(log, "fault") || !strings.Contains(log, "server_test.go") {
		t.Errorf("the log lacks the panic and its stack:\n%s", log)
	}
	if got := counterValue(t, s.server.metrics.panics); got != 1 {
		t.Errorf("panics_total = %v, want 1", got)
	}
}

// TestSilentConnectionDoesNotHoldUpTheEnd connects and says nothing, as a port scanner does.
func TestSilentConnectionDoesNotHoldUpTheEnd(t *testing.T) {
	server, err := New(registry.New(registry.Options{}), Options{ShutdownTimeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	vms := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, vms, listen(t)) }()
	silent, err := net.Dial("tcp", vms.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	// The server's settings are the first that it says.
	if _, err := silent.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	case <-time.After(connectionTimeout / 2):
		t.Error("Serve goes on for a connection that says nothing")
	}
}
