package claims

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Claims are those that meshvm asks for.
type Claims struct {
	Issuer, Subject, ID string
	Audience            []string
	// Expires and NotBefore bound the token's life. Zero: they are not given.
	Expires, NotBefore time.Time
	// Namespace, ServiceAccount and UID are those of the claim kubernetes.io.
	Namespace, ServiceAccount, UID string
	// Pod and Node are what the token is bound to, if anything.
	Pod, Node Bound
}

// Bound is an object that a token is bound to: the token dies with it.
type Bound struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// latest is the last second that RFC 3339 can write.
const latest = 253402300799

// Parse reads the payload of a token. Names in it are as Kubernetes spells them: json of this library tells upper case from lower, and
// takes no name twice, so that nobody else reads other claims than these.
func Parse(payload []byte) (Claims, error) {
	var raw struct {
		jwt.Claims
		Kubernetes struct {
			Namespace      string `json:"namespace"`
			ServiceAccount Bound  `json:"serviceaccount"`
			Pod            Bound  `json:"pod"`
			Node           Bound  `json:"node"`
		} `json:"kubernetes.io"`
	}
	if err := json.Unmarshal(payload, &raw); err != nil {
		// The library's error may quote the token.
		return Claims{}, errors.New("the payload is no JSON object with the claims of a token")
	}
	for name, date := range map[string]*jwt.NumericDate{"exp": raw.Expiry, "nbf": raw.NotBefore} {
		if date != nil && (*date <= 0 || *date > latest) {
			return Claims{}, fmt.Errorf("the claim %s is no time", name)
		}
	}
	c := Claims{
		Issuer: raw.Issuer, Subject: raw.Subject, ID: raw.ID, Audience: raw.Audience,
		Namespace:      raw.Kubernetes.Namespace,
		ServiceAccount: raw.Kubernetes.ServiceAccount.Name,
		UID:            raw.Kubernetes.ServiceAccount.UID,
		Pod:            raw.Kubernetes.Pod,
		Node:           raw.Kubernetes.Node,
	}
	if raw.Expiry != nil {
		c.Expires = raw.Expiry.Time()
	}
	if raw.NotBefore != nil {
		c.NotBefore = raw.NotBefore.Time()
	}
	return c, nil
}
