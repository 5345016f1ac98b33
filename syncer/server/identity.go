package server

import (
	"context"
	"crypto/tls"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/identity"
)

// watcher is who watches.
type watcher struct {
	identity.Identity
	// namespace whose view is sent. Empty: only what everyone sees.
	namespace string
	// node and version are the VM's own words, made safe for logs.
	node, version string
	address       string
}

// newWatcher is the VM that says hello, before it is known who it is.
func newWatcher(ctx context.Context, hello *registryv1.Hello) (watcher, error) {
	who := watcher{
		node:    printable(hello.GetNode(), 253),
		version: printable(hello.GetVersion(), 64),
	}
	if from, found := peer.FromContext(ctx); found {
		who.address = from.Addr.String()
	}
	if claimed := hello.GetNamespace(); claimed != "" && !identity.IsNamespace(claimed) {
		return who, status.Errorf(codes.InvalidArgument,
			"hello names namespace %q: want a DNS label (RFC 1123) or nothing", printable(claimed, 63))
	}
	return who, nil
}

// identify finds out who the VM is and which namespace's view is its own. The identity alone says so. What Hello says must agree
// with it, and counts only where nobody asks for an identity: plaintext on loopback.
func (s *Server) identify(ctx context.Context, who *watcher, claimed string) (err error) {
	defer func() { s.metrics.authenticated(*who, err) }()
	proved, err := s.authenticate(ctx)
	if err != nil {
		return err
	}
	who.Identity, who.namespace = proved, proved.Namespace
	switch {
	case proved.Method == identity.MethodNone:
		who.namespace = claimed
	case claimed != "" && proved.Namespace == "":
		return identity.Refuse(identity.ReasonNamespace, "the VM says that it is of namespace %q, and %s names none: "+
			"want a certificate with a SPIFFE ID, or a token; or leave the namespace out, to see only what everybody sees", claimed, proved.Name)
	case claimed != "" && claimed != proved.Namespace:
		return identity.Refuse(identity.ReasonNamespace, "the VM says that it is of namespace %q, and %s is of %q: "+
			"correct `namespace` in the Corefile, or leave it out", claimed, proved.Name, proved.Namespace)
	}
	return nil
}

// authenticate is the identity that a stream's credentials prove: those of its client certificate if it names a ServiceAccount, or
// else its token's. It fails with a *identity.Refusal where they prove none, and otherwise where nobody can tell.
func (s *Server) authenticate(ctx context.Context) (identity.Identity, error) {
	var proved identity.Identity
	if state, found := certificateOf(ctx); found {
		var err error
		if proved, err = identity.FromCertificate(state); err != nil || proved.Namespace != "" {
			return proved, err
		}
	}
	tokens := s.opts.Tokens
	if tokens == nil {
		if proved.Method == "" {
			proved.Method = identity.MethodNone
		}
		return proved, nil
	}
	token, err := bearerToken(ctx)
	switch {
	case err != nil:
		return identity.Identity{}, err
	case token == "" && proved.Method == identity.MethodCertificate:
		return proved, nil
	case token == "":
		return identity.Identity{}, identity.Refuse(identity.ReasonMissing, "there is neither a client certificate nor a token: put `token FILE` or `tls CERT KEY CA` into the Corefile")
	}
	return tokens.Authenticate(ctx, token)
}

// certificateOf is the state of the connection's TLS if a client certificate was verified in its handshake.
func certificateOf(ctx context.Context) (tls.ConnectionState, bool) {
	from, found := peer.FromContext(ctx)
	if !found {
		return tls.ConnectionState{}, false
	}
	info, secure := from.AuthInfo.(credentials.TLSInfo)
	if !secure || len(info.State.PeerCertificates) == 0 {
		return tls.ConnectionState{}, false
	}
	return info.State, true
}

// bearerToken is the token that came with the stream (RFC 6750, section 2.1), empty where there is none.
func bearerToken(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) == 0 {
		return "", nil
	}
	scheme, token, found := strings.Cut(values[0], " ")
	if len(values) > 1 || !found || !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", identity.Refuse(identity.ReasonMalformed, "the authorization is of another form: want one bearer token")
	}
	return token, nil
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
