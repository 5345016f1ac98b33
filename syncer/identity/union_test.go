package identity

import (
	"context"
	"errors"
	"testing"
)

// verdict is an authenticator with one answer.
type verdict struct {
	name string
	err  error
}

func (v verdict) Authenticate(context.Context, string) (Identity, error) {
	return Identity{Name: v.name}, v.err
}

func TestUnion(t *testing.T) {
	away := errors.New("away")
	a, b := verdict{name: "a"}, verdict{name: "b"}
	refuse := func(reason Reason) verdict { return verdict{err: Refuse(reason, "no")} }
	for name, test := range map[string]struct {
		union  Union
		want   string
		reason Reason // of the refusal, if one is wanted
		err    error
	}{
		"the first that knows it":                {Union{a, b}, "a", "", nil},
		"or the second":                          {Union{refuse(ReasonUntrusted), b}, "b", "", nil},
		"whatever the first says":                {Union{refuse(ReasonExpired), b}, "b", "", nil},
		"or if it can say nothing":               {Union{verdict{err: away}, b}, "b", "", nil},
		"nobody":                                 {Union{refuse(ReasonUntrusted), refuse(ReasonUntrusted)}, "", ReasonUntrusted, nil},
		"the more telling refusal":               {Union{refuse(ReasonUntrusted), refuse(ReasonRevoked)}, "", ReasonRevoked, nil},
		"wherever it comes from":                 {Union{refuse(ReasonExpired), refuse(ReasonUntrusted)}, "", ReasonExpired, nil},
		"one who cannot tell might have let in":  {Union{refuse(ReasonUntrusted), verdict{err: away}}, "", "", away},
		"and so might one who was asked earlier": {Union{verdict{err: away}, refuse(ReasonRevoked)}, "", "", away},
		"none at all":                            {nil, "", ReasonUntrusted, nil},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := test.union.Authenticate(t.Context(), "token")
			refusal, isRefusal := errors.AsType[*Refusal](err)
			switch {
			case test.reason != "":
				if !isRefusal || refusal.Reason != test.reason {
					t.Errorf("got %v, want a refusal for reason %s", err, test.reason)
				}
			case isRefusal || !errors.Is(err, test.err):
				t.Errorf("got %v, want %v", err, test.err)
			}
			if who.Name != test.want {
				t.Errorf("identity: got %q, want %q", who.Name, test.want)
			}
		})
	}
}
