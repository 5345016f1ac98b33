package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// FromCertificate is the identity of the client certificate of a connection whose handshake has verified it. By
// Istio's form of a SPIFFE ID, spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT, it is a ServiceAccount's. A
// certificate without a SPIFFE ID is an identity without a namespace, named by its fingerprint. It fails with a
// *Refusal where a SPIFFE ID is there and cannot be relied on.
func FromCertificate(state tls.ConnectionState) (Identity, error) {
	certificate := state.PeerCertificates[0]
	who := Identity{Method: MethodCertificate, Expires: expiry(state)}
	id, err := spiffeID(certificate)
	switch {
	case err != nil:
		return Identity{}, err
	case id == nil:
		who.Name = fmt.Sprintf("the certificate with SHA-256 %x", sha256.Sum256(certificate.Raw))
		return who, nil
	}
	who.Namespace, who.ServiceAccount, err = serviceAccount(id)
	if err != nil {
		return Identity{}, err
	}
	who.Name, who.TrustDomain = id.String(), id.Host
	who.User = ServiceAccountUser(who.Namespace, who.ServiceAccount)
	return who, nil
}

// spiffeID is the certificate's SPIFFE ID, nil where it has none. An X.509-SVID has exactly one URI
// (SPIFFE X.509-SVID, section 2); two of them are a mistake that nobody should profit from.
func spiffeID(certificate *x509.Certificate) (*url.URL, error) {
	var id *url.URL
	for _, uri := range certificate.URIs {
		if uri.Scheme == "spiffe" {
			id = uri
		}
	}
	if id != nil && len(certificate.URIs) > 1 {
		return nil, Refuse(ReasonMalformed, "the client certificate has %d URIs beside or among its SPIFFE ID: want one", len(certificate.URIs))
	}
	return id, nil
}

// serviceAccount reads Istio's form of a SPIFFE ID. Nothing that other forms of URLs allow, such as a user, a port, a
// query or escapes, is one (SPIFFE ID, section 2).
func serviceAccount(id *url.URL) (namespace, name string, err error) {
	parts := strings.Split(id.Path, "/")
	if id.Host == "" || len(parts) != 5 || parts[0] != "" || parts[1] != "ns" || parts[3] != "sa" || !IsServiceAccount(parts[4]) ||
		!IsNamespace(parts[2]) || id.String() != "spiffe://"+id.Host+id.Path {
		return "", "", Refuse(ReasonMalformed, "the client certificate's SPIFFE ID %q names no ServiceAccount: want spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT", id)
	}
	return parts[2], parts[4], nil
}

// expiry is when the last of the chains that were verified ends. Of a chain, the first certificate to end ends it.
// Of a state without chains, as in plain tests, it is the certificate's own.
func expiry(state tls.ConnectionState) time.Time {
	var last time.Time
	for _, chain := range state.VerifiedChains {
		if ends := firstToEnd(chain); ends.After(last) {
			last = ends
		}
	}
	if last.IsZero() {
		return firstToEnd(state.PeerCertificates[:1])
	}
	return last
}

func firstToEnd(chain []*x509.Certificate) time.Time {
	ends := chain[0].NotAfter
	for _, certificate := range chain[1:] {
		if certificate.NotAfter.Before(ends) {
			ends = certificate.NotAfter
		}
	}
	return ends
}

// Verify reports, as a *Refusal, that a client certificate which was verified in its handshake is not trusted any more: its authority
// is not among these, or its time is over.
func Verify(state tls.ConnectionState, authorities *x509.CertPool, now time.Time) error {
	intermediates := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots:         authorities,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	switch {
	case err == nil:
		return nil
	case now.After(state.PeerCertificates[0].NotAfter):
		return Expired("client certificate", state.PeerCertificates[0].NotAfter)
	default:
		return Refuse(ReasonRevoked, "the client certificate is not trusted any more: %v", err)
	}
}
