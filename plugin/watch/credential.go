package watch

import (
	"crypto/x509"
	"strings"
	"time"
)

// CredentialKind is what a VM proves itself with, in a word, for metrics and logs.
type CredentialKind string

// Kinds of credentials.
const (
	CredentialCertificate CredentialKind = "certificate"
	CredentialToken       CredentialKind = "token"
)

// Credential is what the files of a Client hold, for people. There is nothing of the secret in it.
type Credential struct {
	Kind CredentialKind
	File string
	// Subject is the SPIFFE ID or the common name of a certificate, and the subject of a token. Nobody has
	// verified it here. Empty: it is not known.
	Subject string
	// Issued and Expires are from when until when it is good, to a second. Zero: that is not known, as for a token
	// that is no JWT.
	Issued, Expires time.Time
	// Fault is why the file cannot be used. Empty: it can.
	Fault string
}

// Expired reports whether the end of a credential is known and over.
func (c Credential) Expired(now time.Time) bool {
	return !c.Expires.IsZero() && !now.Before(c.Expires)
}

const (
	// noticeAtMost and noticeShare say how long before its end a credential that nobody has renewed is worth a word:
	// so long at most, or this share of its life.
	noticeAtMost = time.Hour
	noticeShare  = 10
)

// endsSoon reports whether a credential should have been renewed by now.
func (c Credential) endsSoon(now time.Time) bool {
	if c.Expires.IsZero() {
		return false
	}
	notice := noticeAtMost
	if !c.Issued.IsZero() {
		notice = min(notice, max(0, c.Expires.Sub(c.Issued)/noticeShare))
	}
	return !now.Before(c.Expires.Add(-notice))
}

// outlives reports whether a credential in use ends before the one that has come in its place.
func (c Credential) outlives(used Credential) bool {
	return c.Fault == "" && !used.Expires.IsZero() && (c.Expires.IsZero() || c.Expires.After(used.Expires))
}

// certificateCredential is what is to be known of a client certificate.
func certificateCredential(file string, leaf *x509.Certificate) Credential {
	c := Credential{Kind: CredentialCertificate, File: file, Subject: printable(leaf.Subject.CommonName), Issued: leaf.NotBefore, Expires: leaf.NotAfter}
	for _, id := range leaf.URIs {
		if id.Scheme == "spiffe" {
			c.Subject = printable(id.String())
			break
		}
	}
	return c
}

// tokenCredential is what is to be known of a bearer token.
func tokenCredential(file, value string) Credential {
	claims := readClaims(value)
	return Credential{Kind: CredentialToken, File: file, Subject: printable(claims.subject), Issued: claims.issued, Expires: claims.expires}
}

// maxSubject bounds a subject for people, in bytes.
const maxSubject = 512

// printable keeps what a file says fit for a log line and a terminal.
func printable(text string) string {
	kept := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return kept[:min(len(kept), maxSubject)]
}
