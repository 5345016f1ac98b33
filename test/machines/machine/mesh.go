package machine

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
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/meshvm/meshvm/deploy/vm/bootstrap"
	"github.com/meshvm/meshvm/test/controlplane"
)

// issuer issues the tokens of the mesh's ServiceAccounts.
const issuer = "https://kubernetes.default.svc"

// mesh is the registry's side of a site: a syncer that serves the example manifests over TLS to who has a token.
type mesh struct {
	tb     testing.TB
	folder string
	router string            // its network namespace
	key    *ecdsa.PrivateKey // signs tokens
	syncer *process
}

func newMesh(tb testing.TB, site *Site) *mesh {
	tb.Helper()
	m := &mesh{tb: tb, folder: filepath.Join(site.folder, "mesh"), router: site.router}
	check(tb, os.Mkdir(m.folder, 0o700))
	m.writeCertificates()
	m.writeKeys()
	m.start()
	tb.Cleanup(func() { m.syncer.stop(tb) })
	return m
}

func (m *mesh) start() {
	m.tb.Helper()
	repository, err := Repository()
	check(m.tb, err)
	m.syncer = start(m.tb, "meshvm-syncer", m.router, filepath.Join(repository, "bin", "meshvm-syncer"),
		"--manifests", filepath.Join(repository, "deploy", "quickstart"), "--listen", syncer, "--http-listen", Router+":15055",
		"--tls-cert-file", m.file("syncer.pem"), "--tls-private-key-file", m.file("syncer-key.pem"),
		"--token-jwks", m.file("keys.json"), "--token-issuer", issuer, "--authorization", "identity")
}

// StopSyncer ends the syncer of the site, until what it returns is called.
func (s *Site) StopSyncer() (resume func()) {
	s.tb.Helper()
	s.mesh.syncer.stop(s.tb)
	return s.mesh.start
}

func (m *mesh) file(name string) string { return filepath.Join(m.folder, name) }

// writeCertificates writes an authority and a certificate of it for the syncer.
func (m *mesh) writeCertificates() {
	m.tb.Helper()
	now := time.Now()
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mesh root"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "meshvm-syncer"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		IPAddresses: []net.IP{net.ParseIP(Router)}, DNSNames: []string{"meshvm-syncer.meshvm.svc"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(m.tb, err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(m.tb, err)
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	check(m.tb, err)
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey)
	check(m.tb, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	check(m.tb, err)
	m.writePEM("ca.pem", "CERTIFICATE", rootDER)
	m.writePEM("syncer.pem", "CERTIFICATE", leafDER)
	m.writePEM("syncer-key.pem", "PRIVATE KEY", keyDER)
}

func (m *mesh) writePEM(name, kind string, der []byte) {
	m.tb.Helper()
	check(m.tb, os.WriteFile(m.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// writeKeys writes the key set that tokens are verified with.
func (m *mesh) writeKeys() {
	m.tb.Helper()
	var err error
	m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(m.tb, err)
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: m.key.Public(), KeyID: "a", Algorithm: string(jose.ES256), Use: "sig"}}})
	check(m.tb, err)
	check(m.tb, os.WriteFile(m.file("keys.json"), keys, 0o600))
}

// Bundle writes what meshvmctl bootstrap writes for ServiceAccount vm of namespace default into a folder.
func (s *Site) Bundle(folder string) {
	s.tb.Helper()
	corefile, err := bootstrap.Machine{
		Account: bootstrap.Account{Namespace: "default", Name: "vm"}, Syncers: []string{syncer}, ServerName: "meshvm-syncer.meshvm.svc",
		ClusterDomain: "cluster.local", Directory: bootstrap.InstallDirectory,
	}.Corefile()
	check(s.tb, err)
	token, err := controlplane.Token{
		Issuer: issuer, Namespace: "default", ServiceAccount: "vm", UID: "5d1c9e3e-8a7e-4b57-9d7a-0a4c1f0b2c3d", Audience: []string{"meshvm"},
		NotBefore: time.Now().Add(-time.Minute), Expires: time.Now().Add(24 * time.Hour), KeyID: "a",
	}.Sign(jose.ES256, s.mesh.key)
	check(s.tb, err)
	authority, err := os.ReadFile(s.mesh.file("ca.pem"))
	check(s.tb, err)
	check(s.tb, os.MkdirAll(folder, 0o755)) //nolint:gosec // as meshvmctl bootstrap makes it
	check(s.tb, os.WriteFile(filepath.Join(folder, "Corefile"), []byte(corefile), 0o600))
	check(s.tb, os.WriteFile(filepath.Join(folder, "ca.pem"), authority, 0o600))
	check(s.tb, os.WriteFile(filepath.Join(folder, "token"), []byte(token+"\n"), 0o600))
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
