package server

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// trustDomains are the trust domains whose identities are taken. Empty: all, the certificate's authority
// decides alone.
type trustDomains []string

// SetTrustDomains has the server take SPIFFE IDs of these trust domains only: that of the mesh, and its
// aliases. Without any it takes those of all. Streams of identities that are no longer taken end. It may be
// called at any time.
func (s *Server) SetTrustDomains(domains ...string) {
	trusted := trustDomains(slices.Clone(domains))
	s.trusted.Store(&trusted) // Before looking at the streams: see stream.serve.
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		if err := trusted.check(st.who); err != nil {
			s.warn("watch ended: its trust domain is no longer that of the mesh", "node", st.who.node, "identity", st.who.identity, "address", st.who.address)
			st.end(err)
		}
	}
}

// trust is the trust domains at present.
func (s *Server) trust() trustDomains {
	if trusted := s.trusted.Load(); trusted != nil {
		return *trusted
	}
	return nil
}

// check refuses an identity of another trust domain. Where there is no SPIFFE ID there is nothing to check.
func (t trustDomains) check(who watcher) error {
	if who.identity == "" || len(t) == 0 || slices.Contains(t, who.trustDomain) {
		return nil
	}
	return status.Errorf(codes.PermissionDenied, "the client certificate's SPIFFE ID %q is of trust domain %q: the mesh takes %s",
		who.identity, who.trustDomain, strings.Join(t, ", "))
}
