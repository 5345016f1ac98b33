package tokenreview

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/test/controlplane"
)

var cluster = controlplane.NewShared()

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// patience is how long a test waits for what must happen. The API server itself keeps a good verdict for ten seconds.
const patience = 40 * time.Second

// clock runs with the machine's, and can be put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// counted counts requests, and can make them fail.
type counted struct {
	next     http.RoundTripper
	requests atomic.Int64
	fault    atomic.Pointer[error]
	hold     atomic.Pointer[chan struct{}]
}

func (c *counted) RoundTrip(request *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	if hold := c.hold.Load(); hold != nil {
		select {
		case <-*hold:
		case <-request.Context().Done():
			return nil, request.Context().Err()
		}
	}
	if fault := c.fault.Load(); fault != nil {
		return nil, *fault
	}
	return c.next.RoundTrip(request)
}

func (c *counted) fail(err error) { c.fault.Store(&err) }

// world is a reviewer with the shipped rights, and what it stands on.
type world struct {
	*controlplane.ControlPlane
	*Reviewer
	clock    *clock
	requests *counted
	metrics  *prometheus.Registry
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	c := cluster.ControlPlane(t)
	if err := c.GrantSyncerIdentityRole(t.Context()); err != nil {
		t.Fatal(err)
	}
	reach, err := c.RESTConfigFor(controlplane.SyncerUser)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{ControlPlane: c, clock: &clock{}, requests: &counted{}, metrics: prometheus.NewRegistry()}
	reach.Wrap(func(next http.RoundTripper) http.RoundTripper {
		w.requests.next = next
		return w.requests
	})
	config := Config{REST: reach, Audience: "meshvm", Recheck: 2 * time.Minute, Metrics: w.metrics, Now: w.clock.now}
	for _, change := range change {
		change(&config)
	}
	if w.Reviewer, err = New(config); err != nil {
		t.Fatal(err)
	}
	// The authorizer learns of the binding through a watch of its own.
	eventually(t, "the syncer may review tokens", func() error {
		_, err := w.reviews[false].Create(t.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "x"}}, metav1.CreateOptions{})
		return err
	})
	w.requests.requests.Store(0)
	return w
}

func eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	timeout := time.After(patience)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-timeout:
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
	}
}

func (w *world) token(t *testing.T, namespace string, audiences ...string) string {
	t.Helper()
	token, err := w.ServiceAccountToken(t.Context(), namespace, "vm", audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (w *world) sign(t *testing.T, token controlplane.Token) string {
	t.Helper()
	signed, err := w.SignToken(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return signed
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

// wantSecret fails the test if a text holds a part of the token.
func wantSecret(t *testing.T, text, token string) {
	t.Helper()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 8 && strings.Contains(text, part) {
			t.Errorf("%q holds a part of the token", text)
		}
	}
}

func TestReview(t *testing.T) {
	w := newWorld(t)
	namespace := w.Namespace(t)
	hour := time.Hour
	now := time.Now()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	valid := controlplane.Token{Namespace: namespace, ServiceAccount: "vm", Audience: []string{"meshvm"}, Expires: now.Add(hour)}
	with := func(change func(*controlplane.Token)) controlplane.Token {
		token := valid
		change(&token)
		return token
	}
	elsewhere := func(token controlplane.Token) string {
		token.Issuer = w.ServiceAccountIssuer()
		signed, err := token.Sign(jose.ES256, other)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	tests := map[string]struct {
		token string
		want  identity.Reason // empty: it is good
	}{
		"of the API server":          {w.token(t, namespace, "meshvm"), ""},
		"for several audiences":      {w.token(t, namespace, "other", "meshvm"), ""},
		"signed as the API server's": {w.sign(t, valid), ""},
		"for the API server":         {w.token(t, namespace), identity.ReasonAudience},
		"for somebody else":          {w.token(t, namespace, "vault"), identity.ReasonAudience},
		"expired":                    {w.sign(t, with(func(t *controlplane.Token) { t.Expires = now.Add(-hour) })), identity.ReasonExpired},
		"not yet good": {w.sign(t, with(func(t *controlplane.Token) { t.NotBefore = now.Add(hour); t.Expires = now.Add(2 * hour) })),
			identity.ReasonExpired},
		"of another issuer":          {w.sign(t, with(func(t *controlplane.Token) { t.Issuer = "https://example.com" })), identity.ReasonUntrusted},
		"signed with another key":    {elsewhere(valid), identity.ReasonUntrusted},
		"of another cluster's key":   {elsewhere(with(func(t *controlplane.Token) { t.KeyID = "theirs" })), identity.ReasonUntrusted},
		"of an account that was":     {w.sign(t, with(func(t *controlplane.Token) { t.UID = "00000000-0000-0000-0000-000000000000" })), identity.ReasonRevoked},
		"of a user":                  {"secret", identity.ReasonMalformed},
		"of no form":                 {"a.b", identity.ReasonMalformed},
		"too long":                   {strings.Repeat("a", 12<<10) + ".e30.e30", identity.ReasonMalformed},
		"with a line break":          {"e30.e30.e3\n0", identity.ReasonMalformed},
		"with another header at all": {"e30" + strings.TrimPrefix(w.token(t, namespace, "meshvm"), strings.SplitN(w.token(t, namespace, "meshvm"), ".", 2)[0]), identity.ReasonUntrusted},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			who, err := w.Authenticate(t.Context(), test.token)
			if test.want != "" {
				wantRefusal(t, err, test.want, test.token)
				if (who.Name) != "" {
					t.Errorf("identity beside a refusal: got %+v, want none", who)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			name := "system:serviceaccount:" + namespace + ":vm"
			if who.Name != name || who.User.Name != name || who.Namespace != namespace || who.ServiceAccount != "vm" || who.Method != identity.MethodTokenReview {
				t.Errorf("identity: got %+v, want that of %s", who, name)
			}
			if who.Expires.Before(now.Add(hour/2)) || who.User.UID == "" || len(who.User.Groups) != 3 {
				t.Errorf("identity: got %+v, want an end, a UID and the groups of an account", who)
			}
		})
	}
}

// TestMalformedIsNoQuestion: what is certainly no good token costs the API server nothing.
func TestMalformedIsNoQuestion(t *testing.T) {
	w := newWorld(t)
	expired := w.sign(t, controlplane.Token{Namespace: w.Namespace(t), ServiceAccount: "vm", Audience: []string{"meshvm"}, Expires: time.Now().Add(-time.Hour)})
	w.requests.requests.Store(0)
	for _, token := range []string{"", "a", "a.b.c", "..", strings.Repeat("e30.", 4000) + "e30", expired} {
		if _, err := w.Authenticate(t.Context(), token); err == nil {
			t.Errorf("token %.20q: got no error, want a refusal", token)
		}
	}
	if got := w.requests.requests.Load(); got != 0 {
		t.Errorf("requests to the API server: got %d, want 0", got)
	}
}

// TestAudienceUnknownToTheAuthenticator: an authenticator that knows nothing of audiences says yes and names none.
func TestAudienceUnknownToTheAuthenticator(t *testing.T) {
	w := newWorld(t)
	token := w.token(t, w.Namespace(t), "meshvm")
	for name, test := range map[string]struct {
		status string
		want   identity.Reason
	}{
		"no audience":   {`{"authenticated":true,"user":{"username":"system:serviceaccount:prod:vm"}}`, identity.ReasonAudience},
		"another":       {`{"authenticated":true,"audiences":["vault"],"user":{"username":"system:serviceaccount:prod:vm"}}`, identity.ReasonAudience},
		"a user":        {`{"authenticated":true,"audiences":["meshvm"],"user":{"username":"alice"}}`, identity.ReasonMalformed},
		"a node":        {`{"authenticated":true,"audiences":["meshvm"],"user":{"username":"system:node:worker"}}`, identity.ReasonMalformed},
		"an odd name":   {`{"authenticated":true,"audiences":["meshvm"],"user":{"username":"system:serviceaccount:prod:vm:x"}}`, identity.ReasonMalformed},
		"an odd space":  {`{"authenticated":true,"audiences":["meshvm"],"user":{"username":"system:serviceaccount:Prod:vm"}}`, identity.ReasonMalformed},
		"no account":    {`{"authenticated":true,"audiences":["meshvm"],"user":{"username":"system:serviceaccount:prod:"}}`, identity.ReasonMalformed},
		"its own fault": {`{"authenticated":false,"error":"[invalid bearer token, etcdserver: request timed out]"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			reach := &rest.Config{Host: "https://syncer.invalid", Transport: answering(test.status)}
			reviewer, err := New(Config{REST: reach, Audience: "meshvm", Recheck: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			_, err = reviewer.Authenticate(t.Context(), token)
			if test.want != "" {
				wantRefusal(t, err, test.want, token)
				return
			}
			if _, isRefusal := errors.AsType[*identity.Refusal](err); err == nil || isRefusal {
				t.Errorf("got %v, want an error that is no refusal", err)
			}
		})
	}
}

// answering is an API server that gives each review this status.
type answering string

func (a answering) RoundTrip(request *http.Request) (*http.Response, error) {
	body := `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{},"status":` + string(a) + `}`
	return &http.Response{
		StatusCode: http.StatusCreated, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), Request: request,
	}, nil
}

// TestVerdictsAreKept counts what the API server is asked.
func TestVerdictsAreKept(t *testing.T) {
	w := newWorld(t)
	namespace := w.Namespace(t)
	good, bad := w.token(t, namespace, "meshvm"), w.token(t, namespace, "vault")
	steps := []struct {
		name    string
		forward time.Duration
		token   string
		asks    int64
		refused bool
	}{
		{"a good token is asked about", 0, good, 1, false},
		{"and not again", 0, good, 0, false},
		{"for half the recheck interval", 59 * time.Second, good, 0, false},
		{"and then again", 2 * time.Second, good, 1, false},
		{"a bad one is asked about", 0, bad, 1, true},
		{"and not again", 9 * time.Second, bad, 0, true},
		{"for ten seconds", 2 * time.Second, bad, 1, true},
	}
	for _, step := range steps {
		w.clock.forward(step.forward)
		before := w.requests.requests.Load()
		_, err := w.Authenticate(t.Context(), step.token)
		if (err != nil) != step.refused {
			t.Errorf("%s: got error %v, want one: %t", step.name, err, step.refused)
		}
		if got := w.requests.requests.Load() - before; got != step.asks {
			t.Errorf("%s: got %d requests, want %d", step.name, got, step.asks)
		}
	}
	for result, want := range map[string]float64{"good": 2, "refused": 2, "error": 0, "kept": 0} {
		if got := testutil.ToFloat64(w.Reviewer.metrics.With(result)); got != want {
			t.Errorf("reviews with result %s: got %v, want %v", result, got, want)
		}
	}
	if problems, err := testutil.GatherAndLint(w.metrics); err != nil || len(problems) > 0 {
		t.Errorf("lint of the metrics: got %v, %v, want nothing", problems, err)
	}
}

func TestConcurrentReviewsOfOneTokenAreOne(t *testing.T) {
	w := newWorld(t)
	token := w.token(t, w.Namespace(t), "meshvm")
	hold := make(chan struct{})
	w.requests.hold.Store(&hold)
	w.requests.requests.Store(0)
	const askers = 50
	var group sync.WaitGroup
	failures := make(chan error, askers)
	for range askers {
		group.Go(func() {
			_, err := w.Authenticate(t.Context(), token)
			failures <- err
		})
	}
	eventually(t, "the review is asked for", func() error {
		if w.requests.requests.Load() == 0 {
			return errors.New("no request yet")
		}
		return nil
	})
	close(hold)
	group.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			t.Errorf("Authenticate: got %v, want nil", err)
		}
	}
	if got := w.requests.requests.Load(); got != 1 {
		t.Errorf("requests: got %d, want 1", got)
	}
}

// TestTheEndOfATokenEndsItsVerdict: whatever the interval, and whether the API server can be asked or not.
func TestTheEndOfATokenEndsItsVerdict(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Recheck = 10 * time.Hour })
	token := w.token(t, w.Namespace(t), "meshvm")
	who, err := w.Authenticate(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	w.requests.fail(errors.New("away"))
	w.clock.forward(time.Until(who.Expires) + time.Second)
	if _, err := w.Authenticate(t.Context(), token); err == nil {
		t.Error("a token past its end: got no error, want one")
	}
	w.clock.forward(clocksTolerate)
	_, err = w.Authenticate(t.Context(), token)
	wantRefusal(t, err, identity.ReasonExpired, token)
}

func TestADeletedAccountRevokesItsTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	namespace := w.Namespace(t)
	token := w.token(t, namespace, "meshvm")
	if _, err := w.Authenticate(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteServiceAccount(t.Context(), namespace, "vm"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Authenticate(t.Context(), token); err != nil {
		t.Errorf("within the interval: got %v, want nil", err)
	}
	var err error
	eventually(t, "the token is refused", func() error {
		w.clock.forward(time.Minute)
		if _, err = w.Authenticate(t.Context(), token); err == nil {
			return errors.New("it is good")
		}
		return nil
	})
	wantRefusal(t, err, identity.ReasonRevoked, token)

	t.Run("and one that never asked before is told the same", func(t *testing.T) {
		_, err := newWorld(t).Authenticate(t.Context(), token)
		wantRefusal(t, err, identity.ReasonRevoked, token)
	})
	t.Run("and an account of the same name brings none back", func(t *testing.T) {
		fresh := w.token(t, namespace, "meshvm")
		w.clock.forward(time.Minute)
		_, err := w.Authenticate(t.Context(), token)
		wantRefusal(t, err, identity.ReasonRevoked, token)
		if _, err := w.Authenticate(t.Context(), fresh); err != nil {
			t.Errorf("a token of the new account: got %v, want nil", err)
		}
	})
	t.Run("and an outage brings none back", func(t *testing.T) {
		w.clock.forward(time.Minute)
		w.requests.fail(errors.New("away"))
		if _, err := w.Authenticate(t.Context(), token); err == nil {
			t.Error("got no error, want one")
		}
	})
}

func TestTheLastGoodVerdictOutlivesAnOutage(t *testing.T) {
	w := newWorld(t)
	namespace := w.Namespace(t)
	known := w.token(t, namespace, "meshvm")
	if _, err := w.Authenticate(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	stranger := w.token(t, namespace, "meshvm")
	w.requests.fail(errors.New("connection refused"))
	steps := []struct {
		name    string
		forward time.Duration
		good    bool
		asks    int64
	}{
		{"the verdict is still good", 59 * time.Second, true, 0},
		{"it goes on", 2 * time.Second, true, 1},
		{"and is not asked about at once", time.Second, true, 0},
		{"but in a while", 10 * time.Second, true, 1},
		{"for ten minutes", 9*time.Minute + 30*time.Second, true, 1},
		{"and no longer", time.Minute, false, 1},
	}
	for _, step := range steps {
		w.clock.forward(step.forward)
		before := w.requests.requests.Load()
		_, err := w.Authenticate(t.Context(), known)
		if (err == nil) != step.good {
			t.Errorf("%s: got %v, want good: %t", step.name, err, step.good)
		}
		if got := w.requests.requests.Load() - before; got != step.asks {
			t.Errorf("%s: got %d requests, want %d", step.name, got, step.asks)
		}
	}
	_, err := w.Authenticate(t.Context(), stranger)
	if _, isRefusal := errors.AsType[*identity.Refusal](err); err == nil || isRefusal {
		t.Errorf("a token not seen before: got %v, want an error that is no refusal", err)
	}
	w.requests.fault.Store(nil)
	for name, token := range map[string]string{"known": known, "stranger": stranger} {
		if _, err := w.Authenticate(t.Context(), token); err != nil {
			t.Errorf("%s after the outage: got %v, want nil", name, err)
		}
	}
}

// TestErrorsHoldNoToken: not even where the API server, or what stands before it, sends back what it was sent.
func TestErrorsHoldNoToken(t *testing.T) {
	w := newWorld(t)
	token := w.token(t, w.Namespace(t), "meshvm")
	for name, fault := range map[string]error{
		"an echo":       errors.New("cannot parse {\"token\":\"" + token + "\"}"),
		"another fault": errors.New("connection refused"),
	} {
		t.Run(name, func(t *testing.T) {
			w.requests.fail(fault)
			_, err := w.Authenticate(t.Context(), token)
			if err == nil {
				t.Fatal("got no error, want one")
			}
			var logged bytes.Buffer
			slog.New(slog.NewJSONHandler(&logged, nil)).Error("cannot tell", "error", err)
			wantSecret(t, logged.String(), token)
		})
	}
}

// TestReviewsAreLimited: strangers with made-up tokens cost the API server no more than was allowed, and hold up nobody who is known.
func TestReviewsAreLimited(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.REST.QPS, c.REST.Burst = 0.001, 4 })
	known := w.token(t, w.Namespace(t), "meshvm")
	if _, err := w.Authenticate(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	const left = 2 // newWorld has asked once, and the known one was a stranger then
	before := w.requests.requests.Load()
	for i := range 6 {
		token, err := controlplane.Token{Namespace: "prod", ServiceAccount: "vm", Audience: []string{"meshvm"}, KeyID: "theirs",
			Expires: time.Now().Add(time.Duration(i+1) * time.Hour), Issuer: "https://example.com"}.Sign(jose.HS256, []byte(strings.Repeat("k", 32)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if i >= left {
			cancel() // There is no turn for it within years.
		}
		_, err = w.Authenticate(ctx, token)
		cancel()
		if _, isRefusal := errors.AsType[*identity.Refusal](err); err == nil || isRefusal != (i < left) {
			t.Errorf("token %d: got %v, want a refusal: %t", i, err, i < left)
		}
	}
	if got := w.requests.requests.Load() - before; got != left {
		t.Errorf("requests for strangers: got %d, want %d", got, left)
	}
	w.clock.forward(time.Minute)
	if _, err := w.Authenticate(t.Context(), known); err != nil || w.requests.requests.Load()-before != left+1 {
		t.Errorf("the known one: got %v and %d requests, want nil and one more", err, w.requests.requests.Load()-before)
	}
}

// TestWithoutTheRole says what to apply.
func TestWithoutTheRole(t *testing.T) {
	c := controlplane.Start(t)
	reach, err := c.RESTConfigFor(controlplane.SyncerUser)
	if err != nil {
		t.Fatal(err)
	}
	reviewer, err := New(Config{REST: reach, Audience: "meshvm", Recheck: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	token, err := c.ServiceAccountToken(t.Context(), "default", "vm", "meshvm")
	if err != nil {
		t.Fatal(err)
	}
	_, err = reviewer.Authenticate(t.Context(), token)
	if _, isRefusal := errors.AsType[*identity.Refusal](err); err == nil || isRefusal || !strings.Contains(err.Error(), "rbac-identity.yaml") {
		t.Errorf("got %v, want an error that names rbac-identity.yaml", err)
	}
	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	_, err = reviewer.Authenticate(t.Context(), token)
	if _, isRefusal := errors.AsType[*identity.Refusal](err); err == nil || isRefusal {
		t.Errorf("with the API server stopped: got %v, want an error that is no refusal", err)
	}
}
