package bootstrap

import (
	"bytes"
	"fmt"
	"time"

	"github.com/meshvm/meshvm/syncer/identity/claims"
)

// Claims are what a token says of itself. Nobody has verified them.
type Claims struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
	// Account is nil where the subject is no ServiceAccount.
	Account *Account `json:"account,omitempty"`
	// Audiences are for whom it is.
	Audiences []string `json:"audiences"`
	// The times are zero where the token does not say them.
	NotBefore time.Time `json:"notBefore,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
}

// InspectToken reads the claims of the token in a file. No error holds any of it.
func InspectToken(path string) (Claims, error) {
	content, err := readSmall(path, claims.MaxToken)
	if err != nil {
		return Claims{}, fmt.Errorf("read the token: %w", err)
	}
	said, err := claims.Unverified(string(bytes.TrimSpace(content)))
	if err != nil {
		return Claims{}, fmt.Errorf("read the token in %s: %w", path, err)
	}
	c := Claims{
		Issuer: said.Issuer, Subject: said.Subject, Audiences: said.Audience,
		NotBefore: said.NotBefore.UTC(), Expires: said.Expires.UTC(),
	}
	if namespace, name, ok := claims.Account(said.Subject); ok {
		c.Account = &Account{namespace, name}
	}
	return c, nil
}

// IsValid reports whether the token's time has come, and is not over within a while from now.
func (c Claims) IsValid(now time.Time, within time.Duration) bool {
	return !now.Before(c.NotBefore) && (c.Expires.IsZero() || c.Expires.After(now.Add(within)))
}
