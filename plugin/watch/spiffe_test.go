package watch

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// workload is a syncer's side of TLS with a certificate that has these URIs and no name of a host, as a mesh gives it.
func (a *authority) workload(t *testing.T, usage x509.ExtKeyUsage, uris ...string) *tls.Config {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	leaf := sign(t, template, a.certificate, key, a.key)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}}
}

func TestSyncerIsKnownByItsSPIFFEID(t *testing.T) {
	const syncer, other = "spiffe://cluster.local/ns/meshvm/sa/meshvm-syncer", "spiffe://cluster.local/ns/prod/sa/reviews"
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	named, err := tls.LoadX509KeyPair(ours.issue(t, t.TempDir(), "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		server *tls.Config
		want   string
	}{
		"the syncer's":                      {ours.workload(t, x509.ExtKeyUsageServerAuth, syncer), ""},
		"another workload's":                {ours.workload(t, x509.ExtKeyUsageServerAuth, other), "not for " + syncer},
		"several, the syncer's among them":  {ours.workload(t, x509.ExtKeyUsageServerAuth, syncer, other), "not for " + syncer},
		"a name of a host":                  {&tls.Config{Certificates: []tls.Certificate{named}}, "not for " + syncer},
		"the syncer's, of another mesh":     {theirs.workload(t, x509.ExtKeyUsageServerAuth, syncer), "unknown authority"},
		"the syncer's, for clients only":    {ours.workload(t, x509.ExtKeyUsageClientAuth, syncer), "incompatible key usage"},
		"one that begins as the syncer's":   {ours.workload(t, x509.ExtKeyUsageServerAuth, syncer+"-2"), "not for " + syncer},
		"the syncer's, with capital letter": {ours.workload(t, x509.ExtKeyUsageServerAuth, strings.Replace(syncer, "cluster", "Cluster", 1)), "not for " + syncer},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := newTLSSource(TLSFiles{CAFile: ours.file(t, t.TempDir())}, syncer, (&logBook{}).logger())
			if err != nil {
				t.Fatal(err)
			}
			config := source.config().Clone()
			config.ServerName = "127.0.0.1" // as gRPC fills in the address
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				if far, err := listener.Accept(); err == nil {
					_ = tls.Server(far, test.server).HandshakeContext(t.Context()) // the VM's side says how it went
					_ = far.Close()
				}
			}()
			vm, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			err = tls.Client(vm, config).HandshakeContext(t.Context())
			_ = vm.Close() // nothing was sent
			<-answered
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("handshake: got %v, want %q", err, test.want)
			}
		})
	}
}

func TestCheckSPIFFEID(t *testing.T) {
	for id, want := range map[string]bool{
		"spiffe://cluster.local/ns/meshvm/sa/meshvm-syncer": true,
		"spiffe://td/workload":                              true,
		"spiffe://cluster.local":                            false,
		"spiffe://cluster.local/":                           false,
		"spiffe:///ns/a/sa/b":                               false,
		"spiffe://u@td/ns/a/sa/b":                           false,
		"spiffe://td/ns/a/sa/b?q":                           false,
		"spiffe://td/ns/a/sa/b/":                            false,
		"spiffe://td/ns/a/sa/%2f":                           false,
		"spiffe://td/ns/a\nb/sa/b":                          false,
		"https://td/ns/a/sa/b":                              false,
		"SPIFFE://td/ns/a/sa/b":                             false,
		"spiffe://td/ns/a/sa/b#top":                         false,
	} {
		t.Run(id, func(t *testing.T) {
			if err := CheckSPIFFEID(id); (err == nil) != want {
				t.Errorf("CheckSPIFFEID: got %v, want success %t", err, want)
			}
		})
	}
}
