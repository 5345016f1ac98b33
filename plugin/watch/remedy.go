package watch

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// istioCertificates is where an Istio agent keeps the certificate of its VM.
const istioCertificates = "/etc/certs"

// refusedReasons are the reasons that a syncer gives for letting a VM not in, and that this version knows.
var refusedReasons = []string{
	registryv1.RefusedMissing, registryv1.RefusedMalformed, registryv1.RefusedExpired, registryv1.RefusedAudience,
	registryv1.RefusedUntrusted, registryv1.RefusedTrustDomain, registryv1.RefusedRevoked, registryv1.RefusedNamespace, registryv1.RefusedForbidden,
}

// remedy says what to do about a failure, with the credentials that the files hold. Empty: nothing but to wait.
func remedy(failed *failure, credentials []Credential, config Config) string {
	shown := shownCredential(credentials)
	switch failed.cause {
	case CauseCredentials:
		return renewal(Credential{Kind: CredentialToken, File: config.TokenFile}) + "; the file must be readable by this process"
	case CauseTLS:
		return tlsRemedy(failed, shown, config)
	case CauseUnauthenticated, CausePermissionDenied:
		return refusalRemedy(failed.reason, shown)
	case CauseUnavailable, CauseTimeout, CauseSilent:
		return "see that the syncer runs and that it can be reached from here; nothing else is to be done"
	default:
		return ""
	}
}

// shownCredential is the one that decides at the syncer: a certificate with a SPIFFE ID, or else the token.
func shownCredential(credentials []Credential) Credential {
	shown := Credential{}
	for _, c := range credentials {
		if c.Kind == CredentialCertificate && strings.HasPrefix(c.Subject, "spiffe://") {
			return c
		}
		if c.Kind == CredentialToken || shown.Kind == "" {
			shown = c
		}
	}
	return shown
}

// renewal is how a credential is renewed.
func renewal(c Credential) string {
	switch {
	case c.Kind == CredentialToken:
		namespace, account := serviceAccount(c.Subject)
		return fmt.Sprintf("renew it: meshvmctl token --namespace %s --service-account %s --out %s",
			cmp.Or(namespace, "NAMESPACE"), cmp.Or(account, "SERVICE_ACCOUNT"), c.File)
	case strings.HasPrefix(c.Subject, "spiffe://") && filepath.Dir(c.File) == istioCertificates:
		return fmt.Sprintf("the Istio agent renews %s; is it running?", filepath.Dir(c.File))
	case c.Kind == CredentialCertificate:
		return fmt.Sprintf("have %s renewed by whoever issued it", c.File)
	default:
		return "give this VM a credential: tls CERT KEY CA or token FILE in the Corefile"
	}
}

func refusalRemedy(reason string, shown Credential) string {
	namespace, account := serviceAccount(shown.Subject)
	switch reason {
	case registryv1.RefusedMissing:
		return renewal(Credential{})
	case registryv1.RefusedExpired:
		return renewal(shown)
	case registryv1.RefusedAudience, registryv1.RefusedMalformed:
		return "what is in " + cmp.Or(shown.File, "the file") + " is not what the syncer takes; " + renewal(shown)
	case registryv1.RefusedRevoked:
		if shown.Kind == CredentialCertificate {
			return fmt.Sprintf("see that the syncer trusts who issued %s (--client-ca-file), or have it issued anew", shown.File)
		}
		return fmt.Sprintf("see that the ServiceAccount %s still exists, then %s", accountName(namespace, account), renewal(shown))
	case registryv1.RefusedUntrusted:
		return "see that the credential comes from the syncer's own cluster; " + renewal(shown)
	case registryv1.RefusedTrustDomain:
		return fmt.Sprintf("see that %s is of the syncer's mesh: of its trustDomain, or one of its trustDomainAliases", cmp.Or(shown.Subject, "the credential"))
	case registryv1.RefusedNamespace:
		return fmt.Sprintf("let namespace in the Corefile be %s, or leave it out", cmp.Or(namespace, "that of the credential"))
	case registryv1.RefusedForbidden:
		return fmt.Sprintf("grant the ServiceAccount %s verb watch on registries of group meshvm.io in namespace %s",
			accountName(namespace, account), cmp.Or(namespace, "NAMESPACE"))
	default:
		return "see what the syncer says, and its log"
	}
}

func accountName(namespace, account string) string {
	if namespace == "" {
		return "of this VM"
	}
	return namespace + "/" + account
}

// tlsRemedy tells whose certificate is at fault: what the peer says comes as a remote error.
func tlsRemedy(failed *failure, shown Credential, config Config) string {
	text := failed.err.Error()
	switch {
	case strings.Contains(text, "remote error") && strings.Contains(text, "certificate required"):
		return renewal(Credential{})
	case strings.Contains(text, "remote error") && strings.Contains(text, "expired"):
		return renewal(shown)
	case strings.Contains(text, "remote error"):
		return "see that the syncer trusts who issued " + cmp.Or(config.TLS.CertFile, "this VM's certificate")
	default:
		return fmt.Sprintf("see that %s holds the authority of the syncer's certificate, and that tls_servername is a name in it",
			cmp.Or(config.TLS.CAFile, "the system's store"))
	}
}

// knownReason keeps a reason that this version knows: others would make as many faults as a peer likes.
func knownReason(reason string) string {
	if slices.Contains(refusedReasons, reason) {
		return reason
	}
	return ""
}
