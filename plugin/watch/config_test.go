package watch

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	authority := newAuthority(t, "authority")
	ca := authority.file(t, dir)
	cert, key := authority.issue(t, dir, "client")
	otherCert, _ := authority.issue(t, dir, "other")
	garbage := writeFile(t, filepath.Join(dir, "garbage.pem"), "no PEM")
	broken := writeFile(t, filepath.Join(dir, "broken.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	half := writeFile(t, filepath.Join(dir, "half.pem"), readString(t, ca)+readString(t, broken))
	big := writeFile(t, filepath.Join(dir, "big.pem"), strings.Repeat("x", maxPEMBytes+1))
	missing := filepath.Join(dir, "missing.pem")
	good := []string{"syncer.example.com:15054"}

	tests := []struct {
		name   string
		config Config
		want   []string
	}{
		{"no address", Config{}, []string{"no syncer address"}},
		{"an address without a port", Config{Addresses: []string{"syncer"}}, []string{`"syncer"`, "host:port"}},
		{"an address without a host", Config{Addresses: []string{":15054"}}, []string{`":15054"`, "no host"}},
		{"a port that is a name", Config{Addresses: []string{"syncer:grpc"}}, []string{`"grpc"`, "1 to 65535"}},
		{"port 0", Config{Addresses: []string{"syncer:0"}}, []string{`"0"`, "1 to 65535"}},
		{"a second address that is wrong", Config{Addresses: append(good, "x")}, []string{`"x"`}},
		{"a host with a slash", Config{Addresses: []string{"https://syncer:443"}}, []string{"https://syncer:443"}},
		{"insecure beyond loopback", Config{Addresses: good, Insecure: true}, []string{"syncer.example.com:15054", "loopback"}},
		{"insecure with one address beyond loopback", Config{Addresses: []string{"127.0.0.1:1", "192.0.2.1:1"}, Insecure: true}, []string{"192.0.2.1:1", "loopback"}},
		{"insecure to a name that begins like localhost", Config{Addresses: []string{"localhost.example.com:1"}, Insecure: true}, []string{"localhost.example.com:1", "loopback"}},
		{"insecure to the unspecified address", Config{Addresses: []string{"0.0.0.0:1"}, Insecure: true}, []string{"0.0.0.0:1", "loopback"}},
		{"insecure and TLS", Config{Addresses: []string{"localhost:1"}, Insecure: true, TLS: TLSFiles{CAFile: ca}}, []string{"insecure", "TLS"}},
		{"insecure and a server name", Config{Addresses: []string{"localhost:1"}, Insecure: true, ServerName: "x"}, []string{"insecure", "TLS"}},
		{"a certificate without a key", Config{Addresses: good, TLS: TLSFiles{CertFile: cert}}, []string{"both"}},
		{"a key without a certificate", Config{Addresses: good, TLS: TLSFiles{KeyFile: key}}, []string{"both"}},
		{"a certificate that is missing", Config{Addresses: good, TLS: TLSFiles{CertFile: missing, KeyFile: key}}, []string{missing, "no such file"}},
		{"a certificate that is none", Config{Addresses: good, TLS: TLSFiles{CertFile: garbage, KeyFile: key}}, []string{garbage, "PEM"}},
		{"a key of another certificate", Config{Addresses: good, TLS: TLSFiles{CertFile: otherCert, KeyFile: key}}, []string{otherCert, key, "match"}},
		{"an authority that is missing", Config{Addresses: good, TLS: TLSFiles{CAFile: missing}}, []string{missing, "no such file"}},
		{"an authority that is none", Config{Addresses: good, TLS: TLSFiles{CAFile: garbage}}, []string{garbage, "no PEM certificate"}},
		{"a bundle of which one certificate is broken", Config{Addresses: good, TLS: TLSFiles{CAFile: half}}, []string{half, "certificate 2"}},
		{"a file without end", Config{Addresses: good, TLS: TLSFiles{CAFile: big}}, []string{big, "larger than"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.config, newMirror(), nil, nil)
			if err == nil {
				t.Fatal("New accepts it")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %q, want %q in it", err, want)
				}
			}
		})
	}
}

func TestNewAccepts(t *testing.T) {
	dir := t.TempDir()
	authority := newAuthority(t, "authority")
	ca := authority.file(t, dir)
	cert, key := authority.issue(t, dir, "client")
	tests := []struct {
		name   string
		config Config
	}{
		{"insecure to IPv4 loopback", Config{Addresses: []string{"127.0.0.1:1", "127.8.9.10:1"}, Insecure: true}},
		{"insecure to IPv6 loopback", Config{Addresses: []string{"[::1]:1", "[::ffff:127.0.0.1]:1"}, Insecure: true}},
		{"insecure to localhost", Config{Addresses: []string{"LocalHost:1"}, Insecure: true}},
		{"no TLS files", Config{Addresses: []string{"syncer:1"}}},
		{"an authority", Config{Addresses: []string{"syncer:1"}, TLS: TLSFiles{CAFile: ca}}},
		{"a certificate and its key", Config{Addresses: []string{"syncer:1"}, TLS: TLSFiles{CertFile: cert, KeyFile: key}}},
		{"all three", Config{Addresses: []string{"syncer:1"}, TLS: TLSFiles{CertFile: cert, KeyFile: key, CAFile: ca}}},
		{"one address twice", Config{Addresses: []string{"syncer:1", "syncer:1"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := New(test.config, newMirror(), nil, nil); err != nil {
				t.Errorf("New: %v", err)
			}
		})
	}
}

// What `localhost` resolves to is for the resolver to say, so the dialer looks again.
func TestInsecureDialerRefusesBeyondLoopback(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := dialTCP(true, time.Second)(t.Context(), listener.Addr().String())
	if err != nil {
		t.Fatalf("dial loopback: %v", err)
	}
	conn.Close()
	// TEST-NET-1 (RFC 5737): refused before a packet is sent.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := dialTCP(true, time.Second)(ctx, "192.0.2.1:15054"); err == nil || !strings.Contains(err.Error(), "loopback only") {
		t.Errorf("dial 192.0.2.1:15054: %v, want that insecure is for loopback only", err)
	}
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readString(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
