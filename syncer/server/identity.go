package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// namespaceName is RFC 1123's label, which every Kubernetes namespace is.
var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// watcher is who watches.
type watcher struct {
	// namespace whose view is sent. Empty: only what everyone sees.
	namespace string
	// identity is the SPIFFE ID of the certificate, empty where there is none.
	identity string
	// trustDomain is the identity's.
	trustDomain string
	// credential is what the streams of one identity are counted by: the SPIFFE ID or, where there is none,
	// the certificate. Empty without a certificate.
	credential string
	// node and version are the VM's own words, made safe for logs.
	node, version string
	address       string
}

// identify says who watches, by the connection's certificate first and by Hello where that says
// nothing.
func identify(ctx context.Context, hello *registryv1.Hello) (watcher, error) {
	w := watcher{
		namespace: hello.GetNamespace(),
		node:      printable(hello.GetNode(), 253),
		version:   printable(hello.GetVersion(), 64),
	}
	if w.namespace != "" && !namespaceName.MatchString(w.namespace) {
		return watcher{}, status.Errorf(codes.InvalidArgument,
			"hello names namespace %q: want a DNS label (RFC 1123) or nothing", printable(w.namespace, 63))
	}
	from, found := peer.FromContext(ctx)
	if !found {
		return w, nil
	}
	w.address = from.Addr.String()
	info, secure := from.AuthInfo.(credentials.TLSInfo)
	if !secure || len(info.State.PeerCertificates) == 0 {
		return w, nil
	}
	certificate := info.State.PeerCertificates[0]
	w.credential = fmt.Sprintf("the certificate with SHA-256 %x", sha256.Sum256(certificate.Raw))
	id, err := spiffeID(certificate)
	if err != nil {
		return watcher{}, status.Error(codes.PermissionDenied, err.Error())
	}
	if id == nil {
		return w, nil
	}
	w.identity, w.trustDomain = id.String(), id.Host
	w.credential = w.identity
	w.namespace, err = spiffeNamespace(id)
	if err != nil {
		return watcher{}, status.Error(codes.PermissionDenied, err.Error())
	}
	return w, nil
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
		return nil, fmt.Errorf("the client certificate has %d URIs beside or among its SPIFFE ID: want one", len(certificate.URIs))
	}
	return id, nil
}

// spiffeNamespace reads Istio's form of a SPIFFE ID: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT.
func spiffeNamespace(id *url.URL) (string, error) {
	parts := strings.Split(id.Path, "/")
	if id.Host == "" || len(parts) != 5 || parts[0] != "" || parts[1] != "ns" || parts[3] != "sa" ||
		parts[4] == "" || !namespaceName.MatchString(parts[2]) {
		return "", fmt.Errorf("the client certificate's SPIFFE ID %q names no namespace: want spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT", id)
	}
	return parts[2], nil
}

// printable is a stranger's string made safe for logs: at most limit bytes, and nothing that a
// terminal would act on.
func printable(s string, limit int) string {
	s = s[:min(len(s), limit)]
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
