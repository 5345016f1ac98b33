package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxToken bounds a token, in bytes: HTTP/2 servers take no longer header, and VMs read no more.
const maxToken = 12 << 10

// Claims are what a token says of itself. Nobody has verified them.
type Claims struct {
	Issuer  string   `json:"issuer"`
	Subject string   `json:"subject"`
	Account *Account `json:"-"` // nil: the subject is no ServiceAccount
	// Audiences are for whom it is.
	Audiences []string `json:"audiences"`
	// The times are zero where the token does not say them.
	Issued    time.Time `json:"issued,omitzero"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
}

// InspectToken reads the claims of the token in a file. No error holds any of it.
func InspectToken(path string) (Claims, error) {
	content, err := readSmall(path, maxToken)
	if err != nil {
		return Claims{}, fmt.Errorf("read the token: %w", err)
	}
	claims, err := parseClaims(string(bytes.TrimSpace(content)))
	if err != nil {
		return Claims{}, fmt.Errorf("read the token in %s: %w", path, err)
	}
	return claims, nil
}

func parseClaims(token string) (Claims, error) {
	var registered jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &registered); err != nil {
		// The library's text may quote what it could not read.
		return Claims{}, errors.New("it is no JSON Web Token")
	}
	for _, date := range []*jwt.NumericDate{registered.IssuedAt, registered.NotBefore, registered.ExpiresAt} {
		if year := moment(date).Year(); year < 1 || year > 9999 {
			return Claims{}, errors.New("a time in it is none")
		}
	}
	claims := Claims{
		Issuer: registered.Issuer, Subject: registered.Subject, Audiences: registered.Audience,
		Issued: moment(registered.IssuedAt), NotBefore: moment(registered.NotBefore), Expires: moment(registered.ExpiresAt),
	}
	if rest, ok := strings.CutPrefix(claims.Subject, "system:serviceaccount:"); ok {
		if namespace, name, ok := strings.Cut(rest, ":"); ok {
			if account := (Account{namespace, name}); account.Check() == nil {
				claims.Account = &account
			}
		}
	}
	return claims, nil
}

func moment(date *jwt.NumericDate) time.Time {
	if date == nil {
		return time.Time{}
	}
	return date.UTC()
}

// IsValid reports whether the token's time has come, and is not over within a while from now.
func (c Claims) IsValid(now time.Time, within time.Duration) bool {
	return !now.Before(c.NotBefore) && (c.Expires.IsZero() || c.Expires.After(now.Add(within)))
}
