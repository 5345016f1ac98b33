package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/registry"
)

// accounts are tokens, whose they are, and which accounts may watch. What is not there is revoked, or denied.
type accounts struct {
	mu     sync.Mutex
	tokens map[string]identity.Identity
	denied map[string]bool
	// broken is what both fail with while nobody can tell.
	broken error
	asked  int
}

func tokenOf(namespace, name string, expires time.Time) identity.Identity {
	user := identity.ServiceAccountUser(namespace, name)
	return identity.Identity{Method: identity.MethodTokenReview, Name: user.Name, Namespace: namespace, ServiceAccount: name, Expires: expires, User: user}
}

func (a *accounts) Authenticate(_ context.Context, token string) (identity.Identity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if a.broken != nil {
		return identity.Identity{}, a.broken
	}
	who, found := a.tokens[token]
	if !found {
		return identity.Identity{}, identity.Refuse(identity.ReasonRevoked, "the token was revoked")
	}
	return who, nil
}

func (a *accounts) Authorize(_ context.Context, who identity.Identity) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.broken != nil:
		return a.broken
	case a.denied[who.Name] || who.Namespace == "":
		return identity.Refuse(identity.ReasonForbidden, "%s may not watch: grant it", who.Name)
	}
	return nil
}

func (a *accounts) edit(edit func(*accounts)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	edit(a)
}

// withToken sends a value of the authorization header with every stream, over plaintext.
type withToken string

func (w withToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": string(w)}, nil
}

func (withToken) RequireTransportSecurity() bool { return false }

// arrive opens a stream and returns it with what came of its Hello.
func arrive(t *testing.T, client registryv1.RegistryClient, namespace string) (registryv1.Registry_WatchClient, *registryv1.WatchResponse, error) {
	t.Helper()
	stream, err := client.Watch(t.Context())
	if err != nil {
		return nil, nil, err
	}
	_ = stream.Send(helloOf(&registryv1.Hello{Namespace: namespace, Node: "vm-1"})) // Recv says why
	response, err := stream.Recv()
	return stream, response, err
}

// reasonTold is the reason that a status gives in google.rpc.ErrorInfo, and how long it asks the VM to stay away.
func reasonTold(err error) (reason string, hint time.Duration) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.GetReason()
		case *errdetails.RetryInfo:
			hint = detail.GetRetryDelay().AsDuration()
		}
	}
	return reason, hint
}

func TestIdentify(t *testing.T) {
	ours := newAuthority(t, "ours")
	secure := func(uri string, with bool) grpc.DialOption {
		if !with {
			return as(t, ours.pool(), nil, "")
		}
		return as(t, ours.pool(), ours, uri)
	}
	const prod = "spiffe://cluster.local/ns/prod/sa/vm"
	type vm struct {
		tls                  bool
		certificate          bool
		uri, authorization   string
		tokensAreOff, rbac   bool
		claims, view, reason string
		code                 codes.Code
	}
	tests := map[string]vm{
		"plaintext, a claim counts":                {tokensAreOff: true, claims: "prod", view: "prod"},
		"plaintext, no claim":                      {tokensAreOff: true},
		"plaintext, the claim is no namespace":     {tokensAreOff: true, claims: "a.b", code: codes.InvalidArgument},
		"plaintext, a token that nobody looks at":  {tokensAreOff: true, authorization: "Bearer secret-prod", claims: "dev", view: "dev"},
		"plaintext, a token":                       {authorization: "Bearer secret-prod", view: "prod"},
		"plaintext, a token and another namespace": {authorization: "Bearer secret-prod", claims: "dev", code: codes.PermissionDenied, reason: "NAMESPACE"},
		"plaintext, tokens wanted and none there":  {claims: "prod", code: codes.Unauthenticated, reason: "MISSING"},
		"a token":                                   {tls: true, authorization: "Bearer secret-prod", view: "prod"},
		"a token, the scheme in small letters":      {tls: true, authorization: "bearer secret-prod", view: "prod"},
		"a token and the same namespace":            {tls: true, authorization: "Bearer secret-prod", claims: "prod", view: "prod"},
		"a token and another namespace":             {tls: true, authorization: "Bearer secret-prod", claims: "dev", code: codes.PermissionDenied, reason: "NAMESPACE"},
		"a token of nobody":                         {tls: true, authorization: "Bearer secret-other", code: codes.Unauthenticated, reason: "REVOKED"},
		"a token that has expired":                  {tls: true, authorization: "Bearer secret-old", code: codes.Unauthenticated, reason: "EXPIRED"},
		"a password":                                {tls: true, authorization: "Basic secret-prod", code: codes.Unauthenticated, reason: "MALFORMED"},
		"no scheme":                                 {tls: true, authorization: "secret-prod", code: codes.Unauthenticated, reason: "MALFORMED"},
		"an empty token":                            {tls: true, authorization: "Bearer ", code: codes.Unauthenticated, reason: "MALFORMED"},
		"neither certificate nor token":             {tls: true, code: codes.Unauthenticated, reason: "MISSING"},
		"a certificate":                             {tls: true, certificate: true, uri: prod, view: "prod"},
		"a certificate decides, not the token":      {tls: true, certificate: true, uri: prod, authorization: "Bearer secret-dev", view: "prod"},
		"a certificate that names none, and token":  {tls: true, certificate: true, authorization: "Bearer secret-prod", claims: "prod", view: "prod"},
		"a certificate that names none":             {tls: true, certificate: true},
		"a certificate that names none, and claims": {tls: true, certificate: true, claims: "prod", code: codes.PermissionDenied, reason: "NAMESPACE"},
		"a certificate with a bad SPIFFE ID":        {tls: true, certificate: true, uri: "spiffe://a/vm", authorization: "Bearer secret-prod", code: codes.Unauthenticated, reason: "MALFORMED"},
		"RBAC, a token":                             {tls: true, authorization: "Bearer secret-prod", rbac: true, view: "prod"},
		"RBAC, a token that may not":                {tls: true, authorization: "Bearer secret-dev", rbac: true, code: codes.PermissionDenied, reason: "FORBIDDEN"},
		"RBAC, a certificate":                       {tls: true, certificate: true, uri: prod, rbac: true, view: "prod"},
		"RBAC, a certificate that names none":       {tls: true, certificate: true, rbac: true, code: codes.PermissionDenied, reason: "FORBIDDEN"},
		"RBAC, plaintext without a token":           {tokensAreOff: true, claims: "prod", rbac: true, code: codes.PermissionDenied, reason: "FORBIDDEN"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			directory := &accounts{
				tokens: map[string]identity.Identity{
					"secret-prod": tokenOf("prod", "vm", time.Time{}),
					"secret-dev":  tokenOf("dev", "vm", time.Time{}),
					"secret-old":  tokenOf("prod", "vm", time.Now().Add(-time.Second)),
				},
				denied: map[string]bool{"system:serviceaccount:dev:vm": true},
			}
			files := writeTLS(t, ours, ours)
			s := start(t, func(o *Options) {
				if test.tls {
					o.TLS = &files
				}
				if !test.tokensAreOff {
					o.Tokens = directory
				}
				if test.rbac {
					o.Authorizer = directory
				}
			})
			options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
			if test.tls {
				options[0] = secure(test.uri, test.certificate)
			}
			if test.authorization != "" {
				options = append(options, grpc.WithPerRPCCredentials(withToken(test.authorization)))
			}
			_, response, err := arrive(t, s.dialWith(options...), test.claims)
			reason, hint := reasonTold(err)
			if status.Code(err) != test.code || reason != test.reason {
				t.Fatalf("Watch: got %v with reason %q, want %v with %q", err, reason, test.code, test.reason)
			}
			if got := response.GetWelcome().GetView(); got != test.view {
				t.Errorf("view: got %q, want %q", got, test.view)
			}
			if test.reason != "" && hint < refusedHint {
				t.Errorf("RetryInfo: got %s, want at least %s", hint, refusedHint)
			}
			if strings.Contains(s.logs.String(), "secret-") {
				t.Errorf("log: got\n%s\nwant no token in it", s.logs)
			}
		})
	}
}

func TestRefusalsTellNothingOfOthers(t *testing.T) {
	directory := &accounts{tokens: map[string]identity.Identity{"prod": tokenOf("prod", "vm", time.Time{})}}
	s := startUnsynced(t, registry.Options{}, func(o *Options) { o.Tokens = directory })
	refusalOf := func(token string) error {
		_, _, err := arrive(t, s.dialWith(grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(withToken("Bearer "+token))), "")
		return err
	}
	t.Run("a stranger does not learn what the syncer waits for", func(t *testing.T) {
		if err := refusalOf("other"); status.Code(err) != codes.Unauthenticated {
			t.Errorf("Watch: got %v, want %v", err, codes.Unauthenticated)
		}
		if err := refusalOf("prod"); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "not ready") {
			t.Errorf("Watch: got %v, want that the syncer is not ready", err)
		}
	})
	t.Run("why nobody can tell stays here", func(t *testing.T) {
		directory.edit(func(a *accounts) { a.broken = errors.New("dial 10.9.8.7: connection refused") })
		err := refusalOf("prod")
		if status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "10.9.8.7") {
			t.Errorf("Watch: got %v, want %v without the API server's address", err, codes.Unavailable)
		}
		if !strings.Contains(s.logs.String(), "10.9.8.7") {
			t.Errorf("log: got\n%s\nwant it to say why", s.logs)
		}
	})
}

func TestRefusalsAreLoggedOnceInAWhile(t *testing.T) {
	var log refusals
	now := time.Now()
	first := refusalKey{"a", identity.ReasonExpired}
	for _, step := range []struct {
		what string
		key  refusalKey
		at   time.Time
		want bool
	}{
		{"the first time", first, now, true},
		{"again", first, now.Add(time.Minute), false},
		{"for another reason", refusalKey{"a", identity.ReasonForbidden}, now.Add(time.Minute), true},
		{"somebody else", refusalKey{"b", identity.ReasonExpired}, now.Add(time.Minute), true},
		{"after the interval", first, now.Add(refusalInterval), true},
	} {
		if got := log.first(step.key, step.at); got != step.want {
			t.Errorf("%s: got %t, want %t", step.what, got, step.want)
		}
	}
	for i := range 3 * refusalsAtOnce {
		log.first(refusalKey{strings.Repeat("x", i%100) + string(rune(i)), identity.ReasonMissing}, now)
	}
	if got := len(log.seen); got > refusalsAtOnce {
		t.Errorf("remembered: got %d, want at most %d", got, refusalsAtOnce)
	}
}

func TestSourcesOfStrangers(t *testing.T) {
	var got []string
	for _, address := range []string{"192.0.2.1:5", "[2001:db8::1]:5", "[2001:db8::2]:5", "[::ffff:192.0.2.1]:5", "@"} {
		got = append(got, sourceKey(hostOf(address)))
	}
	want := []string{"192.0.2.1", "2001:db8::/64", "2001:db8::/64", "192.0.2.1", "invalid IP"}
	if !slices.Equal(got, want) {
		t.Errorf("sources: got %q, want %q", got, want)
	}
}

func TestPrintable(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"plain":                {"vm-1.example.com", "vm-1.example.com"},
		"beyond ASCII":         {"größe", "größe"},
		"control characters":   {"a\x1b[2J\nb\x00", "a?[2J?b?"},
		"broken UTF-8":         {"a\xffb", "a?b"},
		"too long":             {strings.Repeat("x", 40), strings.Repeat("x", 20)},
		"cut within character": {strings.Repeat("x", 19) + "ö", strings.Repeat("x", 19) + "?"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := printable(test.in, 20); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
