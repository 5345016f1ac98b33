package identity

import (
	"context"
	"errors"
	"slices"
)

// Union asks one authenticator after the other, and the first that knows the token decides, as those of the API server do. So a token
// that is verified offline first is not reviewed as well.
type Union []TokenAuthenticator

// telling orders reasons, the most telling last: who has verified a token and refuses it knows more than who does not know its
// issuer.
var telling = []Reason{ReasonUntrusted, ReasonMalformed, ReasonAudience, ReasonExpired, ReasonRevoked}

// Authenticate implements TokenAuthenticator. Where none knows the token and one of them cannot tell, nobody can; where all refuse it,
// the most telling refusal counts.
func (u Union) Authenticate(ctx context.Context, token string) (Identity, error) {
	var most *Refusal
	var undecided []error
	for _, authenticator := range u {
		who, err := authenticator.Authenticate(ctx, token)
		if err == nil {
			return who, nil
		}
		refusal, isRefusal := errors.AsType[*Refusal](err)
		switch {
		case !isRefusal:
			undecided = append(undecided, err)
		case most == nil || slices.Index(telling, refusal.Reason) > slices.Index(telling, most.Reason):
			most = refusal
		}
	}
	switch {
	case len(undecided) > 0:
		return Identity{}, errors.Join(undecided...)
	case most == nil:
		return Identity{}, Refuse(ReasonUntrusted, "the syncer takes no tokens")
	}
	return Identity{}, most
}
