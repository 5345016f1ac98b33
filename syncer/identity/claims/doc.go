// Package claims reads what a ServiceAccount token says of itself: the claims of a JWT (RFC 7519) that Kubernetes issues.
//
// Reading proves nothing. What was read counts only after somebody else has verified the token: the API server, or whoever holds the
// issuer's keys.
package claims
