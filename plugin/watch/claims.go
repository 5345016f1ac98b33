package watch

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"
)

// tokenClaims are what a JWT says of itself (RFC 7519, section 4.1). Nothing of it is verified: it only tells the
// VM's operator when to renew, and the syncer decides.
type tokenClaims struct {
	subject         string
	issued, expires time.Time
}

// readClaims reads the payload of a signed JWT (RFC 7515, section 7.1). What is none has no claims. It is
// bounded by the length of a token.
func readClaims(token string) tokenClaims {
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 {
		return tokenClaims{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return tokenClaims{}
	}
	var said struct {
		Subject   string      `json:"sub"`
		Expires   json.Number `json:"exp"`
		Issued    json.Number `json:"iat"`
		NotBefore json.Number `json:"nbf"`
	}
	if err := json.Unmarshal(payload, &said); err != nil {
		return tokenClaims{}
	}
	claims := tokenClaims{subject: said.Subject, issued: numericDate(said.Issued), expires: numericDate(said.Expires)}
	if claims.issued.IsZero() {
		claims.issued = numericDate(said.NotBefore)
	}
	return claims
}

// lastDate is the end of the year 9999, in seconds: what no certificate and no metric goes beyond.
const lastDate = 253402300799

// numericDate is a NumericDate (RFC 7519, section 2), to a second. Zero: it is none.
func numericDate(number json.Number) time.Time {
	seconds, err := number.Float64()
	if err != nil || math.IsNaN(seconds) || seconds <= 0 || seconds > lastDate {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// serviceAccount is the namespace and the name in the subject of a Kubernetes token or in a SPIFFE ID of Istio's form.
// Either is empty where the subject is another, or not one that may stand in a command.
func serviceAccount(subject string) (namespace, name string) {
	if account, found := strings.CutPrefix(subject, "system:serviceaccount:"); found {
		namespace, name, _ = strings.Cut(account, ":")
	} else if id, found := strings.CutPrefix(subject, "spiffe://"); found {
		if parts := strings.Split(id, "/"); len(parts) == 5 && parts[1] == "ns" && parts[3] == "sa" {
			namespace, name = parts[2], parts[4]
		}
	}
	if !isObjectName(namespace) || !isObjectName(name) {
		return "", ""
	}
	return namespace, name
}

// isObjectName reports whether a name can be that of a Kubernetes object (RFC 1123).
func isObjectName(name string) bool {
	return name != "" && len(name) <= 253 && !strings.HasPrefix(name, "-") && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	})
}
