package jwks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// fetchInterval is the least time between two fetches, whoever wants them: tokens with made-up key IDs cause no more.
	fetchInterval = 10 * time.Second
	fetchTimeout  = 10 * time.Second
)

// keyring is an issuer and its keys, as they were when they were last fetched.
type keyring struct {
	source  Source
	wanted  string // the issuer, empty: what the source says
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time

	// fetching is held by whoever fetches.
	fetching chan struct{}
	content  []byte // under fetching: what good was read from

	mu      sync.Mutex
	good    *keys
	tried   time.Time // when a fetch began last
	problem error     // of the last fetch
}

// keys are an issuer's.
type keys struct {
	issuer string
	keys   []jose.JSONWebKey
}

// current are the last good keys, nil before the first.
func (k *keyring) current() *keys {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.good
}

// fresh are keys that are no older than the least time between two fetches, so that what is not among them is not the issuer's. It fails
// where they cannot be fetched.
func (k *keyring) fresh(ctx context.Context) (*keys, error) {
	select {
	case k.fetching <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the token keys of %s: %w", k.source, context.Cause(ctx))
	}
	defer func() { <-k.fetching }()
	k.mu.Lock()
	good, problem, lately := k.good, k.problem, !k.tried.IsZero() && k.now().Sub(k.tried) < fetchInterval
	k.mu.Unlock()
	if !lately {
		// A stranger that leaves meanwhile does not undo the fetch, or it could have the next one begin at once.
		return k.fetch(context.WithoutCancel(ctx))
	}
	return good, problem
}

// refresh fetches the keys.
func (k *keyring) refresh(ctx context.Context) error {
	select {
	case k.fetching <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-k.fetching }()
	_, err := k.fetch(ctx)
	return err
}

// fetch fetches the keys. It is for whoever holds fetching.
func (k *keyring) fetch(ctx context.Context) (*keys, error) {
	began := k.now()
	got, err := k.read(ctx)
	if err != nil {
		err = fmt.Errorf("token keys of %s: %w", k.source, err)
	}
	if ctx.Err() != nil && err != nil {
		return nil, err // The syncer ends: that says nothing of the source.
	}
	k.mu.Lock()
	before := k.problem
	k.tried, k.problem = began, err
	if err == nil {
		k.good = got
	}
	k.mu.Unlock()
	if err != nil {
		k.metrics.failures.Inc()
		if before == nil || before.Error() != err.Error() {
			k.log.Error("cannot fetch token keys: the last good ones stay in use", "error", err)
		}
		return nil, err
	}
	k.metrics.fetched.Set(float64(k.now().UnixNano()) / float64(time.Second))
	k.metrics.keys.Set(float64(len(got.keys)))
	return got, nil
}

// read reads the keys from the source.
func (k *keyring) read(ctx context.Context) (*keys, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("no answer within %s", fetchTimeout))
	defer cancel()
	issuer, content, err := k.source.Fetch(ctx)
	switch {
	case err != nil:
		return nil, err
	case issuer == "" && k.wanted == "":
		return nil, errors.New("it does not say whose they are, and no issuer is given")
	case issuer == "":
		issuer = k.wanted
	case k.wanted != "" && issuer != k.wanted:
		return nil, fmt.Errorf("they are of issuer %q, want %q", issuer, k.wanted)
	}
	if good := k.current(); good != nil && good.issuer == issuer && bytes.Equal(content, k.content) {
		return good, nil
	}
	parsed, err := parseKeys(content)
	if err != nil {
		return nil, err
	}
	k.content = content
	k.log.Info("token keys read", "source", k.source.String(), "issuer", issuer, "keys", len(parsed))
	return &keys{issuer, parsed}, nil
}
