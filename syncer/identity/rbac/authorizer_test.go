package rbac

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/test/controlplane"
)

var cluster = controlplane.NewShared()

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// clock runs with the machine's, and can be put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// counted counts requests, and can make them fail.
type counted struct {
	next     http.RoundTripper
	requests atomic.Int64
	away     atomic.Bool
}

func (c *counted) RoundTrip(request *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	if c.away.Load() {
		return nil, errors.New("connection refused")
	}
	return c.next.RoundTrip(request)
}

// world is an authorizer with the shipped rights, and what it stands on.
type world struct {
	*controlplane.ControlPlane
	*Authorizer
	clock    *clock
	requests *counted
	metrics  *prometheus.Registry
}

func newWorld(t *testing.T) *world {
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
	if w.Authorizer, err = New(Config{REST: reach, Recheck: 2 * time.Minute, Metrics: w.metrics, Now: w.clock.now}); err != nil {
		t.Fatal(err)
	}
	// The API server's authorizer learns of the binding through a watch of its own.
	eventually(t, "the syncer may review access", func() error {
		err := w.Authorize(t.Context(), account("default", "nobody"))
		if _, isRefusal := errors.AsType[*identity.Refusal](err); !isRefusal {
			return err
		}
		return nil
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

func account(namespace, name string) identity.Identity {
	user := identity.ServiceAccountUser(namespace, name)
	return identity.Identity{Method: identity.MethodJWKS, Name: user.Name, Namespace: namespace, ServiceAccount: name, User: user}
}

// becomes waits until the verdict on an identity is this, with the clock put forward past what is remembered.
func (w *world) becomes(t *testing.T, who identity.Identity, allowed bool) error {
	t.Helper()
	var err error
	eventually(t, "the verdict changes", func() error {
		w.clock.forward(time.Minute)
		if err = w.Authorize(t.Context(), who); (err == nil) != allowed {
			return errors.New("not yet")
		}
		return nil
	})
	return err
}

func TestRBACDecides(t *testing.T) {
	w := newWorld(t)
	namespace := w.Namespace(t)
	vm := account(namespace, "vm")

	err := w.Authorize(t.Context(), vm)
	refusal, isRefusal := errors.AsType[*identity.Refusal](err)
	if !isRefusal || refusal.Reason != identity.ReasonForbidden {
		t.Fatalf("before any binding: got %v, want a refusal for reason forbidden", err)
	}
	for _, want := range []string{
		"system:serviceaccount:" + namespace + ":vm may not watch registries.meshvm.io in namespace " + namespace,
		"kubectl create rolebinding meshvm-watcher-vm --clusterrole=meshvm-watcher --serviceaccount=" + namespace + ":vm -n " + namespace,
	} {
		if !strings.Contains(refusal.Message, want) {
			t.Errorf("refusal: got %q, want it to say %q", refusal.Message, want)
		}
	}

	if err := w.AllowWatch(t.Context(), namespace, "vm"); err != nil {
		t.Fatal(err)
	}
	w.becomes(t, vm, true)
	t.Run("nobody else", func(t *testing.T) {
		elsewhere := vm
		elsewhere.Namespace = "default"
		for name, who := range map[string]identity.Identity{
			"another account":                   account(namespace, "other"),
			"an account of another namespace":   account("default", "vm"),
			"the same one in another namespace": elsewhere,
		} {
			if err := w.Authorize(t.Context(), who); err == nil {
				t.Errorf("%s: got nil, want a refusal", name)
			}
		}
	})

	if err := w.ForbidWatch(t.Context(), namespace, "vm"); err != nil {
		t.Fatal(err)
	}
	err = w.becomes(t, vm, false)
	if refusal, isRefusal := errors.AsType[*identity.Refusal](err); !isRefusal || refusal.Reason != identity.ReasonForbidden {
		t.Errorf("after the binding was removed: got %v, want a refusal for reason forbidden", err)
	}
}

// TestGroupsCount: what the manifest's comment says of groups of accounts holds.
func TestGroupsCount(t *testing.T) {
	w := newWorld(t)
	namespace := w.Namespace(t)
	if err := w.CreateWatcherRole(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(w.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "all"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: ClusterRole},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:" + namespace}},
	}
	if _, err := client.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.becomes(t, account(namespace, "vm"), true)
	w.becomes(t, account(namespace, "other.vm"), true)
	if err := w.Authorize(t.Context(), account("default", "vm")); err == nil {
		t.Error("an account of another namespace: got nil, want a refusal")
	}
}

// TestABindingToNoRole is a no, whoever else's binding it is, and says what is missing.
func TestABindingToNoRole(t *testing.T) {
	c := controlplane.Start(t) // Without the shipped role.
	reach := c.RESTConfig()
	clock := &clock{}
	authorizer, err := New(Config{REST: reach, Recheck: time.Minute, Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(reach)
	if err != nil {
		t.Fatal(err)
	}
	bind := func(role string) {
		t.Helper()
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: "vm"}},
		}
		if _, err := client.RbacV1().RoleBindings("default").Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	said := func(want string) {
		t.Helper()
		eventually(t, "the refusal says "+want, func() error {
			clock.forward(time.Minute)
			err := authorizer.Authorize(t.Context(), account("default", "vm"))
			if refusal, isRefusal := errors.AsType[*identity.Refusal](err); !isRefusal || refusal.Reason != identity.ReasonForbidden {
				t.Fatalf("got %v, want a refusal for reason forbidden", err)
			}
			if !strings.Contains(err.Error(), want) {
				return err
			}
			return nil
		})
	}
	bind("someone-elses")
	said("kubectl create rolebinding")
	bind(ClusterRole)
	said("kubectl apply -f deploy/kubernetes/watcher-role.yaml")
}

// TestAFaultOfAWebhookIsNoNo, as far as the API server's words tell.
func TestAFaultOfAWebhookIsNoNo(t *testing.T) {
	for status, refused := range map[string]bool{
		`{"allowed":false,"evaluationError":"webhook: Post: dial tcp 10.0.0.1:443: connect: connection refused"}`:               false,
		`{"allowed":false,"denied":true,"evaluationError":"webhook: Post: dial tcp 10.0.0.1:443: connect: connection refused"}`: true,
		`{"allowed":false,"evaluationError":"something else"}`:                                                                  true,
		`{"allowed":true,"denied":true}`: true,
		`{}`:                             true,
	} {
		t.Run(status, func(t *testing.T) {
			authorizer, err := New(Config{REST: &rest.Config{Host: "https://syncer.invalid", Transport: answering(status)}, Recheck: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			err = authorizer.Authorize(t.Context(), account("prod", "vm"))
			if _, isRefusal := errors.AsType[*identity.Refusal](err); err == nil || isRefusal != refused {
				t.Errorf("got %v, want a refusal: %t", err, refused)
			}
		})
	}
}

// answering is an API server that gives each review this status.
type answering string

func (a answering) RoundTrip(request *http.Request) (*http.Response, error) {
	body := `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{},"status":` + string(a) + `}`
	return &http.Response{
		StatusCode: http.StatusCreated, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), Request: request,
	}, nil
}

func TestWithoutNamespaceNobodyWatches(t *testing.T) {
	w := newWorld(t)
	err := w.Authorize(t.Context(), identity.Identity{Method: identity.MethodCertificate, Name: "the certificate with SHA-256 00"})
	if refusal, isRefusal := errors.AsType[*identity.Refusal](err); !isRefusal || refusal.Reason != identity.ReasonForbidden {
		t.Errorf("got %v, want a refusal for reason forbidden", err)
	}
	if got := w.requests.requests.Load(); got != 0 {
		t.Errorf("requests: got %d, want 0", got)
	}
}

// TestVerdictsAreKept counts what the API server is asked.
func TestVerdictsAreKept(t *testing.T) {
	w := newWorld(t)
	namespace := w.Namespace(t)
	if err := w.AllowWatch(t.Context(), namespace, "vm"); err != nil {
		t.Fatal(err)
	}
	allowed, denied := account(namespace, "vm"), account(namespace, "other")
	w.becomes(t, allowed, true)
	w.clock.forward(10 * time.Minute)
	otherToken := allowed
	otherToken.User.Extra = map[string][]string{credentialID: {"JTI=1"}}
	inPod := allowed
	inPod.User.Extra = map[string][]string{"authentication.kubernetes.io/pod-name": {"web-0"}}
	for _, step := range []struct {
		name    string
		forward time.Duration
		who     identity.Identity
		asks    int64
		refused bool
	}{
		{"an account is asked about", 0, allowed, 1, false},
		{"and not again", 0, allowed, 0, false},
		{"nor for another token of it", 0, otherToken, 0, false},
		{"but for what else an authorizer may know", 0, inPod, 1, false},
		{"for half the recheck interval", 59 * time.Second, allowed, 0, false},
		{"and then again", 2 * time.Second, allowed, 1, false},
		{"one that may not is asked about", 0, denied, 1, true},
		{"and not again", 9 * time.Second, denied, 0, true},
		{"for ten seconds", 2 * time.Second, denied, 1, true},
	} {
		w.clock.forward(step.forward)
		before := w.requests.requests.Load()
		if err := w.Authorize(t.Context(), step.who); (err != nil) != step.refused {
			t.Errorf("%s: got error %v, want one: %t", step.name, err, step.refused)
		}
		if got := w.requests.requests.Load() - before; got != step.asks {
			t.Errorf("%s: got %d requests, want %d", step.name, got, step.asks)
		}
	}
	if problems, err := testutil.GatherAndLint(w.metrics); err != nil || len(problems) > 0 {
		t.Errorf("lint of the metrics: got %v, %v, want nothing", problems, err)
	}
}

func TestTheLastYesOutlivesAnOutage(t *testing.T) {
	w := newWorld(t)
	namespace := w.Namespace(t)
	if err := w.AllowWatch(t.Context(), namespace, "vm"); err != nil {
		t.Fatal(err)
	}
	vm := account(namespace, "vm")
	w.becomes(t, vm, true)
	w.requests.away.Store(true)
	for _, step := range []struct {
		name    string
		forward time.Duration
		allowed bool
	}{
		{"a minute on", time.Minute, true},
		{"ten minutes on", 9*time.Minute + 30*time.Second, true},
		{"and no longer", time.Minute, false},
	} {
		w.clock.forward(step.forward)
		if err := w.Authorize(t.Context(), vm); (err == nil) != step.allowed {
			t.Errorf("%s: got %v, want allowed: %t", step.name, err, step.allowed)
		}
	}
	err := w.Authorize(t.Context(), account(namespace, "stranger"))
	if _, isRefusal := errors.AsType[*identity.Refusal](err); err == nil || isRefusal {
		t.Errorf("one not asked about before: got %v, want an error that is no refusal", err)
	}
	if got := testutil.ToFloat64(w.Authorizer.metrics.With("kept")); got != 2 {
		t.Errorf("reviews with result kept: got %v, want 2", got)
	}
	w.requests.away.Store(false)
	if err := w.Authorize(t.Context(), vm); err != nil {
		t.Errorf("after the outage: got %v, want nil", err)
	}
}

func TestTheContextBoundsAQuestion(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := w.Authorize(ctx, account("default", "vm"))
	if _, isRefusal := errors.AsType[*identity.Refusal](err); err == nil || isRefusal {
		t.Errorf("got %v, want an error that is no refusal", err)
	}
}
