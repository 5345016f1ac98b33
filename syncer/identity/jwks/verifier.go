package jwks

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/identity/claims"
)

// leeway is by how much clocks may differ: a token is good that much before its time. It ends when it says so, for that is when a stream
// ends that was let in by it.
const leeway = 30 * time.Second

// Config of a Verifier.
type Config struct {
	// Source of the issuer's keys.
	Source Source
	// Issuer that tokens must be of. Empty: the one that the source says.
	Issuer string
	// Audience that tokens must be for.
	Audience string
	// Log receives structured logs. Nil: none.
	Log *slog.Logger
	// Metrics is where metrics are registered. Nil: nowhere.
	Metrics prometheus.Registerer
	// Refresh is how often keys are fetched. Zero: as is right for the source.
	Refresh time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Verifier is an identity.TokenAuthenticator that asks nobody.
type Verifier struct {
	keys     *keyring
	audience string
	refresh  time.Duration
	now      func() time.Time
}

// New returns a Verifier. It has no keys before Run, or the first token, fetches them.
func New(config Config) (*Verifier, error) {
	counts, err := newMetrics(config.Metrics)
	if err != nil {
		return nil, err
	}
	log := config.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	now := config.Now
	if now == nil {
		now = time.Now
	}
	refresh := config.Refresh
	if refresh == 0 {
		refresh = config.Source.Refresh()
	}
	return &Verifier{
		keys: &keyring{
			source: config.Source, wanted: config.Issuer, log: log, metrics: counts, now: now,
			fetching: make(chan struct{}, 1),
		},
		audience: config.Audience,
		refresh:  refresh,
		now:      now,
	}, nil
}

// Load fetches the keys now, for those who would rather fail at once than later.
func (v *Verifier) Load(ctx context.Context) error { return v.keys.refresh(ctx) }

// Run keeps the keys fresh until the context ends. Faults are logged and counted, and tried again.
func (v *Verifier) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		wait := v.refresh
		if v.keys.refresh(ctx) != nil {
			wait = min(wait, fetchInterval)
		}
		timer.Reset(wait)
	}
}

// Authenticate implements identity.TokenAuthenticator. The package says what it cannot see.
func (v *Verifier) Authenticate(ctx context.Context, token string) (identity.Identity, error) {
	said, err := claims.Unverified(token)
	if err != nil {
		return identity.Identity{}, err
	}
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return identity.Identity{}, identity.Refuse(identity.ReasonUntrusted, "the token is not signed, or not with one of the algorithms %v", algorithms)
	}
	trusted := v.keys.current()
	if trusted == nil {
		if trusted, err = v.keys.fresh(ctx); err != nil {
			return identity.Identity{}, err
		}
	}
	if said.Issuer != trusted.issuer {
		return identity.Identity{}, identity.Refuse(identity.ReasonUntrusted, "the token is of an issuer that the syncer does not trust: get one from the cluster that the syncer serves")
	}
	payload, err := v.verify(ctx, signed, trusted)
	if err != nil {
		return identity.Identity{}, err
	}
	proved, err := claims.Parse(payload)
	if err != nil {
		return identity.Identity{}, fmt.Errorf("read a verified token: %w", err)
	}
	return v.judge(proved)
}

// verify returns the payload if a key of the issuer has signed it.
func (v *Verifier) verify(ctx context.Context, signed *jose.JSONWebSignature, trusted *keys) ([]byte, error) {
	header := signed.Signatures[0].Protected
	named := candidates(trusted.keys, header)
	if len(named) == 0 {
		// It may be newer than what is known.
		fresh, err := v.keys.fresh(ctx)
		if err != nil {
			return nil, err
		}
		named = candidates(fresh.keys, header)
	}
	for _, key := range named {
		if payload, err := signed.Verify(key); err == nil {
			return payload, nil
		}
	}
	return nil, identity.Refuse(identity.ReasonUntrusted, "no key of the issuer has signed the token, or one that it has withdrawn: get a new one with `meshvmctl token` or `kubectl create token`")
}

// judge says whose a verified token is, if it is good here and now.
func (v *Verifier) judge(c claims.Claims) (identity.Identity, error) {
	now := v.now()
	switch {
	case c.Expires.IsZero():
		return identity.Identity{}, identity.Refuse(identity.ReasonMalformed, "the token never ends: want one with an end, as `meshvmctl token` or `kubectl create token` get it")
	case !now.Before(c.Expires):
		return identity.Identity{}, identity.Expired("token", c.Expires)
	case c.NotBefore.After(now.Add(leeway)):
		return identity.Identity{}, identity.Refuse(identity.ReasonExpired, "the token is not good before %s: look at this machine's clock, and at the issuer's", c.NotBefore.UTC().Format(time.RFC3339))
	case !slices.Contains(c.Audience, v.audience):
		return identity.Identity{}, claims.WrongAudience(v.audience)
	}
	namespace, name, isAccount := claims.Account(c.Subject)
	switch {
	case !isAccount:
		return identity.Identity{}, claims.NotAnAccount()
	case c.Namespace != namespace || c.ServiceAccount != name || c.UID == "":
		return identity.Identity{}, identity.Refuse(identity.ReasonMalformed, "the token's claim kubernetes.io does not name the ServiceAccount of its subject: that is none of Kubernetes")
	}
	return identity.Identity{
		Method: identity.MethodJWKS,
		Name:   c.Subject, Namespace: namespace, ServiceAccount: name,
		Expires: c.Expires, User: user(c, namespace, name),
	}, nil
}

// user is who the API server would say that the token's is, to its authorizers (Kubernetes, serviceaccount.ServiceAccountInfo).
func user(c claims.Claims, namespace, name string) identity.User {
	u := identity.ServiceAccountUser(namespace, name)
	u.UID = c.UID
	for _, extra := range []struct{ key, value string }{
		{"authentication.kubernetes.io/pod-name", c.Pod.Name},
		{"authentication.kubernetes.io/pod-uid", c.Pod.UID},
		{"authentication.kubernetes.io/node-name", c.Node.Name},
		{"authentication.kubernetes.io/node-uid", c.Node.UID},
	} {
		if extra.value == "" {
			continue
		}
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[extra.key] = []string{extra.value}
	}
	return u
}
