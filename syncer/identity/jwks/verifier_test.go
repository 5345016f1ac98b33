package jwks

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/test/controlplane"
)

const ours = "https://issuer.example"

// clock runs with the machine's, and can be put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// published is a source that holds whatever a test publishes.
type published struct {
	mu      sync.Mutex
	issuer  string
	keys    []byte
	fault   error
	fetches int
	slow    bool // a fetch fails when who wants it has gone
}

func (p *published) Fetch(ctx context.Context) (string, []byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetches++
	if p.slow && ctx.Err() != nil {
		return "", nil, ctx.Err()
	}
	return p.issuer, p.keys, p.fault
}

func (p *published) Refresh() time.Duration { return time.Hour }
func (p *published) String() string         { return "the test" }

func (p *published) publish(t *testing.T, keys ...jose.JSONWebKey) {
	t.Helper()
	content := keySet(t, keys...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys, p.fault = content, nil
}

func (p *published) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = err
}

func (p *published) fetched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

func keySet(t *testing.T, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	content, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func public(id string, key any) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: id, Use: "sig"}
}

func newVerifier(t testing.TB, config Config) *Verifier {
	t.Helper()
	if config.Audience == "" {
		config.Audience = "meshvm"
	}
	v, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// good is a token that is good, but for its signature.
func good() controlplane.Token {
	return controlplane.Token{
		Issuer: ours, Namespace: "prod", ServiceAccount: "vm", UID: "5b8d", Audience: []string{"meshvm"},
		KeyID: "a", Expires: time.Now().Add(time.Hour),
	}
}

func sign(t testing.TB, algorithm jose.SignatureAlgorithm, key any, change ...func(*controlplane.Token)) string {
	t.Helper()
	token := good()
	for _, change := range change {
		change(&token)
	}
	signed, err := token.Sign(algorithm, key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func named(id string) func(*controlplane.Token) {
	return func(t *controlplane.Token) { t.KeyID = id }
}

// wantRefusal fails the test unless the error is a refusal for the reason, and holds nothing of the token.
func wantRefusal(t *testing.T, err error, want identity.Reason, token string) {
	t.Helper()
	refusal, isRefusal := errors.AsType[*identity.Refusal](err)
	if !isRefusal {
		t.Fatalf("Authenticate: got %v, want a refusal for reason %s", err, want)
	}
	if refusal.Reason != want {
		t.Errorf("reason: got %s (%s), want %s", refusal.Reason, refusal, want)
	}
	wantSecret(t, refusal.Error(), token)
}

func wantSecret(t *testing.T, text, token string) {
	t.Helper()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 8 && strings.Contains(text, part) {
			t.Errorf("%q holds a part of the token", text)
		}
	}
}

// wantUndecided fails the test unless the error says that nobody can tell.
func wantUndecided(t *testing.T, err error) {
	t.Helper()
	if _, isRefusal := errors.AsType[*identity.Refusal](err); err == nil || isRefusal {
		t.Errorf("got %v, want an error that is no refusal", err)
	}
}

func encode(content string) string { return base64.RawURLEncoding.EncodeToString([]byte(content)) }

func TestVerify(t *testing.T) {
	key, other := newKey(t), newKey(t)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rivest, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	source := &published{issuer: ours}
	source.publish(t, public("a", key.Public()), public("e", edwards.Public()), public("r", rivest.Public()),
		jose.JSONWebKey{Key: key.Public(), KeyID: "encrypts", Use: "enc"},
		jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32)), KeyID: "shared"},
		jose.JSONWebKey{Key: rivest.Public(), KeyID: "only-ps", Algorithm: "PS256"})
	v := newVerifier(t, Config{Source: source})
	now := time.Now()
	payload := strings.SplitN(sign(t, jose.ES256, key), ".", 3)[1]
	claims := func(content string) string { // signed with our key
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "a"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign([]byte(content))
		if err != nil {
			t.Fatal(err)
		}
		compact, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return compact
	}
	const rest = `"iss":"` + ours + `","aud":["meshvm"],"exp":99999999999,`
	tests := map[string]struct {
		token string
		want  identity.Reason // empty: it is good
	}{
		"ES256":         {sign(t, jose.ES256, key), ""},
		"without kid":   {sign(t, jose.ES256, key, named("")), ""},
		"EdDSA":         {sign(t, jose.EdDSA, edwards, named("e")), ""},
		"RS256":         {sign(t, jose.RS256, rivest, named("r")), ""},
		"RS512":         {sign(t, jose.RS512, rivest, named("r")), ""},
		"PS256":         {sign(t, jose.PS256, rivest, named("only-ps")), ""},
		"a claim twice": {claims(`{` + rest + `"aud":"meshvm","sub":"system:serviceaccount:prod:vm"}`), identity.ReasonMalformed}, // aud twice

		"another algorithm than the key's":  {sign(t, jose.RS256, rivest, named("only-ps")), identity.ReasonUntrusted},
		"another key of the same ID":        {sign(t, jose.ES256, other), identity.ReasonUntrusted},
		"another key without ID":            {sign(t, jose.ES256, other, named("")), identity.ReasonUntrusted},
		"an unknown key":                    {sign(t, jose.ES256, other, named("b")), identity.ReasonUntrusted},
		"a key for encryption":              {sign(t, jose.ES256, key, named("encrypts")), identity.ReasonUntrusted},
		"the public key as a shared secret": {sign(t, jose.HS256, spki), identity.ReasonUntrusted},
		"a shared secret in the key set":    {sign(t, jose.HS256, []byte(strings.Repeat("k", 32)), named("shared")), identity.ReasonUntrusted},
		"no algorithm":                      {encode(`{"alg":"none","kid":"a"}`) + "." + payload + "." + encode("x"), identity.ReasonUntrusted},
		"no algorithm and no signature":     {encode(`{"alg":"none","kid":"a"}`) + "." + payload + ".", identity.ReasonMalformed},
		"a key of its own in the header":    {ownKey(t, other), identity.ReasonUntrusted},
		"another payload":                   {swapPayload(sign(t, jose.ES256, key), sign(t, jose.ES256, key, func(t *controlplane.Token) { t.Namespace = "dev" })), identity.ReasonUntrusted},

		"another issuer":       {sign(t, jose.ES256, key, func(t *controlplane.Token) { t.Issuer = ours + "/" }), identity.ReasonUntrusted},
		"no issuer":            {sign(t, jose.ES256, key, func(t *controlplane.Token) { t.Issuer = "" }), identity.ReasonUntrusted},
		"another audience":     {sign(t, jose.ES256, key, func(t *controlplane.Token) { t.Audience = []string{"vault", "meshvm2"} }), identity.ReasonAudience},
		"no audience":          {sign(t, jose.ES256, key, func(t *controlplane.Token) { t.Audience = nil }), identity.ReasonAudience},
		"several audiences":    {sign(t, jose.ES256, key, func(t *controlplane.Token) { t.Audience = []string{"vault", "meshvm"} }), ""},
		"expired":              {sign(t, jose.ES256, key, func(t *controlplane.Token) { t.Expires = now.Add(-time.Second) }), identity.ReasonExpired},
		"without end":          {sign(t, jose.ES256, key, func(t *controlplane.Token) { t.Expires = time.Time{} }), identity.ReasonMalformed},
		"not yet good":         {sign(t, jose.ES256, key, func(t *controlplane.Token) { t.NotBefore = now.Add(time.Minute) }), identity.ReasonExpired},
		"good but for a clock": {sign(t, jose.ES256, key, func(t *controlplane.Token) { t.NotBefore = now.Add(20 * time.Second) }), ""},
		"no UID":               {sign(t, jose.ES256, key, func(t *controlplane.Token) { t.UID = "" }), identity.ReasonMalformed},

		"a user":               {claims(`{` + rest + `"sub":"alice"}`), identity.ReasonMalformed},
		"a node":               {claims(`{` + rest + `"sub":"system:node:worker"}`), identity.ReasonMalformed},
		"no subject":           {claims(`{` + rest + `"x":1}`), identity.ReasonMalformed},
		"no Kubernetes claim":  {claims(`{` + rest + `"sub":"system:serviceaccount:prod:vm"}`), identity.ReasonMalformed},
		"another namespace":    {claims(`{` + rest + `"sub":"system:serviceaccount:prod:vm","kubernetes.io":{"namespace":"dev","serviceaccount":{"name":"vm","uid":"1"}}}`), identity.ReasonMalformed},
		"another account":      {claims(`{` + rest + `"sub":"system:serviceaccount:prod:vm","kubernetes.io":{"namespace":"prod","serviceaccount":{"name":"other","uid":"1"}}}`), identity.ReasonMalformed},
		"the right one":        {claims(`{` + rest + `"sub":"system:serviceaccount:prod:vm","kubernetes.io":{"namespace":"prod","serviceaccount":{"name":"vm","uid":"1"}}}`), ""},
		"claims in capitals":   {claims(`{` + rest + `"SUB":"system:serviceaccount:prod:vm","kubernetes.io":{"namespace":"prod","serviceaccount":{"name":"vm","uid":"1"}}}`), identity.ReasonMalformed},
		"claims that are none": {claims(`[]`), identity.ReasonMalformed},
		"no token":             {"secret-secret", identity.ReasonMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			who, err := v.Authenticate(t.Context(), test.token)
			if test.want != "" {
				wantRefusal(t, err, test.want, test.token)
				if who.Name != "" {
					t.Errorf("identity beside a refusal: got %+v, want none", who)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			const account = "system:serviceaccount:prod:vm"
			if who.Method != identity.MethodJWKS || who.Name != account || who.User.Name != account || who.Namespace != "prod" || who.ServiceAccount != "vm" || who.Expires.Before(now) {
				t.Errorf("identity: got %+v, want that of %s", who, account)
			}
		})
	}
}

// ownKey is a token that brings the key that has signed it (RFC 7515, section 4.1.3).
func ownKey(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(sign(t, jose.ES256, key), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// swapPayload puts the payload of one token between header and signature of another.
func swapPayload(token, other string) string {
	parts := strings.Split(token, ".")
	parts[1] = strings.Split(other, ".")[1]
	return strings.Join(parts, ".")
}

func TestKeysComeAndGo(t *testing.T) {
	first, second := newKey(t), newKey(t)
	source := &published{issuer: ours}
	source.publish(t, public("a", first.Public()))
	clock := &clock{}
	var logged bytes.Buffer
	v := newVerifier(t, Config{Source: source, Now: clock.now, Log: slog.New(slog.NewTextHandler(&logged, nil))})
	old, young := sign(t, jose.ES256, first), sign(t, jose.ES256, second, named("b"))
	check := func(what, token string, want identity.Reason) {
		t.Helper()
		_, err := v.Authenticate(t.Context(), token)
		if want != "" {
			wantRefusal(t, err, want, token)
		} else if err != nil {
			t.Errorf("%s: got %v, want nil", what, err)
		}
	}
	check("the first key", old, "")
	check("the second, not published", young, identity.ReasonUntrusted)

	source.publish(t, public("a", first.Public()), public("b", second.Public()))
	check("the second, published after the last fetch, within ten seconds of it", young, identity.ReasonUntrusted)
	clock.forward(fetchInterval)
	check("the second, later", young, "")
	check("the first beside it", old, "")

	source.publish(t, public("b", second.Public()))
	check("the first, withdrawn and not fetched", old, "")
	if err := v.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("the first, withdrawn", old, identity.ReasonUntrusted)
	check("the second", young, "")

	source.fail(errors.New("away"))
	for range 3 {
		if err := v.Load(t.Context()); err == nil {
			t.Error("a fetch that fails: got nil, want an error")
		}
	}
	check("the second while keys cannot be fetched", young, "")
	if got := strings.Count(logged.String(), "cannot fetch token keys"); got != 1 {
		t.Errorf("the fault was logged %d times, want once: %s", got, &logged)
	}
	clock.forward(fetchInterval)
	_, err := v.Authenticate(t.Context(), old)
	wantUndecided(t, err)
	for what, content := range map[string]string{
		"no JSON": "<html>", "no keys": `{"keys":[]}`, "nothing": "", "no public key": `{"keys":[{"kty":"oct","k":"aaaa"}]}`,
		"too many": `{"keys":[` + strings.TrimSuffix(strings.Repeat("{},", maxKeys+1), ",") + `]}`,
	} {
		source.mu.Lock()
		source.keys, source.fault = []byte(content), nil
		source.mu.Unlock()
		if err := v.Load(t.Context()); err == nil {
			t.Errorf("a key set with %s: got nil, want an error", what)
		}
		check("the second after "+what, young, "")
	}
	for _, token := range []string{old, young} {
		wantSecret(t, logged.String(), token)
	}
}

// TestStrangersCauseNoFetches: however many keys they make up.
func TestStrangersCauseNoFetches(t *testing.T) {
	key, other := newKey(t), newKey(t)
	source := &published{issuer: ours}
	source.publish(t, public("a", key.Public()))
	clock := &clock{}
	v := newVerifier(t, Config{Source: source, Now: clock.now})
	for i := range 200 {
		token := sign(t, jose.ES256, other, named(strings.Repeat("x", i+1)))
		_, err := v.Authenticate(t.Context(), token)
		wantRefusal(t, err, identity.ReasonUntrusted, token)
		clock.forward(100 * time.Millisecond)
	}
	if got := source.fetched(); got < 2 || got > 3 {
		t.Errorf("fetches in 20 s: got %d, want 2 or 3", got)
	}
	before := source.fetched()
	clock.forward(time.Minute)
	if _, err := v.Authenticate(t.Context(), sign(t, jose.ES256, other, named("y"), func(t *controlplane.Token) { t.Issuer = "https://example.com" })); err == nil {
		t.Error("a token of another issuer: got nil, want a refusal")
	}
	if got := source.fetched() - before; got != 0 {
		t.Errorf("fetches for a token of another issuer: got %d, want 0", got)
	}
}

// TestStrangersThatLeaveCauseNoMore: a fetch that one of them has begun counts.
func TestStrangersThatLeaveCauseNoMore(t *testing.T) {
	key, other := newKey(t), newKey(t)
	source := &published{issuer: ours, slow: true}
	source.publish(t, public("a", key.Public()))
	clock := &clock{}
	v := newVerifier(t, Config{Source: source, Now: clock.now})
	if _, err := v.Authenticate(t.Context(), sign(t, jose.ES256, key)); err != nil {
		t.Fatal(err)
	}
	clock.forward(fetchInterval)
	gone, leave := context.WithCancel(t.Context())
	leave()
	for range 50 {
		if _, err := v.Authenticate(gone, sign(t, jose.ES256, other, named("b"))); err == nil {
			t.Error("a stranger: got nil, want an error")
		}
	}
	if got := source.fetched(); got != 2 {
		t.Errorf("fetches: got %d, want 2", got)
	}
}

func TestIssuers(t *testing.T) {
	key := newKey(t)
	for name, test := range map[string]struct {
		says, wanted string
		good         bool
	}{
		"the source says it":       {ours, "", true},
		"the operator says it":     {"", ours, true},
		"they agree":               {ours, ours, true},
		"they disagree":            {"https://example.com", ours, false},
		"nobody says it":           {"", "", false},
		"it is that of others":     {"https://example.com", "", false},
		"it is that of others too": {"", "https://example.com", false},
	} {
		t.Run(name, func(t *testing.T) {
			source := &published{issuer: test.says}
			source.publish(t, public("a", key.Public()))
			v := newVerifier(t, Config{Source: source, Issuer: test.wanted})
			if _, err := v.Authenticate(t.Context(), sign(t, jose.ES256, key)); (err == nil) != test.good {
				t.Errorf("got %v, want good: %t", err, test.good)
			}
		})
	}
}

// TestRun: keys are fetched again without anybody asking.
func TestRun(t *testing.T) {
	first, second := newKey(t), newKey(t)
	source := &published{issuer: ours}
	source.publish(t, public("a", first.Public()))
	registry := prometheus.NewRegistry()
	v := newVerifier(t, Config{Source: source, Refresh: time.Millisecond, Metrics: registry})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.Run(ctx)
	}()
	await := func(what string, holds func() bool) {
		t.Helper()
		timeout := time.After(20 * time.Second)
		for !holds() {
			select {
			case <-timeout:
				t.Fatalf("%s: not within 20 s", what)
			case <-time.After(time.Millisecond):
			}
		}
	}
	has := func(id string) func() bool {
		return func() bool {
			trusted := v.keys.current()
			return trusted != nil && len(trusted.keys) == 1 && trusted.keys[0].KeyID == id
		}
	}
	await("the first key", has("a"))
	source.publish(t, public("b", second.Public()))
	await("the second key", has("b"))
	_, err := v.Authenticate(t.Context(), sign(t, jose.ES256, first))
	wantRefusal(t, err, identity.ReasonUntrusted, sign(t, jose.ES256, first))
	source.fail(errors.New("away"))
	await("the fault is counted", func() bool { return testutil.ToFloat64(v.keys.metrics.failures) > 0 })
	cancel()
	<-done
	if got := testutil.ToFloat64(v.keys.metrics.fetched); got < float64(time.Now().Add(-time.Minute).Unix()) {
		t.Errorf("time of the last fetch: got %v, want about now", got)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint of the metrics: got %v, %v, want nothing", problems, err)
	}
}

// TestWeakKeysAreLeftOut: a key set of them alone is none.
func TestWeakKeysAreLeftOut(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseKeys(keySet(t, public("a", weak.Public()))); err == nil {
		t.Error("a modulus of 1024 bits: got nil, want an error")
	}
	private := newKey(t)
	if _, err := parseKeys(keySet(t, jose.JSONWebKey{Key: private, KeyID: "a"})); err == nil {
		t.Error("a private key: got nil, want an error")
	}
	mixed := slices.Concat([]byte(`{"keys":[{"kty":"new"},{"kty":"EC","crv":"P-256","x":"a","y":"b"},`), bytes.TrimPrefix(keySet(t, public("a", private.Public())), []byte(`{"keys":[`)))
	if keys, err := parseKeys(mixed); err != nil || len(keys) != 1 {
		t.Errorf("one key among others that are not understood: got %d, %v, want 1, nil", len(keys), err)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	rivest, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	key := newKey(b)
	content, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public("a", key.Public()), public("r", rivest.Public())}})
	if err != nil {
		b.Fatal(err)
	}
	for name, token := range map[string]string{
		"ES256":   sign(b, jose.ES256, key),
		"RS256":   sign(b, jose.RS256, rivest, named("r")),
		"unknown": sign(b, jose.ES256, key, named("b")),
	} {
		b.Run(name, func(b *testing.B) {
			v := newVerifier(b, Config{Source: &published{issuer: ours, keys: content}})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Authenticate(b.Context(), token); (err != nil) != (name == "unknown") {
					b.Fatal(err)
				}
			}
		})
	}
}
