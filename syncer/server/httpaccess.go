package server

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/meshvm/meshvm/syncer/identity"
)

// HTTPAuthorizer decides whether whose token it is may get a path. It returns an identity.Refusal, ReasonForbidden where
// the token is good, or an error where nobody can tell.
type HTTPAuthorizer interface {
	AuthorizeHTTP(ctx context.Context, token, path string) error
}

// guardHTTP lets through those who may get a path and what is below it; without an authorizer, programs on this machine.
func (s *Server) guardHTTP(path string) func(http.HandlerFunc) http.HandlerFunc {
	return func(serve http.HandlerFunc) http.HandlerFunc {
		if s.opts.HTTPAuthorizer == nil {
			return s.toThisMachine(serve)
		}
		return func(w http.ResponseWriter, r *http.Request) {
			scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
				w.Header().Set("WWW-Authenticate", `Bearer realm="meshvm-syncer"`)
				http.Error(w, "want a token: Authorization: Bearer TOKEN, such as kubectl create token gives", http.StatusUnauthorized)
				return
			}
			err := s.opts.HTTPAuthorizer.AuthorizeHTTP(r.Context(), token, path)
			var refusal *identity.Refusal
			switch {
			case err == nil:
				serve(w, r)
			case errors.As(err, &refusal) && refusal.Reason == identity.ReasonForbidden:
				http.Error(w, err.Error(), http.StatusForbidden)
			case errors.As(err, &refusal):
				w.Header().Set("WWW-Authenticate", `Bearer realm="meshvm-syncer", error="invalid_token"`)
				http.Error(w, err.Error(), http.StatusUnauthorized)
			default:
				s.warn("cannot tell who may see it over HTTP", "path", path, "error", err)
				http.Error(w, "the API server cannot be asked now who may see this: try again", http.StatusServiceUnavailable)
			}
		}
	}
}

// guardShell serves the page without data: where tokens are asked for, to everybody, so that there is a place to give one.
func (s *Server) guardShell(serve http.HandlerFunc) http.HandlerFunc {
	if s.opts.HTTPAuthorizer == nil {
		return s.toThisMachine(serve)
	}
	return serve
}
