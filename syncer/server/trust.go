package server

import (
	"slices"
	"strings"

	"github.com/meshvm/meshvm/syncer/identity"
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
			st.expel(err)
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
func (t trustDomains) check(who watcher) *identity.Refusal {
	if who.TrustDomain == "" || len(t) == 0 || slices.Contains(t, who.TrustDomain) {
		return nil
	}
	return identity.Refuse(identity.ReasonTrustDomain, "the client certificate's SPIFFE ID %q is of trust domain %q: the mesh takes %s",
		who.Name, who.TrustDomain, strings.Join(t, ", "))
}
