package tokenreview

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationv1client "k8s.io/client-go/kubernetes/typed/authentication/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/identity/claims"
	"github.com/meshvm/meshvm/syncer/identity/verdict"
)

// Bounds of reviews.
const (
	// Outage is how long the last good verdict goes on while the API server cannot be asked.
	Outage = 10 * time.Minute

	refusalKept    = 10 * time.Second
	againInOutage  = 10 * time.Second
	reviewTimeout  = 10 * time.Second
	reviewsAtOnce  = 32
	verdictsKept   = 32_768 // of each kind: more than there may be VMs
	clocksTolerate = time.Minute
)

// Config of a Reviewer.
type Config struct {
	// REST says how to reach the API server. Its QPS and burst are those of the reviews of tokens that were good once, and again of
	// the others, so that made-up tokens hold up nobody who is known. It must bring no rate limiter.
	REST *rest.Config
	// Audience that tokens must be for.
	Audience string
	// Recheck is how often a live stream is asked about: see the package.
	Recheck time.Duration
	// Log receives what the client of the API server has to say. Nil: nothing.
	Log *slog.Logger
	// Metrics is where metrics are registered. Nil: nowhere.
	Metrics prometheus.Registerer
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Reviewer is an identity.TokenAuthenticator that asks the API server.
type Reviewer struct {
	// reviews are asked for by clients with a rate limit each: one for tokens that were good once, one for those of strangers.
	reviews  map[bool]authenticationv1client.TokenReviewInterface
	audience string
	verdicts *verdict.Cache[identity.Identity]
	metrics  *verdict.Metrics
	log      logr.Logger
	now      func() time.Time
}

// New returns a Reviewer. It asks nobody yet.
func New(config Config) (*Reviewer, error) {
	connections, err := rest.HTTPClientFor(config.REST)
	if err != nil {
		return nil, fmt.Errorf("prepare to review tokens: %w", err)
	}
	reviews := map[bool]authenticationv1client.TokenReviewInterface{}
	for _, wasGood := range []bool{false, true} {
		client, err := authenticationv1client.NewForConfigAndClient(config.REST, connections)
		if err != nil {
			return nil, fmt.Errorf("prepare to review tokens: %w", err)
		}
		reviews[wasGood] = client.TokenReviews()
	}
	handler := slog.DiscardHandler
	if config.Log != nil {
		handler = config.Log.Handler()
	}
	counts, err := verdict.NewMetrics(config.Metrics, prometheus.CounterOpts{
		Name: "meshvm_syncer_token_reviews_total",
		Help: "Reviews of tokens that the API server was asked for, by result: good, refused, error (nobody could tell) or kept (nobody could tell, and the last good verdict went on).",
	}, "good", "refused")
	if err != nil {
		return nil, err
	}
	now := config.Now
	if now == nil {
		now = time.Now
	}
	return &Reviewer{
		reviews:  reviews,
		audience: config.Audience,
		metrics:  counts,
		log:      logr.FromSlogHandler(handler),
		now:      now,
		verdicts: verdict.New[identity.Identity](verdict.Options{
			Size: verdictsKept, Good: config.Recheck / 2, Bad: refusalKept,
			Kept: Outage, Again: againInOutage,
			AtOnce: reviewsAtOnce, Timeout: reviewTimeout, Now: now,
		}),
	}, nil
}

// Authenticate implements identity.TokenAuthenticator. The package says how long a verdict may be old.
func (r *Reviewer) Authenticate(ctx context.Context, token string) (identity.Identity, error) {
	// What is certainly no good token is no question to the API server.
	said, err := claims.Unverified(token)
	if err != nil {
		return identity.Identity{}, err
	}
	if !said.Expires.IsZero() && r.now().After(said.Expires.Add(clocksTolerate)) {
		return identity.Identity{}, identity.Expired("token", said.Expires)
	}
	who, outcome, err := r.verdicts.Get(ctx, sha256.Sum256([]byte(token)), func(ctx context.Context, wasGood bool) (verdict.Answer[identity.Identity], error) {
		who, err := r.review(ctx, token, said, wasGood)
		return verdict.Answer[identity.Identity]{Value: who, Ends: who.Expires}, err
	})
	r.metrics.Count(outcome, err)
	return who, err
}

// review asks the API server.
func (r *Reviewer) review(ctx context.Context, token string, said claims.Claims, wasGood bool) (identity.Identity, error) {
	ctx = klog.NewContext(ctx, r.log)
	review, err := r.reviews[wasGood].Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{r.audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return identity.Identity{}, unanswered(err, token)
	}
	status := review.Status
	if !status.Authenticated {
		if verdict.Undecided(status.Error) {
			return identity.Identity{}, unanswered(fmt.Errorf("the API server could not decide: %s", status.Error), token)
		}
		return identity.Identity{}, r.refusal(said, wasGood, status.Error)
	}
	// An authenticator that knows nothing of audiences says none: the token is then for the API server itself.
	if !slices.Contains(status.Audiences, r.audience) {
		return identity.Identity{}, claims.WrongAudience(r.audience)
	}
	namespace, name, isAccount := claims.Account(status.User.Username)
	if !isAccount {
		return identity.Identity{}, claims.NotAnAccount()
	}
	user := identity.User{Name: status.User.Username, UID: status.User.UID, Groups: status.User.Groups}
	if len(status.User.Extra) > 0 {
		user.Extra = make(map[string][]string, len(status.User.Extra))
		for key, values := range status.User.Extra {
			user.Extra[key] = values
		}
	}
	return identity.Identity{
		Method: identity.MethodTokenReview,
		Name:   user.Name, Namespace: namespace, ServiceAccount: name,
		Expires: said.Expires, User: user,
	}, nil
}

// deleted are signs in the API server's words that the token was good once: they come after it has verified the signature.
var deleted = []string{"has been deleted", "has been invalidated", "does not match claim", "not found"}

// refusal says why the API server says no. It only says so in words of its own; the claims, which prove nothing, are good enough to
// find words for one who is refused anyway.
func (r *Reviewer) refusal(said claims.Claims, wasGood bool, words string) *identity.Refusal {
	now := r.now()
	switch {
	case !said.Expires.IsZero() && !now.Before(said.Expires):
		return identity.Expired("token", said.Expires)
	case !said.NotBefore.IsZero() && now.Before(said.NotBefore):
		return identity.Refuse(identity.ReasonExpired, "the token is not good before %s: look at this machine's clock, and at the issuer's", said.NotBefore.UTC().Format(time.RFC3339))
	case !slices.Contains(said.Audience, r.audience):
		return claims.WrongAudience(r.audience)
	case wasGood || slices.ContainsFunc(deleted, func(sign string) bool { return strings.Contains(words, sign) }):
		return identity.Refuse(identity.ReasonRevoked, "the cluster has taken the token back, for its ServiceAccount or what it is bound to has been deleted: create the ServiceAccount and get a new token")
	}
	return identity.Refuse(identity.ReasonUntrusted, "the syncer's cluster has not issued the token: get one from that cluster with `meshvmctl token` or `kubectl create token --audience %s`", r.audience)
}

// unanswered is the fault of a review that has no answer. It holds nothing of the token, whatever the API server wrote into its error.
func unanswered(err error, token string) error {
	if apierrors.IsForbidden(err) {
		return errors.New("review a token: the API server forbids it to the syncer: apply deploy/kubernetes/rbac-identity.yaml")
	}
	if strings.Contains(err.Error(), token) {
		return errors.New("review a token: the API server answers with an error that holds the token")
	}
	return fmt.Errorf("review a token: %w", err)
}
