package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// authority signs certificates for tests.
type authority struct {
	t           *testing.T
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	a.certificate = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, &key.PublicKey)
	return a
}

func (a *authority) sign(template *x509.Certificate, public *ecdsa.PublicKey) *x509.Certificate {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.certificate
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return certificate
}

// issue is a certificate and its key in PEM form, for a server on loopback or a client with a URI.
func (a *authority) issue(name, uri string) (certificate, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if uri != "" {
		parsed, err := url.Parse(uri)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = []*url.URL{parsed}
	}
	signed := a.sign(template, &private.PublicKey)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pemOf("CERTIFICATE", signed.Raw), pemOf("PRIVATE KEY", der)
}

func (a *authority) pem() []byte { return pemOf("CERTIFICATE", a.certificate.Raw) }

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writeTLS writes a server's files.
func writeTLS(t *testing.T, server, clients *authority) TLSFiles {
	t.Helper()
	dir := t.TempDir()
	files := TLSFiles{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), ClientCA: filepath.Join(dir, "ca.crt")}
	certificate, key := server.issue("syncer", "")
	writeFile(t, files.Certificate, certificate)
	writeFile(t, files.Key, key)
	writeFile(t, files.ClientCA, clients.pem())
	return files
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// as is the client's side of mutual TLS.
func as(t *testing.T, roots *x509.CertPool, signer *authority, uri string) grpc.DialOption {
	t.Helper()
	config := &tls.Config{RootCAs: roots}
	if signer != nil {
		certificate, key := signer.issue("vm", uri)
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(config))
}

func TestMutualTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	files := writeTLS(t, ours, ours)
	s := start(t, func(o *Options) { o.TLS = &files })
	s.apply(service("prod", "own", "10.0.0.1", registry.VisibleTo("prod")))
	tests := map[string]struct {
		dial  grpc.DialOption
		hello string
		want  codes.Code
		view  string
	}{
		"SPIFFE ID names the namespace":    {as(t, ours.pool(), ours, "spiffe://cluster.local/ns/prod/sa/vm"), "", codes.OK, "prod"},
		"SPIFFE ID and hello agree":        {as(t, ours.pool(), ours, "spiffe://cluster.local/ns/prod/sa/vm"), "prod", codes.OK, "prod"},
		"SPIFFE ID and hello disagree":     {as(t, ours.pool(), ours, "spiffe://cluster.local/ns/prod/sa/vm"), "dev", codes.PermissionDenied, ""},
		"no SPIFFE ID sees what all see":   {as(t, ours.pool(), ours, ""), "", codes.OK, ""},
		"no SPIFFE ID claims no namespace": {as(t, ours.pool(), ours, ""), "prod", codes.PermissionDenied, ""},
		"SPIFFE ID of another form":        {as(t, ours.pool(), ours, "spiffe://cluster.local/vm"), "", codes.Unauthenticated, ""},
		"no certificate":                   {as(t, ours.pool(), nil, ""), "prod", codes.Unavailable, ""},
		"certificate of another CA":        {as(t, ours.pool(), theirs, "spiffe://cluster.local/ns/prod/sa/vm"), "prod", codes.Unavailable, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			stream, err := s.dialWith(test.dial).Watch(t.Context())
			if err == nil {
				v := &vm{t: t, stream: stream, resources: map[string][]byte{}}
				_ = stream.Send(helloOf(&registryv1.Hello{Namespace: test.hello})) // Recv says why
				var response *registryv1.WatchResponse
				if response, err = stream.Recv(); err == nil {
					v.take(response)
					if got := v.welcome.GetView(); got != test.view {
						t.Errorf("view = %q, want %q", got, test.view)
					}
				}
			}
			if status.Code(err) != test.want {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	ours := newAuthority(t, "ours")
	files := writeTLS(t, ours, ours)
	s := start(t, func(o *Options) { o.TLS = &files })
	certificate, key := ours.issue("vm", "")
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			connection, err := tls.Dial("tcp", s.address, &tls.Config{
				RootCAs: ours.pool(), Certificates: []tls.Certificate{pair},
				MinVersion: tls.VersionTLS10, MaxVersion: version, NextProtos: []string{"h2"},
			})
			if err == nil {
				connection.Close()
			}
			if (err == nil) != want {
				t.Errorf("handshake: %v, want success %t", err, want)
			}
		})
	}
}

func TestTLSFilesAreReloaded(t *testing.T) {
	before, after := newAuthority(t, "before"), newAuthority(t, "after")
	files := writeTLS(t, before, before)
	s := start(t, func(o *Options) { o.TLS = &files })
	reaches := func(roots, client *authority) bool {
		stream, err := s.dialWith(as(t, roots.pool(), client, "")).Watch(t.Context())
		if err == nil {
			_ = stream.Send(helloOf(&registryv1.Hello{})) // Recv says why
			_, err = stream.Recv()
		}
		return err == nil
	}
	expect := func(when string, old, now bool, failures float64) {
		t.Helper()
		if got := reaches(before, before); got != old {
			t.Errorf("%s: with the old certificates: %t, want %t", when, got, old)
		}
		if got := reaches(after, after); got != now {
			t.Errorf("%s: with the new certificates: %t, want %t", when, got, now)
		}
		if got := counterValue(t, s.server.metrics.reloadErrors); got != failures {
			t.Errorf("%s: tls_reload_errors_total = %v, want %v", when, got, failures)
		}
	}
	expect("at first", true, false, 0)

	next := writeTLS(t, after, after)
	certificate, key, ca := readFile(t, next.Certificate), readFile(t, next.Key), readFile(t, next.ClientCA)
	writeFile(t, files.Certificate, certificate)
	expect("halfway", true, false, 1)
	writeFile(t, files.Key, key)
	writeFile(t, files.ClientCA, ca)
	expect("rotated", false, true, 1)

	writeFile(t, files.ClientCA, []byte("no PEM"))
	expect("broken", false, true, 2)
	if err := os.Remove(files.Key); err != nil {
		t.Fatal(err)
	}
	expect("gone", false, true, 3)
	if log := s.logs.String(); !strings.Contains(log, files.Key) || strings.Contains(log, "PRIVATE KEY") {
		t.Errorf("the log must name the file at fault and show no key:\n%s", log)
	}
	writeFile(t, files.Key, key)
	writeFile(t, files.ClientCA, ca)
	expect("repaired", false, true, 3)
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestBadTLSFilesAreNamedAtStart(t *testing.T) {
	ours := newAuthority(t, "ours")
	otherCertificate, _ := ours.issue("other", "")
	tests := map[string]struct {
		spoil func(t *testing.T, files TLSFiles) string // the file at fault
	}{
		"certificate is missing":    {func(t *testing.T, f TLSFiles) string { return remove(t, f.Certificate) }},
		"key is missing":            {func(t *testing.T, f TLSFiles) string { return remove(t, f.Key) }},
		"client CA is missing":      {func(t *testing.T, f TLSFiles) string { return remove(t, f.ClientCA) }},
		"certificate is empty":      {func(t *testing.T, f TLSFiles) string { writeFile(t, f.Certificate, nil); return f.Certificate }},
		"key is of another":         {func(t *testing.T, f TLSFiles) string { writeFile(t, f.Certificate, otherCertificate); return f.Key }},
		"client CA is no PEM":       {func(t *testing.T, f TLSFiles) string { writeFile(t, f.ClientCA, []byte("x")); return f.ClientCA }},
		"client CA is a key's file": {func(t *testing.T, f TLSFiles) string { writeFile(t, f.ClientCA, readFile(t, f.Key)); return f.ClientCA }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			files := writeTLS(t, ours, ours)
			want := test.spoil(t, files)
			_, err := New(registry.New(registry.Options{}), Options{TLS: &files})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error that names %s", err, want)
			}
			if err != nil && bytes.Contains([]byte(err.Error()), []byte("BEGIN")) {
				t.Errorf("the error shows what is in the file: %v", err)
			}
		})
	}
}

func remove(t *testing.T, path string) string {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	return path
}
