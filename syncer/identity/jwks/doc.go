// Package jwks verifies ServiceAccount tokens without asking about each: by the issuer's public keys (JWKS, RFC 7517), which are those
// of the cluster, of a file, or of an OpenID Connect issuer on the web.
//
// A token is good if a key of the issuer has signed it, with an asymmetric algorithm, and its claims say that it is for the
// audience, that its time has come and is not over, and which ServiceAccount's it is.
//
// What happened after the token was issued cannot be seen in it: the ServiceAccount, or the Pod that it is bound to, may be
// gone, and the token stays good until it ends. Whoever needs to take tokens back at once has them reviewed (package tokenreview), or
// gives them a short life. To remove a key at the issuer takes back all tokens that it has signed.
//
// Keys are fetched again every five minutes, a file every five seconds, and when a token names a key that is not known, then at most
// every ten seconds. While they cannot be fetched the last good ones stay in use.
package jwks
