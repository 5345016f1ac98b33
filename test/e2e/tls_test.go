package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// authority is a certificate authority of a mesh.
type authority struct {
	t      *testing.T
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, folder: t.TempDir()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "mesh root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = a.issue("root-cert", template)
	return a
}

// issue writes a certificate, good for an hour, and its key as NAME.pem and NAME-key.pem, signed by the authority or, for
// its own, by itself.
func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	return a.issueAsIs(name, template)
}

// issueAsIs is issue of a certificate with times of its own.
func (a *authority) issueAsIs(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	write(a.t, a.folder, name+"-key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})))
	write(a.t, a.folder, name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return cert, key
}

// server issues a certificate for loopback, and client one as Istio gives it to a workload of a
// namespace.
func (a *authority) server(name string) {
	a.issue(name, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func (a *authority) client(name, namespace string) {
	spiffe := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/" + namespace + "/sa/default"}
	a.issue(name, &x509.Certificate{
		URIs: []*url.URL{spiffe}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (a *authority) file(name string) string { return filepath.Join(a.folder, name+".pem") }

// lines are the tls options of a Corefile.
func (a *authority) lines(client string) []string {
	return []string{fmt.Sprintf("tls %s %s %s", a.file(client), a.file(client+"-key"), a.file("root-cert"))}
}

func (a *authority) syncer(folder, server string, flags ...string) (*programs.Process, string) {
	a.t.Helper()
	address := programs.FreeAddress(a.t)
	flags = append([]string{"--manifests", folder, "--listen", address, "--http-listen", programs.FreeAddress(a.t),
		"--tls-cert-file", a.file(server), "--tls-private-key-file", a.file(server + "-key"), "--client-ca-file", a.file("root-cert")}, flags...)
	return programs.Start(a.t, programs.Syncer, flags...), address
}

func TestMutualTLS(t *testing.T) {
	mesh, stranger := newAuthority(t), newAuthority(t)
	mesh.server("server")
	mesh.client("vm", "prod")
	stranger.client("vm", "prod")
	folder := t.TempDir()
	private := strings.Replace(reviewsAt("10.96.0.1"), "namespace: prod}", `namespace: prod, annotations: {networking.istio.io/exportTo: "."}}`, 1)
	write(t, folder, "reviews.yaml", private)
	_, address := mesh.syncer(folder, "server")

	t.Run("the identity's namespace is the view", func(t *testing.T) {
		m := newMachine(t, []string{address}, append(mesh.lines("vm"), "namespace prod")...)
		m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")

		// The agent renews the certificate; the syncer goes and another comes with a certificate of its own.
		mesh.client("vm", "prod")
		mesh.server("server")
		write(t, folder, "reviews.yaml", strings.ReplaceAll(private, "10.96.0.1", "10.96.0.2"))
		m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.2")
	})

	t.Run("a Corefile that says another namespace", func(t *testing.T) {
		m := newMachine(t, []string{address}, append(mesh.lines("vm"), "namespace dev")...)
		m.coredns.WaitFor(t, `the VM says that it is of namespace \"dev\", and spiffe://cluster.local/ns/prod/sa/default is of \"prod\"`)
		m.answersNow("reviews.prod.svc.cluster.local.", dns.TypeA, "SERVFAIL")
	})

	t.Run("a certificate of a strange authority", func(t *testing.T) {
		lines := []string{fmt.Sprintf("tls %s %s %s", stranger.file("vm"), stranger.file("vm-key"), mesh.file("root-cert"))}
		m := newMachine(t, []string{address}, lines...)
		m.coredns.WaitFor(t, "cannot follow syncer")
		m.answersNow("reviews.prod.svc.cluster.local.", dns.TypeA, "SERVFAIL")
	})

	t.Run("a syncer of a strange authority", func(t *testing.T) {
		lines := []string{fmt.Sprintf("tls %s %s %s", mesh.file("vm"), mesh.file("vm-key"), stranger.file("root-cert"))}
		m := newMachine(t, []string{address}, lines...)
		m.coredns.WaitFor(t, "unknown authority")
		m.answersNow("reviews.prod.svc.cluster.local.", dns.TypeA, "SERVFAIL")
	})

	t.Run("no certificate", func(t *testing.T) {
		m := newMachine(t, []string{address}, "tls "+mesh.file("root-cert"))
		m.coredns.WaitFor(t, "cannot follow syncer")
		m.answersNow("reviews.prod.svc.cluster.local.", dns.TypeA, "SERVFAIL")
	})

	t.Run("renewed authority, syncer and VM not restarted", func(t *testing.T) {
		m := newMachine(t, []string{address}, append(mesh.lines("vm"), "namespace prod")...)
		m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.2")
		renewed := newAuthority(t)
		renewed.server("server")
		renewed.client("vm", "prod")
		for _, name := range []string{"server", "server-key", "vm", "vm-key", "root-cert"} {
			content, err := os.ReadFile(renewed.file(name))
			if err != nil {
				t.Fatal(err)
			}
			write(t, mesh.folder, name+".pem", string(content))
		}
		again := newMachine(t, []string{address}, append(mesh.lines("vm"), "namespace prod")...)
		again.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.2")
	})
}
