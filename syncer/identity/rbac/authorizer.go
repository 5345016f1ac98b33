package rbac

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authorizationv1client "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/identity/verdict"
)

// What an identity must be allowed, and the ClusterRole of deploy/kubernetes/watcher-role.yaml that allows it.
const (
	Verb        = "watch"
	Group       = "meshvm.io"
	Resource    = "registries"
	ClusterRole = "meshvm-watcher"
)

// Bounds of reviews.
const (
	// Outage is how long the last yes goes on while the API server cannot be asked.
	Outage = 10 * time.Minute

	refusalKept   = 10 * time.Second
	againInOutage = 10 * time.Second
	reviewTimeout = 10 * time.Second
	reviewsAtOnce = 32
	verdictsKept  = 32_768 // of each kind: more than there may be VMs
)

// Config of an Authorizer.
type Config struct {
	// REST says how to reach the API server. Its rate limits are those of the reviews: it is to be one of their own.
	REST *rest.Config
	// Recheck is how often a live stream is asked about: see the package.
	Recheck time.Duration
	// Log receives what the client of the API server has to say. Nil: nothing.
	Log *slog.Logger
	// Metrics is where metrics are registered. Nil: nowhere.
	Metrics prometheus.Registerer
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Authorizer is an identity.Authorizer that asks the API server.
type Authorizer struct {
	reviews  authorizationv1client.SubjectAccessReviewInterface
	verdicts *verdict.Cache[struct{}]
	metrics  *verdict.Metrics
	log      logr.Logger
}

// New returns an Authorizer. It asks nobody yet.
func New(config Config) (*Authorizer, error) {
	client, err := authorizationv1client.NewForConfig(config.REST)
	if err != nil {
		return nil, fmt.Errorf("prepare to review access: %w", err)
	}
	handler := slog.DiscardHandler
	if config.Log != nil {
		handler = config.Log.Handler()
	}
	counts, err := verdict.NewMetrics(config.Metrics, prometheus.CounterOpts{
		Name: "meshvm_syncer_access_reviews_total",
		Help: "Reviews of the access of VMs that the API server was asked for, by result: allowed, denied, error (nobody could tell) or kept (nobody could tell, and the last yes went on).",
	}, "allowed", "denied")
	if err != nil {
		return nil, err
	}
	return &Authorizer{
		reviews: client.SubjectAccessReviews(),
		metrics: counts,
		log:     logr.FromSlogHandler(handler),
		verdicts: verdict.New[struct{}](verdict.Options{
			Size: verdictsKept, Good: config.Recheck / 2, Bad: refusalKept,
			Kept: Outage, Again: againInOutage,
			AtOnce: reviewsAtOnce, Timeout: reviewTimeout, Now: config.Now,
		}),
	}, nil
}

// Authorize implements identity.Authorizer. The package says how long a verdict may be old.
func (a *Authorizer) Authorize(ctx context.Context, who identity.Identity) error {
	if who.Namespace == "" {
		return identity.Refuse(identity.ReasonForbidden, "the credential names no ServiceAccount, and RBAC lets in nobody else: "+
			"want a token, or a certificate with a SPIFFE ID")
	}
	spec := question(who)
	content, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("review the access of %s: %w", who.Name, err)
	}
	_, outcome, err := a.verdicts.Get(ctx, sha256.Sum256(content), func(ctx context.Context, _ bool) (verdict.Answer[struct{}], error) {
		return verdict.Answer[struct{}]{}, a.review(ctx, who, spec)
	})
	a.metrics.Count(outcome, err)
	return err
}

// credentialID is what the API server adds to a user of whose token it knows the ID.
const credentialID = "authentication.kubernetes.io/credential-id"

// question is what the API server is asked. Which of its tokens an account has shown is left out, so that one verdict does for all VMs
// of the account.
func question(who identity.Identity) authorizationv1.SubjectAccessReviewSpec {
	spec := authorizationv1.SubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: who.Namespace, Verb: Verb, Group: Group, Version: "*", Resource: Resource,
		},
		User: who.User.Name, UID: who.User.UID, Groups: who.User.Groups,
	}
	for key, values := range who.User.Extra {
		if key == credentialID {
			continue
		}
		if spec.Extra == nil {
			spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		spec.Extra[key] = values
	}
	return spec
}

// review asks the API server.
func (a *Authorizer) review(ctx context.Context, who identity.Identity, spec authorizationv1.SubjectAccessReviewSpec) error {
	ctx = klog.NewContext(ctx, a.log)
	review, err := a.reviews.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return errors.New("review access: the API server forbids it to the syncer: apply deploy/kubernetes/rbac-identity.yaml")
	case err != nil:
		return fmt.Errorf("review the access of %s: %w", who.Name, err)
	case review.Status.Allowed && !review.Status.Denied:
		return nil
	case !review.Status.Denied && verdict.Undecided(review.Status.EvaluationError):
		return fmt.Errorf("review the access of %s: the API server could not decide: %s", who.Name, review.Status.EvaluationError)
	// RBAC's words for a binding to a role that is not there.
	case strings.Contains(review.Status.Reason, `"`+ClusterRole+`" not found`):
		return identity.Refuse(identity.ReasonForbidden, "%s may not %s %s.%s in namespace %s, for its binding is to a ClusterRole that is not there; "+
			"somebody who may create it runs: kubectl apply -f deploy/kubernetes/watcher-role.yaml", who.User.Name, Verb, Resource, Group, who.Namespace)
	}
	return refusal(who)
}

// refusal says what to grant. Who it is addressed to has proved to be that ServiceAccount.
func refusal(who identity.Identity) *identity.Refusal {
	return identity.Refuse(identity.ReasonForbidden, "%s may not %s %s.%s in namespace %s; somebody who may grant it runs: "+
		"kubectl create rolebinding %s-%s --clusterrole=%s --serviceaccount=%s:%s -n %s",
		who.User.Name, Verb, Resource, Group, who.Namespace,
		ClusterRole, who.ServiceAccount, ClusterRole, who.Namespace, who.ServiceAccount, who.Namespace)
}
