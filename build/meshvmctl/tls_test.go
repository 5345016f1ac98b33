package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/syncer/server"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// pki writes an authority and certificates that it signs.
type pki struct {
	t         *testing.T
	dir       string
	authority *x509.Certificate
	key       *ecdsa.PrivateKey
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	p := &pki{t: t, dir: t.TempDir()}
	p.authority, p.key = p.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return p
}

func (p *pki) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := p.authority, p.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		p.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(name+".crt", "CERTIFICATE", der)
	p.write(name+".key", "PRIVATE KEY", private)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return certificate, key
}

func (p *pki) write(name, kind string, der []byte) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

func TestLookupWithMutualTLS(t *testing.T) {
	p := newPKI(t)
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	p.issue("syncer", &x509.Certificate{DNSNames: []string{"syncer.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: usage})
	p.issue("vm", &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/prod/sa/vm"}}, ExtKeyUsage: usage})

	s := startSyncerWith(t, server.Options{TLS: &server.TLSFiles{Certificate: p.path("syncer.crt"), Key: p.path("syncer.key"), ClientCA: p.path("ca.crt")}})
	if err := s.source.Apply(time.Now(), mesh()...); err != nil {
		t.Fatal(err)
	}
	s.source.Synced()
	client := []string{"--tls-cert-file", p.path("vm.crt"), "--tls-private-key-file", p.path("vm.key")}
	trust := []string{"--tls-ca-file", p.path("ca.crt")}
	tests := map[string]struct {
		flags [][]string
		code  int
	}{
		"both certificates":       {[][]string{client, trust}, exitFound},
		"name in the certificate": {[][]string{client, trust, {"--tls-server-name", "syncer.example.com"}}, exitFound},
		"another name":            {[][]string{client, trust, {"--tls-server-name", "other.example.com"}}, exitUnreachable},
		"its namespace":           {[][]string{client, trust, {"--namespace", "prod"}}, exitFound},
		"another namespace":       {[][]string{client, trust, {"--namespace", "dev"}}, exitUnreachable},
		"no client certificate":   {[][]string{trust}, exitUnreachable},
		"no trust":                {[][]string{client}, exitUnreachable},
		"plaintext":               {[][]string{{"--insecure"}}, exitUnreachable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			// Only the namespace in the certificate sees the name.
			args := []string{"lookup", "secret.prod.svc.cluster.local", "-o", "json", "--syncer", s.vms}
			for _, flags := range test.flags {
				args = append(args, flags...)
			}
			code, stdout, stderr := meshvmctl(t, args...)
			if code != test.code || (stderr != "") != (code == exitUnreachable) {
				t.Fatalf("exit %d, want %d; stderr %q", code, test.code, stderr)
			}
			if code != exitFound {
				return
			}
			var e explain.Explanation
			if err := json.NewDecoder(strings.NewReader(stdout)).Decode(&e); err != nil {
				t.Fatal(err)
			}
			if e.Namespace != "prod" || len(e.Records) != 1 || e.Records[0].Value != "10.0.0.2" {
				t.Errorf("seen from %q: %v, want prod's 10.0.0.2", e.Namespace, e.Records)
			}
		})
	}
}
