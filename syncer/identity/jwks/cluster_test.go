package jwks

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/identity/tokenreview"
	"github.com/meshvm/meshvm/test/controlplane"
)

var shared = controlplane.NewShared()

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// ofCluster is a verifier with the keys of a cluster, that it reads with the shipped rights.
func ofCluster(t *testing.T, c *controlplane.ControlPlane, clock *clock) *Verifier {
	t.Helper()
	if err := c.GrantSyncerIdentityRole(t.Context()); err != nil {
		t.Fatal(err)
	}
	reach, err := c.RESTConfigFor(controlplane.SyncerUser)
	if err != nil {
		t.Fatal(err)
	}
	source, err := Cluster(reach)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, Config{Source: source, Now: clock.now})
	// The API server's authorizer learns of the binding through a watch of its own.
	eventually(t, "the syncer may read the keys", func() error { return v.Load(t.Context()) })
	return v
}

func eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	timeout := time.After(30 * time.Second)
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
			t.Fatalf("%s: not within 30 s: %v", what, err)
		}
	}
}

func token(t *testing.T, c *controlplane.ControlPlane, namespace string, audiences ...string) string {
	t.Helper()
	issued, err := c.ServiceAccountToken(t.Context(), namespace, "vm", audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

func TestTokensOfTheCluster(t *testing.T) {
	c := shared.ControlPlane(t)
	namespace := c.Namespace(t)
	v := ofCluster(t, c, &clock{})
	signed := func(change func(*controlplane.Token)) string {
		token := controlplane.Token{Namespace: namespace, ServiceAccount: "vm", Audience: []string{"meshvm"}, Expires: time.Now().Add(time.Hour)}
		change(&token)
		signed, err := c.SignToken(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	foreign, err := controlplane.Token{
		Issuer: c.ServiceAccountIssuer(), Namespace: namespace, ServiceAccount: "vm", UID: "1", Audience: []string{"meshvm"}, Expires: time.Now().Add(time.Hour),
	}.Sign(jose.ES256, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		token string
		want  identity.Reason
	}{
		"of the API server":       {token(t, c, namespace, "meshvm"), ""},
		"for the API server":      {token(t, c, namespace), identity.ReasonAudience},
		"for somebody else":       {token(t, c, namespace, "vault"), identity.ReasonAudience},
		"expired":                 {signed(func(t *controlplane.Token) { t.Expires = time.Now().Add(-time.Minute) }), identity.ReasonExpired},
		"of another issuer":       {signed(func(t *controlplane.Token) { t.Issuer = ours }), identity.ReasonUntrusted},
		"signed with another key": {foreign, identity.ReasonUntrusted},
		"of a user":               {"secret", identity.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.Authenticate(t.Context(), test.token)
			if test.want != "" {
				wantRefusal(t, err, test.want, test.token)
			} else if err != nil {
				t.Errorf("got %v, want nil", err)
			}
		})
	}
}

// TestTheSameUserAsTheAPIServerSays, so that RBAC says the same of it, however it was proved.
func TestTheSameUserAsTheAPIServerSays(t *testing.T) {
	c := shared.ControlPlane(t)
	namespace := c.Namespace(t)
	offline := ofCluster(t, c, &clock{})
	reviewed, err := tokenreview.New(tokenreview.Config{REST: c.RESTConfig(), Audience: "meshvm", Recheck: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	shown := token(t, c, namespace, "meshvm")
	got, err := offline.Authenticate(t.Context(), shown)
	if err != nil {
		t.Fatal(err)
	}
	want, err := reviewed.Authenticate(t.Context(), shown)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.User.Groups)
	slices.Sort(want.User.Groups)
	if got.Name != want.Name || !got.Expires.Equal(want.Expires) || got.User.UID != want.User.UID || !slices.Equal(got.User.Groups, want.User.Groups) {
		t.Errorf("offline: got %+v\nwant what the API server says: %+v", got, want)
	}
}

// TestTheKeysOfTheClusterAreReplaced: what the API server takes back by that is refused here too.
func TestTheKeysOfTheClusterAreReplaced(t *testing.T) {
	c := controlplane.Start(t)
	clock := &clock{}
	v := ofCluster(t, c, clock)
	old := token(t, c, "default", "meshvm")
	if _, err := v.Authenticate(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := v.Load(t.Context()); err == nil {
		t.Error("fetch with the API server stopped: got nil, want an error")
	}
	if _, err := v.Authenticate(t.Context(), old); err != nil {
		t.Errorf("with the API server stopped: got %v, want nil", err)
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.ReplaceServiceAccountKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	young := token(t, c, "default", "meshvm")
	clock.forward(fetchInterval)
	if _, err := v.Authenticate(t.Context(), young); err != nil {
		t.Errorf("a token of the new key: got %v, want nil", err)
	}
	_, err := v.Authenticate(t.Context(), old)
	wantRefusal(t, err, identity.ReasonUntrusted, old)
}

// TestAnyServiceAccountMayReadTheKeys by Kubernetes' own role, as deploy/kubernetes/rbac-identity.yaml says. What it cannot see
// is documented.
func TestAnyServiceAccountMayReadTheKeys(t *testing.T) {
	c := shared.ControlPlane(t)
	namespace := c.Namespace(t)
	file, err := c.KubeconfigForServiceAccount(t.Context(), namespace, "syncer")
	if err != nil {
		t.Fatal(err)
	}
	reach, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := Cluster(reach)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, Config{Source: source})
	shown := token(t, c, namespace, "meshvm")
	if _, err := v.Authenticate(t.Context(), shown); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteServiceAccount(t.Context(), namespace, "vm"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Authenticate(t.Context(), shown); err != nil {
		t.Errorf("a token of a deleted account: got %v, want nil, for offline nobody sees that", err)
	}
}

func TestAPIServerAwayFromTheStart(t *testing.T) {
	c := shared.ControlPlane(t)
	reach := c.RESTConfig()
	away := &atomic.Bool{}
	away.Store(true)
	reach.Wrap(func(next http.RoundTripper) http.RoundTripper { return absent{next, away} })
	source, err := Cluster(reach)
	if err != nil {
		t.Fatal(err)
	}
	clock := &clock{}
	v := newVerifier(t, Config{Source: source, Now: clock.now})
	shown := token(t, c, c.Namespace(t), "meshvm")
	_, err = v.Authenticate(t.Context(), shown)
	wantUndecided(t, err)
	away.Store(false)
	_, err = v.Authenticate(t.Context(), shown)
	wantUndecided(t, err) // It was tried just now.
	clock.forward(fetchInterval)
	if _, err := v.Authenticate(t.Context(), shown); err != nil {
		t.Errorf("once it can be asked: got %v, want nil", err)
	}
}

// absent is the way to an API server that can be away.
type absent struct {
	next http.RoundTripper
	away *atomic.Bool
}

func (a absent) RoundTrip(request *http.Request) (*http.Response, error) {
	if a.away.Load() {
		return nil, errors.New("connection refused")
	}
	return a.next.RoundTrip(request)
}
