package registryv1

// Reasons in google.rpc.ErrorInfo, with ErrorDomain as the domain, when a syncer does not let a VM watch: with
// UNAUTHENTICATED because it does not believe who the VM is, with PERMISSION_DENIED because that one may not.
const (
	// RefusedMissing: the VM showed no credential.
	RefusedMissing = "MISSING"
	// RefusedMalformed: the credential is none, or names no ServiceAccount.
	RefusedMalformed = "MALFORMED"
	// RefusedExpired: its time is over, or has not come.
	RefusedExpired = "EXPIRED"
	// RefusedAudience: the token is for somebody else.
	RefusedAudience = "AUDIENCE"
	// RefusedUntrusted: nobody whom the syncer trusts has issued it.
	RefusedUntrusted = "UNTRUSTED"
	// RefusedTrustDomain: its trust domain is not the mesh's.
	RefusedTrustDomain = "TRUST_DOMAIN"
	// RefusedRevoked: it was good once, and its issuer has taken it back.
	RefusedRevoked = "REVOKED"
	// RefusedNamespace: the VM's Hello names another namespace than its credential.
	RefusedNamespace = "NAMESPACE"
	// RefusedForbidden: who the VM is is clear, and that it may not watch.
	RefusedForbidden = "FORBIDDEN"
)
