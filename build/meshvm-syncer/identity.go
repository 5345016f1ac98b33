package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/identity/httpaccess"
	"github.com/meshvm/meshvm/syncer/identity/jwks"
	"github.com/meshvm/meshvm/syncer/identity/rbac"
	"github.com/meshvm/meshvm/syncer/identity/tokenreview"
	"github.com/meshvm/meshvm/syncer/server"
	"github.com/meshvm/meshvm/syncer/source/kubernetes"
)

// identityFlags are the flags of who VMs are and who of them may watch.
type identityFlags struct {
	review           bool
	jwks, issuer     string
	audience         string
	authorization    string
	recheck          time.Duration
	reviewsPerSecond float32
}

// Values of --authorization, and the one of --token-jwks that is no place.
const (
	authorizeByRBAC     = "rbac"
	authorizeByIdentity = "identity"
	jwksOfCluster       = "cluster"
)

const (
	defaultAudience = "meshvm"
	leastRecheck    = time.Second
)

func (i *identityFlags) declare(flags *pflag.FlagSet) {
	flags.BoolVar(&i.review, "token-review", false, "take tokens of ServiceAccounts, and have the API server review each: it knows whether the account is still there")
	flags.StringVar(&i.jwks, "token-jwks", "", "take tokens of ServiceAccounts, and verify them with their issuer's keys: those of the `cluster`, of a FILE (reread when it changes), or of an issuer's https URL. With --token-review too, a token need be good for one of the two")
	flags.StringVar(&i.issuer, "token-issuer", "", "`ISSUER` that tokens verified by --token-jwks must be of (default what the cluster says, or the URL)")
	flags.StringVar(&i.audience, "token-audience", defaultAudience, "`AUDIENCE` that tokens must be for")
	flags.StringVar(&i.authorization, "authorization", "", "who of the VMs with an identity may watch: those that rbac allows to watch registries.meshvm.io in their namespace, or all (`identity`) (default rbac where tokens are taken, else identity)")
	flags.DurationVar(&i.recheck, "identity-recheck", 2*time.Minute, "`DURATION` after which it is looked again whether a VM may still watch")
	flags.Float32Var(&i.reviewsPerSecond, "identity-qps", 100, "`NUMBER` of reviews a second that the API server is asked for at most, of tokens and of access each, and twice that at once")
}

// identitySettings are the flags, checked.
type identitySettings struct {
	review           bool
	jwks, issuer     string
	audience         string
	rbac             bool
	recheck          time.Duration
	reviewsPerSecond float32
}

func (i identitySettings) takesTokens() bool { return i.review || i.jwks != "" }

// asksCluster names the flag for whose sake a cluster is asked, empty where none is.
func (i identitySettings) asksCluster() string {
	switch {
	case i.review:
		return "--token-review"
	case i.jwks == jwksOfCluster:
		return "--token-jwks " + jwksOfCluster
	case i.rbac:
		return "--authorization " + authorizeByRBAC
	}
	return ""
}

// settings checks the flags by themselves.
func (i *identityFlags) settings(given func(name string) bool) (identitySettings, error) {
	s := identitySettings{review: i.review, jwks: i.jwks, issuer: i.issuer, audience: i.audience, recheck: i.recheck, reviewsPerSecond: i.reviewsPerSecond}
	if given("token-jwks") && i.jwks == "" {
		return s, errors.New("--token-jwks is empty: want cluster, a file, or an https URL")
	}
	if err := s.checkTokens(given); err != nil {
		return s, err
	}
	switch i.authorization {
	case "":
		s.rbac = s.takesTokens()
	case authorizeByRBAC, authorizeByIdentity:
		s.rbac = i.authorization == authorizeByRBAC
	default:
		return s, fmt.Errorf("--authorization %q: want %s or %s", i.authorization, authorizeByRBAC, authorizeByIdentity)
	}
	if i.recheck < leastRecheck {
		return s, fmt.Errorf("--identity-recheck %s: want at least %s", i.recheck, leastRecheck)
	}
	if !(i.reviewsPerSecond >= 1) { // not a number, neither
		return s, fmt.Errorf("--identity-qps %v: want at least 1", i.reviewsPerSecond)
	}
	return s, nil
}

func (i identitySettings) checkTokens(given func(name string) bool) error {
	switch {
	case i.issuer != "" && i.jwks == "":
		return errors.New("--token-issuer goes with --token-jwks only: the API server knows its issuers itself")
	case given("token-audience") && !i.takesTokens():
		return errors.New("--token-audience goes with --token-review or --token-jwks only")
	case i.audience == "" || strings.ContainsFunc(i.audience, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("--token-audience %q: want a word such as %s", i.audience, defaultAudience)
	case i.jwks == "" || i.jwks == jwksOfCluster:
		return nil
	case strings.Contains(i.jwks, "://"):
		if _, err := jwks.Issuer(i.jwks, http.DefaultClient); err != nil {
			return fmt.Errorf("--token-jwks %q: %w", i.jwks, err)
		}
	case i.issuer == "":
		return fmt.Errorf("--token-jwks %s: a file does not say whose keys it holds: want --token-issuer too", i.jwks)
	}
	return nil
}

// checkIdentity checks the flags against the others.
func (r *rawFlags) checkIdentity(s *settings) error {
	flag := s.identity.asksCluster()
	switch {
	case s.kubeconfig != "" && s.manifests != "" && flag == "" && r.httpAuthorization != httpByKubernetes:
		return errors.New("--kubeconfig and --manifests exclude each other: want one source")
	case s.manifests != "" && s.kubeconfig == "" && flag != "":
		hint := ""
		if s.identity.rbac && r.identity.authorization == "" {
			hint = "; where tokens are taken RBAC is asked, too, but with --authorization " + authorizeByIdentity
		}
		return fmt.Errorf("%s with --manifests: want --kubeconfig too, for the cluster that is to be asked%s", flag, hint)
	case r.insecure && s.identity.rbac && !s.identity.takesTokens():
		return fmt.Errorf("--authorization %s with --insecure: nobody has an identity over plaintext without tokens; want --token-review or --token-jwks", authorizeByRBAC)
	}
	return nil
}

// gate is who finds out who VMs are and whether they may watch.
type gate struct {
	tokens     identity.TokenAuthenticator // nil: no tokens are taken
	authorizer identity.Authorizer         // nil: everybody may
	verifier   *jwks.Verifier              // to be run; nil: none
}

// openGate prepares what the flags ask for.
func openGate(ctx context.Context, s settings, log *slog.Logger, metrics prometheus.Registerer) (gate, error) {
	var g gate
	var reach *rest.Config
	if flag := s.identity.asksCluster(); flag != "" {
		var err error
		if reach, err = kubernetes.RESTConfig(s.kubeconfig); err != nil {
			return gate{}, fmt.Errorf("%s: %w", flag, err)
		}
		reach.UserAgent = "meshvm-syncer/" + version
		reach.QPS, reach.Burst = s.identity.reviewsPerSecond, int(2*s.identity.reviewsPerSecond)
	}
	var union identity.Union
	if s.identity.jwks != "" {
		var err error
		if g.verifier, err = s.identity.openVerifier(ctx, reach, log, metrics); err != nil {
			return gate{}, fmt.Errorf("--token-jwks: %w", err)
		}
		union = append(union, g.verifier)
	}
	if s.identity.review {
		reviewer, err := tokenreview.New(tokenreview.Config{
			REST: reach, Audience: s.identity.audience, Recheck: s.identity.recheck, Log: log, Metrics: metrics,
		})
		if err != nil {
			return gate{}, fmt.Errorf("--token-review: %w", err)
		}
		union = append(union, reviewer)
	}
	if s.identity.review && s.identity.jwks == jwksOfCluster {
		log.Warn("tokens of the cluster are verified offline first, and those are not reviewed: that an account was deleted is seen when its token ends; leave out --token-jwks to see it at once")
	}
	if len(union) > 0 {
		g.tokens = union
	}
	if s.identity.rbac {
		authorizer, err := rbac.New(rbac.Config{REST: reach, Recheck: s.identity.recheck, Log: log, Metrics: metrics})
		if err != nil {
			return gate{}, fmt.Errorf("--authorization: %w", err)
		}
		g.authorizer = authorizer
	}
	return g, nil
}

// openVerifier prepares to verify tokens. A file must be good from the start, as those of TLS must; who is reached through a network may be
// away for a while.
func (i identitySettings) openVerifier(ctx context.Context, reach *rest.Config, log *slog.Logger, metrics prometheus.Registerer) (*jwks.Verifier, error) {
	config := jwks.Config{Issuer: i.issuer, Audience: i.audience, Log: log, Metrics: metrics}
	isFile := false
	var err error
	switch {
	case i.jwks == jwksOfCluster:
		config.Source, err = jwks.Cluster(reach)
	case strings.Contains(i.jwks, "://"):
		if config.Issuer == "" {
			config.Issuer = i.jwks
		}
		// Connections are not kept for five minutes.
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.DisableKeepAlives = true
		config.Source, err = jwks.Issuer(i.jwks, &http.Client{Transport: transport})
	default:
		config.Source, isFile = jwks.File(i.jwks), true
	}
	if err != nil {
		return nil, err
	}
	verifier, err := jwks.New(config)
	if err != nil {
		return nil, err
	}
	if isFile {
		if err := verifier.Load(ctx); err != nil {
			return nil, err
		}
	}
	return verifier, nil
}

// openHTTP prepares what decides who may see metrics and the status page; nil: nobody is asked.
func openHTTP(s settings, log *slog.Logger) (server.HTTPAuthorizer, error) {
	if !s.httpByCluster {
		return nil, nil //nolint:nilnil // no authorizer is an answer: the server then has rules of its own
	}
	reach, err := kubernetes.RESTConfig(s.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--http-authorization: %w", err)
	}
	reach.UserAgent = "meshvm-syncer/" + version
	access, err := httpaccess.New(httpaccess.Config{REST: reach, Log: log})
	if err != nil {
		return nil, fmt.Errorf("--http-authorization: %w", err)
	}
	return access, nil
}

// apply puts the gate into the server's options.
func (g gate) apply(options *server.Options, recheck time.Duration) {
	options.Tokens, options.Authorizer, options.Recheck = g.tokens, g.authorizer, recheck
}
