package identity

import (
	"context"
	"regexp"
	"time"
)

// Method is how an identity was proved, in a word, for metrics and logs.
type Method string

// Methods.
const (
	MethodNone        Method = "none" // plaintext on loopback
	MethodCertificate Method = "certificate"
	MethodTokenReview Method = "token_review"
	MethodJWKS        Method = "jwks"
)

// Identity is who a VM is proved to be. The zero value is nobody.
type Identity struct {
	Method Method
	// Name is the SPIFFE ID, or the user name of the ServiceAccount (system:serviceaccount:NAMESPACE:NAME).
	// Streams are counted by it, and people are told of it. It is printable.
	Name string
	// TrustDomain is that of a SPIFFE ID, empty for a token: one cluster speaks for one trust domain.
	TrustDomain string
	// Namespace and ServiceAccount are those of the account. Empty: the credential names none.
	Namespace, ServiceAccount string
	// Expires is when the credential ends. Zero: never.
	Expires time.Time
	// User is who RBAC is asked about.
	User User
}

// User is an identity as Kubernetes' authorizers know it.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// ServiceAccountUser is the user that a ServiceAccount is when it asks the API server itself, with the groups
// that the API server gives it.
func ServiceAccountUser(namespace, name string) User {
	return User{
		Name:   "system:serviceaccount:" + namespace + ":" + name,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
}

// TokenAuthenticator finds out whose a bearer token is.
type TokenAuthenticator interface {
	// Authenticate verifies a token. It is asked again and again while a stream lives, and then answers with what is
	// true now, but for what it may keep as its documentation says. A token that is not good is a *Refusal; any other error means that nobody
	// can tell at present. No error and no log line holds the token or a part of it. Many may call it at once; it is bounded in
	// time by ctx.
	Authenticate(ctx context.Context, token string) (Identity, error)
}

// Authorizer decides whether an identity may watch the registry of its namespace.
type Authorizer interface {
	// Authorize returns nil where the identity may watch. A *Refusal says that it may not, and what to grant;
	// any other error means that nobody can tell at present. It is asked again while a stream lives. Many may call it at once.
	Authorize(ctx context.Context, who Identity) error
}

// namespaceName is RFC 1123's label, which every Kubernetes namespace is.
var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// accountName is RFC 1123's subdomain, which every ServiceAccount's name is.
var accountName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// IsNamespace reports whether a name can be a namespace's.
func IsNamespace(name string) bool { return namespaceName.MatchString(name) }

// IsServiceAccount reports whether a name can be a ServiceAccount's.
func IsServiceAccount(name string) bool { return len(name) <= 253 && accountName.MatchString(name) }
