package meshvm

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/pkg/reuseport"
)

func TestEndpointsOf(t *testing.T) {
	tests := []struct {
		name        string
		keys, hosts []string
		want        []endpoint
	}{
		{"every address", []string{"dns://.:53"}, []string{""}, []endpoint{{"udp", ":53"}}},
		{"bound addresses", []string{"dns://.:1053"}, []string{"127.0.0.1", "::1"}, []endpoint{{"udp", "127.0.0.1:1053"}, {"udp", "[::1]:1053"}}},
		{"zones of one block", []string{"dns://a.example.org.:53", "dns://b.example.org.:53"}, []string{"127.0.0.1"}, []endpoint{{"udp", "127.0.0.1:53"}}},
		{"ports of one block", []string{"dns://.:53", "dns://.:54"}, []string{"127.0.0.1"}, []endpoint{{"udp", "127.0.0.1:53"}, {"udp", "127.0.0.1:54"}}},
		{"other transports", []string{"tls://.:853", "quic://.:853", "https://.:443", "grpc://.:443"}, []string{"127.0.0.1"}, []endpoint{{"tcp", "127.0.0.1:853"}, {"udp", "127.0.0.1:853"}, {"tcp", "127.0.0.1:443"}}},
		{"a port the kernel chooses", []string{"dns://.:0"}, []string{"127.0.0.1"}, nil},
		{"no keys, as in a test controller", nil, []string{""}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := endpointsOf(test.keys, test.hosts)
			if err != nil {
				t.Fatalf("endpointsOf: %v", err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("Got %v, want %v", got, test.want)
			}
		})
	}
}

func TestEndpointIncludes(t *testing.T) {
	tests := []struct {
		address, at string
		want        bool
	}{
		{":53", "[::]:53", true},
		{":53", "0.0.0.0:53", true},
		{"0.0.0.0:53", "[::]:53", true},
		{":53", "[::]:54", false},
		{":53", "127.0.0.1:53", false},
		{"127.0.0.1:53", "127.0.0.1:53", true},
		{"127.0.0.1:53", "[::ffff:127.0.0.1]:53", true},
		{"127.0.0.1:53", "127.0.0.2:53", false},
		{"127.0.0.1:53", "[::]:53", false},
		{"[::1]:53", "[::1]:53", true},
		{"[fe80::1%eth0]:53", "[fe80::1%eth0]:53", true},
		{"[fe80::1%eth0]:53", "[fe80::1%eth1]:53", false},
	}
	for _, test := range tests {
		t.Run(test.address+" "+test.at, func(t *testing.T) {
			if got := (endpoint{"udp", test.address}).includes(netip.MustParseAddrPort(test.at)); got != test.want {
				t.Errorf("Got %v, want %v", got, test.want)
			}
		})
	}
}

// TestReserve walks an address through the life that reserve.go promises, with
// the sockets that CoreDNS itself would open.
func TestReserve(t *testing.T) {
	hosts := []string{"127.0.0.1", "0.0.0.0", ""}
	if hasIPv6Loopback(t) {
		hosts = append(hosts, "::1", "::")
	}
	for _, host := range hosts {
		t.Run("udp "+host, func(t *testing.T) {
			free, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(free.LocalAddr().String())
			free.Close()
			e := endpoint{"udp", net.JoinHostPort(host, port)}

			reservation, err := e.reserve()
			if err != nil {
				t.Fatalf("First reserve: %v", err)
			}
			defer reservation.Close()
			if err := reserveAgain(e); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("Reserve beside a reservation: got %v, want %v", err, syscall.EADDRINUSE)
			}

			server, err := reuseport.ListenPacket("udp", e.address)
			if err != nil {
				t.Fatalf("Listen as CoreDNS does: %v", err)
			}
			defer server.Close()
			to := net.JoinHostPort(host, port)
			if host == "" {
				to = "127.0.0.1:" + port
			}
			for range 32 { // each from another port, and so to another socket, if it could
				expectDelivery(t, to, server)
			}
			if err := reserveAgain(e); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("Reserve beside both: got %v, want %v", err, syscall.EADDRINUSE)
			}
			if err := reservation.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			if err := reserveAgain(e); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("Reserve beside the server: got %v, want %v", err, syscall.EADDRINUSE)
			}
			expectDelivery(t, to, server)
			server.Close()
			if err := reserveAgain(e); err != nil {
				t.Errorf("Reserve after the server: %v", err)
			}
		})
	}

	t.Run("tcp", func(t *testing.T) {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		e := endpoint{"tcp", free.Addr().String()}
		if err := reserveAgain(e); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Reserve beside a listener: got %v, want %v", err, syscall.EADDRINUSE)
		}
		free.Close()
		reservation, err := e.reserve()
		if err != nil {
			t.Fatalf("Reserve: %v", err)
		}
		defer reservation.Close()
		server, err := reuseport.Listen("tcp", e.address)
		if err != nil {
			t.Fatalf("Listen as CoreDNS does: %v", err)
		}
		server.Close()
	})
}

func TestReserveAddresses(t *testing.T) {
	taken, err := reuseport.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.LocalAddr().String())
	keys, hosts := []string{"dns://.:" + port}, []string{"127.0.0.1"}

	err = reserveAddresses(keys, hosts)
	if err == nil || !strings.Contains(err.Error(), "udp 127.0.0.1:"+port+" is in use: another copy of CoreDNS or another DNS server has it") {
		t.Errorf("Address of another: got %v, want it named as in use", err)
	}
	taken.Close()
	for range 2 { // several server blocks share an address
		if err := reserveAddresses(keys, hosts); err != nil {
			t.Errorf("Free address: %v", err)
		}
	}
	if err := ReleaseAddresses(); err != nil {
		t.Errorf("Release: %v", err)
	}
	if err := reserveAgain(endpoint{"udp", "127.0.0.1:" + port}); err != nil {
		t.Errorf("Address after release: %v", err)
	}
}

func reserveAgain(e endpoint) error {
	reservation, err := e.reserve()
	if err != nil {
		return err
	}
	return reservation.Close()
}

// expectDelivery fails the test unless a datagram to the address reaches socket.
func expectDelivery(t *testing.T, address string, socket net.PacketConn) {
	t.Helper()
	client, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte(client.LocalAddr().String())); err != nil {
		t.Fatal(err)
	}
	if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 128)
	n, _, err := socket.ReadFrom(buffer)
	if err != nil {
		t.Fatalf("Datagram to %s did not reach the server: %v", address, err)
	}
	if got, want := string(buffer[:n]), client.LocalAddr().String(); got != want {
		t.Fatalf("Got datagram %q, want %q", got, want)
	}
}

func hasIPv6Loopback(t *testing.T) bool {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil && prefix.Addr() == netip.IPv6Loopback() {
			return true
		}
	}
	return false
}
