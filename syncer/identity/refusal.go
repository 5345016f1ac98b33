package identity

import (
	"fmt"
	"time"
)

// Reason is why a VM is refused, in a word, for metrics and logs.
type Reason string

// Reasons.
const (
	// ReasonMissing: no credential was shown.
	ReasonMissing Reason = "missing"
	// ReasonMalformed: the credential is none, or names no ServiceAccount.
	ReasonMalformed Reason = "malformed"
	// ReasonExpired: its time is over, or has not come.
	ReasonExpired Reason = "expired"
	// ReasonAudience: the token is for somebody else.
	ReasonAudience Reason = "audience"
	// ReasonUntrusted: nobody who is trusted here has issued it.
	ReasonUntrusted Reason = "untrusted"
	// ReasonTrustDomain: its trust domain is not the mesh's.
	ReasonTrustDomain Reason = "trust_domain"
	// ReasonRevoked: it was good once, and its issuer has taken it back.
	ReasonRevoked Reason = "revoked"
	// ReasonNamespace: the VM says that it is of a namespace which its identity is not of.
	ReasonNamespace Reason = "namespace"
	// ReasonForbidden: who it is is clear, and that it may not watch.
	ReasonForbidden Reason = "forbidden"
)

// Refusal is a no to a VM. Its text is for the VM's operator: what is wrong and what to do. It holds nothing of a
// secret, and names nothing that the VM may not know.
type Refusal struct {
	Reason  Reason
	Message string
}

// Refuse is a Refusal with a text.
func Refuse(reason Reason, format string, arguments ...any) *Refusal {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, arguments...)}
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// Expired refuses a credential, as the VM's operator knows it, whose time is over.
func Expired(credential string, at time.Time) *Refusal {
	return Refuse(ReasonExpired, "the %s expired at %s: renew it", credential, at.UTC().Format(time.RFC3339))
}
