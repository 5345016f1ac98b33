package bootstrap

import "time"

// Token is a bearer token. Whatever prints it prints no secret.
type Token struct {
	secret string
	// Expires is when its life ends.
	Expires time.Time
}

// File is the token as a file holds it: one line. It is a secret.
func (t Token) File() []byte { return []byte(t.secret + "\n") }

// String keeps the token out of whatever is printed.
func (Token) String() string { return "token" }

// GoString keeps the token out of whatever is printed.
func (Token) GoString() string { return "token" }
