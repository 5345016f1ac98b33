package watch

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// IsSPIFFEID reports whether the name expected in a syncer's certificate is a SPIFFE ID and not a DNS name: a mesh's own authority
// gives its workloads certificates with no other name.
func IsSPIFFEID(name string) bool { return strings.HasPrefix(name, "spiffe://") }

// CheckSPIFFEID reports what is wrong with a SPIFFE ID (SPIFFE ID, section 2), which is expected in a certificate as it is written.
func CheckSPIFFEID(name string) error {
	id, err := url.Parse(name)
	if err != nil || id.Scheme != "spiffe" || id.Host == "" || len(id.Path) < 2 || strings.HasSuffix(id.Path, "/") || name != "spiffe://"+id.Host+id.Path {
		return fmt.Errorf("%q is no SPIFFE ID: want spiffe://TRUST_DOMAIN/PATH, such as spiffe://cluster.local/ns/meshvm/sa/meshvm-syncer", name)
	}
	return nil
}

// expectSPIFFEID has a configuration accept, in place of a host's name, that one SPIFFE ID and no other: every workload of
// the mesh has a certificate of the same authority.
func expectSPIFFEID(config *tls.Config, id string) {
	config.ServerName = ""
	// crypto/tls verifies the chain and the host's name together or not at all; here is the chain with another name.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("x509: the syncer shows no certificate")
		}
		intermediates := x509.NewCertPool()
		for _, certificate := range state.PeerCertificates[1:] {
			intermediates.AddCert(certificate)
		}
		leaf := state.PeerCertificates[0]
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: config.RootCAs, Intermediates: intermediates}); err != nil {
			return err
		}
		if len(leaf.URIs) != 1 || leaf.URIs[0].String() != id {
			return fmt.Errorf("x509: the syncer's certificate is for %v, not for %s", leaf.URIs, id)
		}
		return nil
	}
}
