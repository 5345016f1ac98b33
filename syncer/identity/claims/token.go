package claims

import (
	"encoding/base64"
	"strings"

	"github.com/meshvm/meshvm/syncer/identity"
)

// MaxToken bounds a token, in bytes. Those of Kubernetes are between one and two thousand.
const MaxToken = 12 << 10

// Unverified reads the claims of a token whose signature nobody has looked at. What is no JWT in compact form (RFC 7515, section 7.1),
// or too long for one, is a *identity.Refusal.
func Unverified(token string) (Claims, error) {
	if len(token) > MaxToken {
		return Claims{}, identity.Refuse(identity.ReasonMalformed, "the token is longer than %d bytes: that is no ServiceAccount's", MaxToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Claims{}, malformed("want three parts, separated by dots")
	}
	var payload []byte
	for i, part := range parts {
		// Strict, so that of two tokens that differ one at most is good.
		decoded, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") || len(decoded) == 0 {
			return Claims{}, malformed("a part of it is no base64url, or empty")
		}
		if i == 1 {
			payload = decoded
		}
	}
	c, err := Parse(payload)
	if err != nil {
		return Claims{}, malformed(err.Error())
	}
	return c, nil
}

// malformed refuses what is no token.
func malformed(why string) error {
	return identity.Refuse(identity.ReasonMalformed, "the token is no JWT (%s): want that of a ServiceAccount, as `meshvmctl token` or `kubectl create token` prints it", why)
}
