// Package tokenreview has the API server say whose a ServiceAccount token is, by a TokenReview (authentication.k8s.io/v1).
//
// Only the API server knows that a ServiceAccount, or the Pod that a token is bound to, has been deleted: such a token is refused from the next
// review on. In between the last verdict counts, for half the recheck interval at most, so that whoever asks once in an interval is told the truth; a refusal counts
// for ten seconds. While the API server cannot be asked, the last good verdict goes on for ten minutes more, and never beyond
// the token's end. Verdicts are kept by SHA-256 of the token, never by the token.
//
// Tokens that were good once are reviewed apart from all others: strangers with made-up tokens delay those who are new, and nobody
// who watches.
package tokenreview
