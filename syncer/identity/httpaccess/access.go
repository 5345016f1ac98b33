// Package httpaccess has the API server decide who may get a path of the syncer's HTTP port: whose a token is by TokenReview,
// and whether it may by SubjectAccessReview of a non-resource URL. A verdict counts for a minute at most.
package httpaccess

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationv1client "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationv1client "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/identity/verdict"
)

// Bounds of verdicts and reviews.
const (
	goodKept      = time.Minute
	refusalKept   = 10 * time.Second
	again         = 5 * time.Second
	reviewTimeout = 10 * time.Second
	atOnce        = 8
	verdictsKept  = 1024
)

// Config of an Authorizer.
type Config struct {
	// REST says how to reach the API server.
	REST *rest.Config
	// Log receives what the client of the API server has to say.
	Log *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Authorizer asks the API server.
type Authorizer struct {
	tokens   authenticationv1client.TokenReviewInterface
	accesses authorizationv1client.SubjectAccessReviewInterface
	verdicts *verdict.Cache[struct{}]
	log      logr.Logger
}

// New returns an Authorizer. It asks nobody yet.
func New(config Config) (*Authorizer, error) {
	tokens, err := authenticationv1client.NewForConfig(config.REST)
	if err != nil {
		return nil, fmt.Errorf("prepare to review tokens: %w", err)
	}
	accesses, err := authorizationv1client.NewForConfig(config.REST)
	if err != nil {
		return nil, fmt.Errorf("prepare to review access: %w", err)
	}
	return &Authorizer{
		tokens: tokens.TokenReviews(), accesses: accesses.SubjectAccessReviews(), log: logr.FromSlogHandler(config.Log.Handler()),
		verdicts: verdict.New[struct{}](verdict.Options{
			Size: verdictsKept, Good: goodKept, Bad: refusalKept, Kept: 0, Again: again, AtOnce: atOnce, Timeout: reviewTimeout, Now: config.Now,
		}),
	}, nil
}

// AuthorizeHTTP returns nil where whose token it is may get the path.
func (a *Authorizer) AuthorizeHTTP(ctx context.Context, token, path string) error {
	_, _, err := a.verdicts.Get(ctx, sha256.Sum256([]byte(path+"\x00"+token)), func(ctx context.Context, _ bool) (verdict.Answer[struct{}], error) {
		return verdict.Answer[struct{}]{}, a.review(klog.NewContext(ctx, a.log), token, path)
	})
	return err
}

func (a *Authorizer) review(ctx context.Context, token, path string) error {
	review, err := a.tokens.Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	switch {
	case err != nil && strings.Contains(err.Error(), token):
		return errors.New("review a token: the API server answers with an error that holds the token")
	case err != nil:
		return fmt.Errorf("review a token: %w", err)
	case !review.Status.Authenticated && verdict.Undecided(review.Status.Error):
		return errors.New("review a token: the API server could not decide")
	case !review.Status.Authenticated:
		return identity.Refuse(identity.ReasonUntrusted, "the cluster does not take the token: get one with kubectl create token")
	}
	user := review.Status.User
	spec := authorizationv1.SubjectAccessReviewSpec{
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
		User:                  user.Username, UID: user.UID, Groups: user.Groups, Extra: map[string]authorizationv1.ExtraValue{},
	}
	for key, values := range user.Extra {
		spec.Extra[key] = authorizationv1.ExtraValue(values)
	}
	access, err := a.accesses.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return fmt.Errorf("review the access of %s: %w", user.Username, err)
	case access.Status.Allowed && !access.Status.Denied:
		return nil
	case !access.Status.Denied && verdict.Undecided(access.Status.EvaluationError):
		return fmt.Errorf("review the access of %s: the API server could not decide", user.Username)
	}
	return identity.Refuse(identity.ReasonForbidden, "%s may not get %s; somebody who may grant it runs: kubectl create clusterrole meshvm-%s --verb=get --non-resource-url=%s "+
		"and kubectl create clusterrolebinding meshvm-%s-NAME --clusterrole=meshvm-%s %s",
		user.Username, path, path[1:], path, path[1:], path[1:], subject(user.Username))
}

// subject is a user as kubectl create clusterrolebinding takes it.
func subject(user string) string {
	if account, found := strings.CutPrefix(user, "system:serviceaccount:"); found {
		return "--serviceaccount=" + account
	}
	return "--user=" + user
}
